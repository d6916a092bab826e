"""The sources of the corpus, one small reader each, by topic."""

from __future__ import annotations

from classifiers.train.row import Source
from classifiers.train.sources import authored, benign, chinese, harm, hate, identity, injection, replies

SOURCES: tuple[Source, ...] = tuple(
    source for topic in (hate, identity, harm, chinese, injection, replies, benign, authored) for source in topic.sources()
)
