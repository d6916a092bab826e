"""What can be wrong with a policy: the table of codes, and one fault with its place.

Knows nothing of YAML or of what a policy means; the other files of this package report through it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from moderation.errors import UsageError


class Grade(StrEnum):
    """How bad a fault is: an error stops the policy, a warning fails only with --strict."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a file; line and column count from 1."""

    line: int
    column: int
    file: str = ""
    """Empty for the policy file itself."""


@dataclass(frozen=True, slots=True)
class About:
    """One code: what it means and what to do."""

    grade: Grade
    meaning: str
    todo: str


_E, _W = Grade.ERROR, Grade.WARNING

CODES: dict[str, About] = {
    "QP000": About(_E, "The policy file cannot be read.", "Give the path of a file that exists and that the sidecar may read."),
    "QP001": About(_E, "A word stands where only certain other words may stand.", "Use one of the words that the message lists."),
    "QP002": About(_E, "The file is not YAML 1.2, UTF-8, one document.", "Mend the place that the message names."),
    "QP003": About(_E, "A tab between the parts of the YAML.", "Use spaces."),
    "QP004": About(_E, "An anchor (&name).", "Write the value out; a policy has no hidden copies."),
    "QP005": About(_E, "An alias (*name).", "Write the value out; a policy has no hidden copies."),
    "QP006": About(_E, "A tag (!name).", "Leave it out; the schema knows the types."),
    "QP007": About(_E, "The same key twice in one mapping.", "Keep one of them."),
    "QP008": About(_E, "A date without quotes, or one that is no date.", 'Write it in quotes: "2027-03-31".'),
    "QP009": About(_E, "An unquoted yes/no/on/off where a text or a name is expected.", 'Write it in quotes: "no".'),
    "QP010": About(_E, "An unknown key.", "Use the key that the message offers, or leave it out."),
    "QP011": About(_E, "A value of the wrong type.", "Give what the message expects."),
    "QP012": About(_E, "A name that is not allowed.", "Use at most 64 of a-z, A-Z, 0-9, '_', '-', '.'; a letter or digit first."),
    "QP013": About(_E, "A file, a list or a text is too large.", "Make it smaller; the message names the limit."),
    "QP014": About(_E, "The YAML is nested deeper than 12.", "Flatten it."),
    "QP015": About(_E, "A key that must be there is missing.", "Add it."),
    "QP016": About(_E, "A number or a duration out of its range.", "Stay in the range that the message names."),
    "QP017": About(_E, "A merge key (<<).", "Write the keys out."),
    "QP018": About(_E, "Format 1 has this, this version does not build it.", "Leave it out, or use a version that builds it."),
    "QP019": About(_E, "A file that the policy names cannot be read.", "Give a path below the policy's folder that exists."),
    "QP020": About(_E, "A name that is defined nowhere.", "Define it, or use the name that the message offers."),
    "QP021": About(_W, "Something defined and never used.", "Use it or leave it out."),
    "QP022": About(_E, "The same id twice, or an id that is reserved.", "Give each its own id."),
    "QP030": About(_E, "A level that cannot be reached, or thresholds out of order.",
                   "Mend `levels`, or name another level in the rule."),
    "QP031": About(_W, "A threshold that no score of the model reaches.", "Lower it, or leave `levels` out for the model's own."),
    "QP032": About(_E, "A model that is not there, or not the one that the policy pins.",
                   "Put it where the policy names it; where the new one is meant, write its pin."),
    "QP040": About(_E, "A pattern that cannot run, or an empty word list entry.", "Mend the pattern or the entry."),
    "QP042": About(_W, "A pattern of your own without examples.", "Give it `must` and `must_not`."),
    "QP043": About(_E, "An example of a pattern does not hold.", "Mend the pattern or the example."),
    "QP044": About(_E, "A detector that cannot be built here.",
                   "Set the environment variable that the message names, and load the policy again."),
    "QP105": About(_W, "`none` over a detector whose failure is ignored: a failure disables the guard.",
                   "Set on_failure: assume_match."),
    "QP106": About(_W, "A rule that does nothing.", "Give it an action, or leave it out."),
    "QP301": About(_E, "A rule without a test that must match, or without one that must not (monitored: a warning).",
                   "Add both under `tests`."),
    "QP302": About(_E, "A test that can never pass or says nothing.", "Mend what it expects."),
    "QP304": About(_E, "A test of the policy fails, so a sidecar does not take it.",
                   "See `moderation policy test FILE`; mend the rule or the test."),
    "QP501": About(_W, "A rule of severity high or critical hangs on a detector whose failure does not count as a match.",
                   "Set on_failure: assume_match."),
    "QP503": About(_W, "A rule over the whole answer holds streams to their end.", "Leave `over` out, if one window tells."),
    "QP504": About(_E, "An action on spans, and nothing that gives spans.", "Use block, or name a detector that gives spans."),
    "QP505": About(_W, "A detector does not support a language of the policy.", "Add a detector for it, or set on_unsupported."),
    "QP506": About(_W, "A pseudonym in an output phase is never turned back.", "Use redact."),
    "QP601": About(_E, "A message lacks the default language (another one: a warning), or has an unknown placeholder.",
                   "Add the text; mend the placeholder."),
    "QP602": About(_W, "The policy's review_by has passed.", "Review the policy, and set the next date."),
    "QP603": About(_W, "A regulation that no enforced rule cites, or a rule of severity high or critical that cites nothing.",
                   "Cite what the rule is there for."),
}
"""Every code that `policy check` can print."""

UNTESTED = frozenset({"QP301"})
"""Errors that say nothing of what the policy means."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where."""

    file: str
    line: int
    column: int
    level: Grade
    code: str
    message: str

    @property
    def grade(self) -> Grade:
        return self.level

    @property
    def place(self) -> Place:
        return Place(self.line, self.column, self.file)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.level} {self.code} {self.message}"


@dataclass(slots=True)
class Faults:
    """The faults of one policy, collected in one pass."""

    file: str
    found: list[Fault] = field(default_factory=list)

    def add(self, code: str, place: Place, message: str, grade: Grade | None = None) -> None:
        """`grade` where it is not the one that the code has in general."""
        told = Fault(self._path(place.file), place.line, place.column, grade or CODES[code].grade, code, message)
        self.found.append(told)

    def _path(self, file: str) -> str:
        """A file that the policy names lies beside it; told so that it can be opened from where the policy could be."""
        folder, slash, _ = self.file.rpartition("/")
        return folder + slash + file if file else self.file

    @property
    def broken(self) -> bool:
        """Whether the policy cannot decide. One that only lacks tests can: `policy check` fails, a sidecar takes it and warns."""
        return any(fault.level is Grade.ERROR and fault.code not in UNTESTED for fault in self.found)

    def sorted(self) -> tuple[Fault, ...]:
        """By place, the policy file first; each fault once."""
        own = self.file
        return tuple(sorted(set(self.found), key=lambda f: (f.file != own, f.file, f.line, f.column, f.code, f.message)))


class PolicyError(UsageError):
    """A policy that cannot be used, with all its faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


def shown(word: str) -> str:
    """A word of the file as a message shows it: one line, never long."""
    cut = word if len(word) <= 60 else word[:59] + "…"
    return "'" + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut) + "'"


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant, if any is near."""
    known = {w.lower(): w for w in words}
    near = difflib.get_close_matches(word.lower()[:80], known, n=1, cutoff=0.6)
    return known[near[0]] if near else None


def meant(word: str, words: Iterable[str]) -> str:
    """` Did you mean 'X'?`, or nothing where no word is near."""
    near = nearest(word, words)
    return f" Did you mean '{near}'?" if near else ""


def listed(words: Iterable[str], most: int = 12) -> str:
    every = list(words)
    return ", ".join(every[:most]) + (", …" if len(every) > most else "")
