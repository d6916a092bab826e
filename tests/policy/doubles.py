"""A vocabulary of a few words, and policies made from a line or two: what the tests of this folder stand on."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

from moderation.policy.compile import Compiled, compile_policy
from moderation.policy.model import Described, EngineWords, Policy, Vocabulary
from moderation.verdict import Level


def _check(regex: str, reach: int | None) -> str | None:
    try:
        re.compile(regex)
    except re.error as error:
        return f"{error.msg}."
    return "it has no end. Give it a `reach`." if re.search(r"[*+]", regex) and reach is None else None


PIN = "sha256:" + "5" * 64
LABELS = {"violence": "violence", "self_harm": "self_harm", "injection": "injection"}


def _describe(model: str) -> Described | str:
    if model != "small":
        return f"none is called {model!r}."
    return Described(PIN, LABELS, ("en", "zh"), {Level.MEDIUM: 500_000, Level.HIGH: 850_000, Level.CRITICAL: 970_000}, 990_000)


def _runs(pinned: bool) -> EngineWords:
    return EngineWords(frozenset({"model"}), frozenset({"labels", "pin"}), {}, frozenset(), _describe, pinned)


VOCABULARY = Vocabulary(
    patterns={"email": "e-mail addresses", "cn_id_card": "Chinese identity cards", "payment_card": "payment cards"},
    pattern_entities={
        "email": frozenset({"EMAIL_ADDRESS"}),
        "cn_id_card": frozenset({"CN_ID_CARD"}),
        "payment_card": frozenset({"CREDIT_CARD", "CN_BANK_CARD"}),
    },
    entities={"EMAIL_ADDRESS": "any", "CN_ID_CARD": "cn", "CN_MOBILE": "cn", "US_SSN": "us"},
    secrets=frozenset({"SECRET_AWS_ACCESS_KEY", "SECRET_JWT"}),
    check_regex=_check,
    test_pattern=lambda regex, text: re.search(regex, text) is not None,
    normalise=lambda text: text.replace("\u200b", ""),
    engines={("model", "builtin"): _runs(False), ("model", "onnx"): _runs(True)},
)


class Files:
    """Files by name, as the loader reads them."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def __call__(self, name: str) -> bytes:
        if name not in self._files:
            raise FileNotFoundError(2, "No such file or directory", name)
        return self._files[name]


def compiled(text: str, files: Mapping[str, bytes] | None = None) -> Compiled:
    return compile_policy(textwrap.dedent(text).lstrip("\n").encode(), "p.yaml", VOCABULARY, Files(dict(files or {})))


HEAD = """
format: 1
policy: {id: p, languages: [en]}
detectors:
  cards: {kind: pii, entities: [EMAIL_ADDRESS, CN_ID_CARD]}
  keys: {kind: secrets, on_failure: flag}
  terms: {kind: words, categories: [weapons], lists: [arms], on_failure: ignore, levels: {low: 0.2, medium: 0.5, high: 0.8}}
  more: {kind: patterns, categories: [personal_data], patterns: [email], languages: [en], on_unsupported: assume_match}
word_lists:
  arms: {words: [bomb]}
messages:
  no_arms: {en: "Not here ({decision_id}).", zh: "不行。"}
  no_cards: {en: "No cards."}
"""
"""Four detectors: cards (assume_match), keys (flag), terms (ignore), more (assume_match, also where unsupported)."""


def policy(*, head: str = HEAD, extra: str = "", **rules: str) -> Policy:
    """A policy of rules by id, each in flow style without its braces; asked in every phase unless it says otherwise."""
    lines: list[str] = []
    for name, rule in rules.items():
        phases = "" if "phases:" in rule else ", phases: [input, tool_result, output, tool_call]"
        tests = ", ".join(
            f"{{name: {what}, phase: input, given: {{}}, expect: {{action: allow, rules: [{fires}]}}}}"
            for what, fires in (("must", name), ("must not", ""))
        )
        lines.append(f"  - {{id: {name}, {rule}{phases}, tests: [{tests}]}}")
    source = f"{head}{extra}rules:\n" + "\n".join(lines) + "\n"
    return compile_policy(source.encode(), "p.yaml", VOCABULARY, Files({})).usable()
