"""A policy's source to a compiled Policy, or to all its faults in one pass.

Reads the frame: who it is, defaults, messages, regulations, streams. Detectors and word lists are in detectors.py, rules in
rules.py, what is merely unwise in lint.py. Pure: word list files come through `read`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from moderation.policy.archive import POLICY_FILE, list_file, with_hash
from moderation.policy.detectors import MAX_TIMEOUT_MS, Defaults, detectors
from moderation.policy.faults import Fault, Faults, Place, PolicyError, shown
from moderation.policy.fields import Fields
from moderation.policy.keys import (
    DEFAULTS,
    DEFAULTS_LATER,
    KEEP,
    LANGUAGE,
    POLICY,
    POLICY_LATER,
    REGULATION,
    STREAM,
    TOP,
    TOP_LATER,
)
from moderation.policy.lint import lint
from moderation.policy.lists import word_lists
from moderation.policy.load import Entries, Node, parse, words
from moderation.policy.model import Hold, Keep, Policy, Regulation, Vocabulary
from moderation.policy.places import Lines
from moderation.policy.rules import Known, rules
from moderation.verdict import Action, Mode, OnFailure, PolicyRef

MEDIA = {"pass": Action.ALLOW, "flag": Action.FLAG, "block": Action.BLOCK}


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came of a source: the policy where it can be used, and every fault."""

    policy: Policy | None
    faults: tuple[Fault, ...]
    review: Place | None = None
    """Where `review_by` stands: whether the day has passed is for those to tell who have a clock."""

    def usable(self) -> Policy:
        """The policy, or PolicyError with all faults."""
        if self.policy is None:
            raise PolicyError(self.faults)
        return self.policy


@dataclass(slots=True)
class _Frame:
    """The parts that are not detectors, lists or rules."""

    id: str = ""
    title: str = ""
    owner: str | None = None
    review_by: str | None = None
    review: Place | None = None
    default_language: str = "en"
    languages: tuple[str, ...] = ("en",)
    mode: Mode = Mode.ENFORCE
    hold: Hold = Hold.SENTENCE
    hold_routes: dict[str, Hold] = field(default_factory=dict)
    unscanned_media: Action = Action.FLAG
    keep: Keep = field(default_factory=Keep)


def compile_policy(source: bytes, file: str, vocabulary: Vocabulary, read: Callable[[str], bytes]) -> Compiled:
    """Compile the policy that stands in `file`. `read` gives the bytes of a file that it names, or raises OSError."""
    faults = Faults(file)
    root = parse(source, faults)
    if root is None:
        return Compiled(None, faults.sorted())
    fields = Fields(faults)
    top = fields.closed(root, "a policy", TOP, TOP_LATER, need=("format", "policy", "rules"), guess=True)
    lines = Lines(words=frozenset(words(root)))
    frame = _Frame()
    fields.whole(top.get("format"), "format", 1, 1)
    _who(fields, frame, top.get("policy"))
    defaults = _defaults(fields, frame, top.get("defaults"))
    regulations = _regulations(fields, lines, top.get("regulations"))
    messages = _messages(fields, lines, top.get("messages"))
    lists, files = word_lists(fields, lines, vocabulary, read, top.get("word_lists"))
    specs = detectors(fields, vocabulary, defaults, top.get("detectors"), lists)
    known = Known(specs, messages, regulations, frame.mode)
    ruled = rules(fields, lines, known, top.get("rules"))
    policy = Policy(
        PolicyRef(frame.id, ""), frame.title, frame.owner, frame.review_by, frame.default_language, frame.languages,
        regulations, {name: spec.spec for name, spec in specs.items() if spec.built}, lists, messages,
        tuple(sorted(ruled, key=lambda rule: rule.id)), frame.hold, frame.hold_routes, frame.unscanned_media, frame.keep,
        {POLICY_FILE: source} | {list_file(name): data for name, data in files.items()},
    )  # fmt: skip
    lint(policy, specs, faults, lines)
    if faults.broken:
        return Compiled(None, faults.sorted())
    return Compiled(with_hash(policy), faults.sorted(), frame.review)


def _who(fields: Fields, frame: _Frame, node: Node | None) -> None:
    who = fields.closed(node, "policy", POLICY, POLICY_LATER, need=("id",))
    frame.id = fields.name(who.get("id"), "a policy's id") or ""
    frame.title = fields.line(who.get("title"), "policy.title") or ""
    frame.owner = fields.line(who.get("owner"), "policy.owner")
    frame.review_by = fields.date(who.get("review_by"), "policy.review_by")
    frame.review = who["review_by"].place if frame.review_by else None
    frame.default_language = fields.name(who.get("default_language"), "a language", LANGUAGE) or "en"
    names = [fields.name(one, "a language", LANGUAGE) for one in fields.many(who.get("languages"), "policy.languages")]
    frame.languages = tuple(dict.fromkeys(name for name in names if name)) or (frame.default_language,)
    if frame.default_language not in frame.languages and all(names):
        at = who.get("languages") or who["default_language"]
        fields.fault("QP020", at.place, f"the default language {shown(frame.default_language)} is not among policy.languages.")


def _defaults(fields: Fields, frame: _Frame, node: Node | None) -> Defaults:
    said = fields.closed(node, "defaults", DEFAULTS, DEFAULTS_LATER)
    frame.mode = fields.word(said.get("mode"), "a mode", {m.value: m for m in Mode}) or Mode.ENFORCE
    media = fields.word(said.get("unscanned_media"), "a word for unscanned_media", MEDIA)
    frame.unscanned_media = frame.unscanned_media if media is None else media
    _stream(fields, frame, said.get("stream"))
    _keep(fields, frame, said.get("keep"))
    failures = {o.name.lower(): o for o in OnFailure}
    on_failure = fields.word(said.get("on_failure"), "a word for on_failure", failures)
    on_unsupported = fields.word(said.get("on_unsupported"), "a word for on_unsupported", failures)
    timeout = fields.duration(said.get("timeout"), "defaults.timeout", MAX_TIMEOUT_MS)
    return Defaults(
        OnFailure.ASSUME_MATCH if on_failure is None else on_failure,
        OnFailure.IGNORE if on_unsupported is None else on_unsupported,
        timeout or 300,
    )


def _stream(fields: Fields, frame: _Frame, node: Node | None) -> None:
    said = fields.closed(node, "defaults.stream", STREAM)
    holds = {h.value: h for h in Hold}
    frame.hold = fields.word(said.get("hold"), "a hold", holds) or Hold.SENTENCE
    for route, value in fields.entries(said.get("routes"), "defaults.stream.routes"):
        name = fields.name(route, "a route's name")
        hold = fields.word(value, "a hold", holds)
        if name and hold:
            frame.hold_routes[name] = hold


def _keep(fields: Fields, frame: _Frame, node: Node | None) -> None:
    said = fields.closed(node, "defaults.keep", KEEP)
    fields.word(said.get("content"), "a word for keep.content", {"none": "none"}, ("excerpt", "sealed"))
    fields.word(said.get("excerpts"), "a word for keep.excerpts", {"none": "none"}, ("redacted",))
    days = fields.whole(said.get("days"), "keep.days", 184, 36_500)
    frame.keep = Keep(days=days or Keep().days)


def _regulations(fields: Fields, lines: Lines, node: Node | None) -> dict[str, Regulation]:
    found: dict[str, Regulation] = {}
    for key, value in fields.entries(node, "regulations"):
        name = fields.name(key, "a regulation's id")
        said = fields.closed(value, f"the regulation {shown(key.raw)}", REGULATION, need=("title",))
        title = fields.line(said.get("title"), "its title")
        url = fields.line(said.get("url"), "its url")
        if name:
            lines.regulations[name] = key.place
            found[name] = Regulation(title or "", url)
    return found


def _messages(fields: Fields, lines: Lines, node: Node | None) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for key, value in fields.entries(node, "messages"):
        name = fields.name(key, "a message's id")
        texts: dict[str, str] = {}
        for language, text in fields.entries(value, f"the message {shown(key.raw)}"):
            tag = fields.name(language, "a language", LANGUAGE)
            said = fields.text(text, "a message", 2_000)
            if tag and said:
                texts[tag] = said
                lines.texts[(key.raw, tag)] = text.place
        if name and isinstance(value, Entries) and len(texts) == len(value.entries):
            lines.whole_messages.add(name)
        if name:
            lines.messages[name] = key.place
            found[name] = texts
    return found
