"""Reading a located tree with a closed schema: each method takes a node and says what was expected where it is another.

A node that was refused once (Broken, or None for a missing key) is passed over in silence: one mistake, one fault. Knows the
types of values, not what they are for.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from moderation.policy.faults import Faults, Place, listed, meant, nearest, shown
from moderation.policy.keys import DATE, DAY, DURATION, LANGUAGE, NAME, YES_NO
from moderation.policy.load import Broken, Entries, Items, Node, Scalar

T = TypeVar("T")

MAX_TEXT = 20_000
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def _is_day(text: str) -> bool:
    found = DAY.fullmatch(text)
    if found is None:
        return False
    year, month, day = map(int, found.groups())
    return year > 0 and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]


class Fields:
    """A reader that collects faults."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def fault(self, code: str, place: Place, message: str) -> None:
        self._faults.add(code, place, message)

    def entries(self, node: Node | None, what: str) -> tuple[tuple[Scalar, Node], ...]:
        """The entries of a mapping whose keys are free."""
        if isinstance(node, Entries):
            return node.entries
        self._wrong(node, what, "a mapping")
        return ()

    def closed(
        self, node: Node | None, what: str, known: Collection[str], later: Collection[str] = (), need: Collection[str] = (),
        *, guess: bool = False,
    ) -> dict[str, Node]:  # fmt: skip
        """The values of a mapping whose keys are given. `later`: keys that another version builds; `need`: those that must be.

        With `guess` a misspelt key is told and then read as the one that was meant, so that nothing seems to be missing.
        """
        values: dict[str, Node] = {}
        misspelt: dict[str, Node] = {}
        for key, value in self.entries(node, what):
            if key.raw in known:
                values[key.raw] = value
            elif key.raw in later:
                self.fault("QP018", key.place, f"format 1 has {shown(key.raw)} in {what}, this version does not. Leave it out.")
            else:
                hint = meant(key.raw, known) or f" Known: {listed(known, 20)}."
                self.fault("QP010", key.place, f"{shown(key.raw)} is not a key of {what}.{hint}")
                misspelt.setdefault(nearest(key.raw, known) or "", value)
        if isinstance(node, Entries):
            said = {key.raw for key, _ in node.entries} | misspelt.keys()
            for key_name in need:
                if key_name not in said:
                    self.fault("QP015", node.place, f"{what} lacks '{key_name}'.")
        misspelt.pop("", None)
        return misspelt | values if guess else values

    def items(self, node: Node | None, what: str) -> tuple[Node, ...]:
        if isinstance(node, Items):
            return node.items
        self._wrong(node, what, "a list")
        return ()

    def text(self, node: Node | None, what: str, most: int = MAX_TEXT) -> str | None:
        """Some text that is not empty."""
        if not isinstance(node, Scalar):
            self._wrong(node, what, "a text")
            return None
        if not isinstance(node.value, str):
            self._wrong(node, what, "a text in quotes" if node.raw else "a text")
            return None
        if node.plain and node.raw in YES_NO:
            self.fault("QP009", node.place, f"{shown(node.raw)} means yes or no to other readers of YAML. Write \"{node.raw}\".")
            return None
        if node.plain and DATE.fullmatch(node.raw):
            self.fault("QP008", node.place, f"a date without quotes. Write \"{node.raw}\".")
            return None
        if not node.value.strip():
            self._wrong(node, what, "a text that is not empty")
            return None
        if len(node.value) > most:
            self.fault("QP013", node.place, f"{what} has {len(node.value)} characters, the most is {most}.")
            return None
        return node.value

    def line(self, node: Node | None, what: str, most: int = 300) -> str | None:
        """A text of one line."""
        text = self.text(node, what, most)
        if text is not None and _CONTROL.search(text):
            assert isinstance(node, Scalar)
            self.fault("QP012", node.place, f"{what} must be one line without control characters.")
            return None
        return text

    def name(self, node: Node | None, what: str, form: re.Pattern[str] = NAME) -> str | None:
        text = self.line(node, what)
        if text is None or form.fullmatch(text):
            return text
        assert isinstance(node, Scalar)
        allowed = (
            "a language tag such as en or zh" if form is LANGUAGE
            else "at most 64 of a-z, A-Z, 0-9, '_', '-', '.', a letter or digit first"
        )  # fmt: skip
        self.fault("QP012", node.place, f"{shown(text)} cannot be {what}; allowed: {allowed}.")
        return None

    def date(self, node: Node | None, what: str) -> str | None:
        """A day of the calendar, as YYYY-MM-DD."""
        text = self.line(node, what)
        if text is None or _is_day(text):
            return text
        assert isinstance(node, Scalar)
        self.fault("QP008", node.place, f"{what} is {shown(text)}, which is no date. Write year, month and day: \"2027-03-31\".")
        return None

    def word(self, node: Node | None, what: str, words: Mapping[str, T], later: Collection[str] = ()) -> T | None:
        """One of a few words; `off` needs no quotes here."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            self._wrong(node, what, f"one of {listed(words)}")
            return None
        if node.value in words:
            return words[node.value]
        allowed = f"Allowed: {listed(words)}."
        if node.value in later:
            self.fault("QP018", node.place, f"format 1 has {shown(node.value)} as {what}, this version does not. {allowed}")
        else:
            self.fault("QP001", node.place, f"{shown(node.value)} is not {what}.{meant(node.value, words)} {allowed}")
        return None

    def yes(self, node: Node | None, what: str) -> bool | None:
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        self._wrong(node, what, "true or false")
        return None

    def whole(self, node: Node | None, what: str, least: int, most: int) -> int | None:
        if not isinstance(node, Scalar) or isinstance(node.value, bool) or not isinstance(node.value, int):
            self._wrong(node, what, "a whole number")
            return None
        if not least <= node.value <= most:
            self.fault("QP016", node.place, f"{what} is {shown(node.raw)}; expected {least} to {most}.")
            return None
        return node.value

    def millionths(self, node: Node | None, what: str) -> int | None:
        """A number from 0 to 1, kept without rounding errors."""
        if not isinstance(node, Scalar) or isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self._wrong(node, what, "a number from 0 to 1")
            return None
        try:
            score = Decimal(node.raw if isinstance(node.value, float) else node.value)
        except InvalidOperation:
            score = Decimal(-1)
        if not score.is_finite() or not 0 <= score <= 1:
            self.fault("QP030", node.place, f"{what} is {shown(node.raw)}; expected a number from 0 to 1.")
            return None
        return int((score * 1_000_000).to_integral_value())

    def duration(self, node: Node | None, what: str, most_ms: int) -> int | None:
        """`300ms`, `2s`, `1m`, in milliseconds."""
        found = DURATION.fullmatch(node.raw) if isinstance(node, Scalar) else None
        if found is None:
            self._wrong(node, what, "a duration such as 300ms or 2s")
            return None
        assert isinstance(node, Scalar)
        ms = int(found[1]) * _MILLISECONDS[found[2]]
        if not 1 <= ms <= most_ms:
            self.fault("QP016", node.place, f"{what} is {shown(node.raw)}; expected 1ms to {most_ms // 1000}s.")
            return None
        return ms

    def many(self, node: Node | None, what: str) -> tuple[Node, ...]:
        """A list, or one value that stands for a list of one; never empty."""
        nodes = node.items if isinstance(node, Items) else (node,) if isinstance(node, Scalar) else self.items(node, what)
        if isinstance(node, Items) and not nodes:
            self._wrong(node, what, "a list that is not empty")
        return nodes

    def _wrong(self, node: Node | None, what: str, expected: str) -> None:
        if node is None or isinstance(node, Broken):
            return
        match node:
            case Scalar(value=None):
                got = "nothing"
            case Scalar():
                got = shown(node.raw)
            case Items(items=()):
                got = "an empty list"
            case Items():
                got = "a list"
            case Entries():
                got = "a mapping"
        self.fault("QP011", node.place, f"{what} must be {expected}, not {got}.")
