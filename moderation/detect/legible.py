"""A window detector around another one: the inner one reads all that a passage says, as it shows, hidden or encoded.

What local detectors get from the runner and from decoding.py, models get here: look-alikes, full-width and invisible signs are
normalised, what stands in invisible tags is read by itself, and what is encoded, spelt out letter by letter or in leetspeak is
read once more in plain letters, in its place among the other words. Also tells what is in a language that the detector does not
know. Pure; knows no model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from moderation import normalise
from moderation.detect import leet
from moderation.detect.api import Passage, Windowed
from moderation.detect.decoding import LAYERS, STRETCHES
from moderation.detect.guard.pieces import pieces
from moderation.language import OWN_SCRIPT, language_of, strange
from moderation.normalise import Normalised, readings
from moderation.text import Span
from moderation.verdict import Cause, Finding, Unknown

Answer = tuple[Finding, ...] | Unknown

_OWN_LETTERS = frozenset(("ru", "uk", "el", "hy", "ka"))
"""Languages in whose words normalising puts Latin letters: they are read as they stand, too."""
_LATIN_WORD = re.compile(r"(?<![^\W_])[A-Za-z]{3,}(?![^\W_])")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]{2,}")
_FEW_WORDS, _FEW_HAN = 3, 6
"""So many words of a language that is known, in a text of another, are read by themselves."""
SURE = 500_000
"""Such words count where they score as high as this: a name or two in a text that nobody reads says nothing."""
_WORD = re.compile(r"[A-Za-z0-9@$!|]{3,}")
_LETTER = {sign: letter for letter, signs in leet.SIGNS.items() for sign in signs if letter != "l"} | {"!": "i", "|": "i"}


class Legible:
    """See detect/api.py, Windowed. An answer is Unknown where the inner one is Unknown about anything that the passage says."""

    def __init__(self, inner: Windowed, languages: Sequence[str] | None = None) -> None:
        """`languages`: those that the inner one knows; None for all."""
        self.inner = inner
        self.id, self.batch = inner.id, inner.batch
        self._languages = None if languages is None else frozenset(tag.split("-")[0] for tag in languages)
        known = "any" if self._languages is None else " ".join(sorted(self._languages))
        told = f"legible 2 {normalise.VERSION} {LAYERS} {STRETCHES.version} {known} {inner.version}"
        self.version = hashlib.sha256(told.encode()).hexdigest()

    def detect(self, passages: Sequence[Passage]) -> Sequence[Answer]:
        asked = [(number, view) for number, one in enumerate(passages) for view in self._views(one)]
        for number, view in asked:
            if passages[number].trial:
                view.passage = replace(view.passage, trial=True)
        answers: list[Answer] = []
        for at in range(0, len(asked), max(1, self.batch)):
            answers += self.inner.detect([view.passage for _, view in asked[at : at + max(1, self.batch)]])
        by_passage: list[list[tuple[_View, Answer]]] = [[] for _ in passages]
        for (number, view), answer in zip(asked, answers, strict=True):
            by_passage[number].append((view, answer))
        return [self._together(one, some) for one, some in zip(passages, by_passage, strict=True)]

    def _views(self, passage: Passage) -> list[_View]:
        if self._languages is None or passage.trial or may_know(self._languages, passage.text):
            return _readings(passage)
        rest = _words_of(self._languages, readings(passage.text)[0].text)
        return [_View(Passage(rest, passage.role), None)] if rest else []

    def _together(self, passage: Passage, answers: Sequence[tuple[_View, Answer]]) -> Answer:
        found: dict[tuple[object, ...], Finding] = {}
        for view, answer in answers:
            if isinstance(answer, Unknown):
                return answer
            for finding in answer:
                one = replace(finding, span=view.place(finding.span, passage.text)) if finding.span is not None else finding
                key = (one.category, one.entity, one.name, one.span)
                if key not in found or found[key].score < one.score:
                    found[key] = one
        told = tuple(found.values())
        if self._languages is None or passage.trial or reads_all(self._languages, passage.text):
            return told
        return tuple(one for one in told if one.score >= SURE) or Unknown(self.id, Cause.UNSUPPORTED)


class _View:
    """One way to read a passage, and where its code points came from; None where that cannot be told."""

    def __init__(self, passage: Passage, plain: Normalised | None) -> None:
        self.passage, self._plain = passage, plain

    def place(self, span: Span, text: str) -> Span:
        """A span of the view in the passage's own text; all of it where that cannot be told."""
        return Span(0, len(text)) if self._plain is None else self._plain.original(span.start, span.end)


def _readings(passage: Passage) -> list[_View]:
    """All that a passage says, each once."""
    before, role = readings(passage.before)[0].text, passage.role
    shown, *hidden = readings(passage.text)
    views = [_View(Passage(shown.text, role, before), shown)]
    if language_of(passage.text) in _OWN_LETTERS:
        views.append(_View(passage, Normalised(passage.text, None)))
    views += [_View(Passage(one.text, role), one) for one in hidden]
    for one in [shown, *hidden]:
        behind = before if one is shown else ""
        said = one.text
        for _ in range(LAYERS):
            said = _decoded(said, behind)
        more = dict.fromkeys((said, _unleeted(said)))  # what is in base64 looks like leetspeak, so that comes last
        views += [_View(Passage(text, role, behind), None) for text in more if text != one.text]
    return views


def _decoded(text: str, before: str) -> str:
    """A text with what is encoded in it in plain letters. A stretch may have begun before the text."""
    parts: list[str] = []
    done = len(before)
    whole = before + text
    for one in STRETCHES.scan(whole, 0, True)[0]:
        if one.end > done:
            parts += (whole[done : max(done, one.start)], readings(one.said)[0].text)
            done = one.end
    return "".join(parts) + whole[done:] if parts else text


def _unleeted(text: str) -> str:
    """Words in leetspeak with their letters, where there are a few such signs: one alone is a version, or a unit."""
    if not leet.may_stand(text, 0, True):
        return text
    signs = 0

    def spelt(match: re.Match[str]) -> str:
        nonlocal signs
        word = match.group()
        letters = sum(map(str.isalpha, word))
        if letters == len(word) or letters * 2 < len(word):
            return word
        signs += len(word) - letters
        return "".join([_LETTER.get(sign, sign) for sign in word])

    made = _WORD.sub(spelt, text)
    return made if signs > 1 else text


def _knows(languages: frozenset[str], tag: str) -> bool:
    """Whether a language that was guessed from the script is one of these, or may be."""
    return tag in languages or tag == "und" or (tag == "en" and bool(languages - OWN_SCRIPT))


def _words_of(languages: frozenset[str], text: str) -> str:
    """The words of these languages in a normalised text of another, where there are a few: else whoever wants to hide a sentence
    from a model only adds others in a script that it does not read."""
    words = _LATIN_WORD.findall(text) if _knows(languages, "en") else []
    han = _HAN.findall(text) if "zh" in languages else []
    parts = (words if len(words) >= _FEW_WORDS else []) + (han if sum(map(len, han)) >= _FEW_HAN else [])
    return " ".join(parts)


def may_know(languages: frozenset[str], text: str) -> bool:
    """Whether who knows these languages may know that of a text, as far as its script tells."""
    return _knows(languages, language_of(text))


def reads_all(languages: frozenset[str], text: str) -> bool:
    """Whether who knows these languages may know all of a text. Where not, that nothing was found in it says nothing."""
    return may_know(languages, text) and not strange(text, languages)


def asked_about(passage: Passage, limit: int | None) -> Iterator[Passage]:
    """What a judge is asked, one question after another: all that a passage says, in pieces of at most `limit` UTF-16 units."""
    for one in spelt_out(passage):
        before = one.before
        for text in pieces(one.text, limit):
            yield Passage(text, one.role, before)
            before = ""  # a later piece begins within the one before it


def spelt_out(passage: Passage) -> tuple[Passage, ...]:
    """For judges, who know look-alikes and accents themselves: a passage as it stands, then what is hidden or encoded in it."""
    first, *more = _readings(passage)
    return (passage, *(view.passage for view in more if view.passage.text not in (passage.text, first.passage.text)))
