"""How much of ordinary prose waits, with the policy that ships: no more than a word."""

from __future__ import annotations

from functools import cache
from statistics import median

import pytest

from moderation.act import Names
from moderation.flow.loading import FileLoader, default_policy
from moderation.flow.reading import Active
from moderation.flow.speech import OpenAISpeech
from moderation.flow.streaming import Plan
from moderation.metrics import Metrics
from moderation.stream.release import Release
from moderation.text import Scope
from moderation.wire.answers import Head
from tests.fakes import sse
from tests.kitchen import chunk

PROSE = {
    "English": ["It", "was", "the", "best", "of", "times,", "it", "was", "the", "worst", "of", "times.", "The", "train", "left", "at", "8:45", "from", "platform", "12,", "and", "by", "noon", "we", "had", "seen", "three", "lakes", "and", "a", "castle.", '"Nobody', "told", 'me,"', "she", "said;", "the", "keys", "were", "on", "the", "table.", "In", "1969", "two", "men", "walked", "on", "the", "moon,", "and", "the", "price", "of", "bread", "was", "23", "cents.", "You", "may", "ask", "why:", "because", "the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog."],
    "Chinese": list("那是最好的时代，也是最坏的时代。火车八点四十五分从十二号站台开出，中午我们已经看到三个湖和一座城堡。她说没有人告诉我，钥匙在桌子上。"),
    "Markdown and code": ["Here", "is", "a", "list:\n\n-", "**one**:", "`print(1", "+", "2)`\n-", "two:", "see", "section", "3.4\n\n```python\nfor", "index", "in", "range(10):\n", "", "", "", "total", "+=", "index", "*", "2\n```\n\nThat", "is", "all", "there", "is", "to", "it."],
}


@cache
def shipped() -> Active:
    return FileLoader(1 << 20, Metrics())(str(default_policy()), 1).active


def waits(deltas: list[str]) -> list[int]:
    """Code points that wait after each delta."""
    active = shipped()
    speech = OpenAISpeech("x", Head("x", 0, "m"), include_usage=False, asked="")
    release = Release(Plan(active, Scope(), speech, {}), Names())
    held: list[int] = []
    for delta in deltas:
        [raw] = sse(chunk({"content": delta}), done=False)
        heard = speech.read(raw)
        looks = release.feed(raw, heard.pieces, heard.finished, heard.choices)
        release.settle([active.runner.scan_now(look.detectors, look.text, look.start, look.final) for look in looks])
        held.append(release.waiting)
    return held


@pytest.mark.parametrize("name", PROSE)
def test_a_word_with_its_space_does_not_wait(name: str) -> None:
    assert median(waits([word + " " if name != "Chinese" else word for word in PROSE[name]])) == 0


@pytest.mark.parametrize("name", ["English", "Markdown and code"])
def test_a_word_that_may_go_on_waits_for_the_next_one(name: str) -> None:
    deltas = [word if not number else " " + word for number, word in enumerate(PROSE[name])]
    over = [held > len(delta) for held, delta in zip(waits(deltas), deltas, strict=True)]
    assert median(over) == 0
