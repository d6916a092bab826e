"""The table of targets, one file each."""

from __future__ import annotations

from fuzz.target import Target
from fuzz.targets import (
    answer,
    coding,
    config,
    edits,
    json_body,
    log,
    normalise,
    note,
    policy,
    query,
    regex,
    release,
    replies,
    request,
    sentence,
    sse,
)

TARGETS: tuple[Target, ...] = (
    json_body.TARGET, edits.TARGET, request.TARGET, answer.TARGET, sse.TARGET, coding.TARGET, release.TARGET, normalise.TARGET,
    sentence.TARGET, regex.TARGET, policy.TARGET, config.TARGET, log.TARGET, note.TARGET, query.TARGET,
    replies.TARGET,
)
