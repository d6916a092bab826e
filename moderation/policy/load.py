"""YAML 1.2 (core schema) to a located tree: every node knows its line and column. The only file that imports yaml.

Reads the events of PyYAML's C parser and refuses what hides meaning: duplicate keys, anchors, aliases, tags, merge keys, tabs,
deep nesting. Goes on after a fault where it can, so that one pass finds them all. Knows nothing of policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from moderation.policy.faults import Faults, Place, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 12

Plain = str | int | float | bool | None

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_ODD_FLOATS = {"inf": float("inf"), "nan": float("nan")}
_ODD_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LINE_END = re.compile("\r\n|\r|\n")
_SEPARATOR = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Scalar:
    value: Plain
    raw: str
    plain: bool
    """Not quoted and not a block: where a word could be mistaken for something else."""
    place: Place


@dataclass(frozen=True, slots=True)
class Items:
    """A sequence."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping; its keys are scalars, each once."""

    entries: tuple[tuple[Scalar, Node], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands where something was refused; whoever meets it is silent, for the fault is told."""

    place: Place


Node = Scalar | Items | Entries | Broken


class _Stop(Exception):
    """There is no reading on."""


def parse(source: bytes, faults: Faults, max_bytes: int = MAX_BYTES) -> Node | None:
    """The tree of a YAML document; None where it cannot be read at all, and then `faults` says why."""
    text = _decoded(source, faults, max_bytes)
    if text is None:
        return None
    builder = _Builder(text, faults)
    try:
        return builder.document()
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _within(text, mark.line, mark.column) if mark else Place(1, 1)
        problem = error.problem or error.context or "not YAML"
        if mark and text[mark.index : mark.index + 1] == "\t":
            faults.add("QP003", place, "a tab. Use spaces.")
        else:
            faults.add("QP002", place, _in_words(problem))
    except yaml.YAMLError:
        faults.add("QP002", _first_control(text), "a control character. Leave it out, or write it as an escape in double quotes.")
    builder.look_for_tabs()
    return None


def plain(node: Node) -> object:
    """The tree as plain values, for whoever needs no places. Refused parts are None."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return [plain(item) for item in node.items]
        case Entries():
            return {key.raw: plain(value) for key, value in node.entries}
        case Broken():
            return None


def words(node: Node) -> Iterator[str]:
    """Every scalar that stands as a value."""
    match node:
        case Scalar():
            yield node.raw
        case Items():
            for item in node.items:
                yield from words(item)
        case Entries():
            for _, value in node.entries:
                yield from words(value)
        case Broken():
            return


def find(node: Node, path: Sequence[str | int]) -> Place:
    """The place of (`routes`, 0, `name`), or of the nearest that is there."""
    for step in path:
        inner: Node | None = None
        if isinstance(node, Entries):
            inner = next((value for key, value in node.entries if key.raw == step), None)
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            inner = node.items[step]
        if inner is None:
            break
        node = inner
    return node.place


def find_key(node: Node, path: Sequence[str | int]) -> Place:
    """The place of the key itself; of an item of a list, the item's."""
    for step in range(len(path)):
        if isinstance(node, Entries):
            found = next(((key, value) for key, value in node.entries if key.raw == path[step]), None)
            if found is None:
                break
            if step == len(path) - 1:
                return found[0].place
            node = found[1]
        elif isinstance(node, Items) and isinstance(index := path[step], int) and index < len(node.items):
            node = node.items[index]
        else:
            break
    return node.place


def _decoded(source: bytes, faults: Faults, max_bytes: int) -> str | None:
    if len(source) > max_bytes:
        faults.add("QP013", Place(1, 1), f"the file has {len(source)} bytes, the most is {max_bytes}")
        return None
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        before = source[: error.start].decode("utf-8")
        faults.add("QP002", _place(before), "not UTF-8. Save the file as UTF-8.")
        return None
    text = text.removeprefix("\ufeff")
    odd = _SEPARATOR.search(text)
    if odd is not None:
        # Old YAML takes these for line ends, new YAML does not: two readers would count different lines.
        message = f"the character U+{ord(odd.group()):04X}. Write it as an escape in double quotes."
        faults.add("QP002", _place(text[: odd.start()]), message)
        return None
    return text


def _place(before: str) -> Place:
    lines = _LINE_END.split(before)
    return Place(len(lines), len(lines[-1]) + 1)


def _within(text: str, line: int, column: int) -> Place:
    """A mark as a place of the text. The end of a text without a last line end is marked as a line more."""
    lines = _LINE_END.split(text)
    return Place(line + 1, column + 1) if line < len(lines) else Place(len(lines), len(lines[-1]) + 1)


def _first_control(text: str) -> Place:
    found = re.search("[^\t\n\r -~\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]", text)
    return _place(text[: found.start()]) if found else Place(1, 1)


def _in_words(problem: str) -> str:
    told = {
        "mapping values are not allowed in this context": "a ':' here starts a second mapping. Put the text in quotes.",
        "could not find expected ':'": "a ':' is missing, or the indentation is wrong.",
        "did not find expected key": "a key was expected here. Look at the indentation and the quotes.",
        "did not find expected '-' indicator": "a '-' was expected here. Look at the indentation.",
        "found unexpected end of stream": "the file ends inside a quoted text. Close the quotes.",
    }
    return told.get(problem, f"not YAML: {problem}.")


class _Builder:
    """Events to nodes."""

    def __init__(self, text: str, faults: Faults) -> None:
        self._text = text
        self._faults = faults
        self._events = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._quoted: list[tuple[int, int]] = []
        """Where quoted and block texts stand: a tab is content there."""

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fault("QP002", event, "a second document. A file holds one.")
                    break
                if event.version not in (None, (1, 2)) or event.tags:
                    self._fault("QP002", event, "a %YAML or %TAG directive. Leave it out; files are read as YAML 1.2.")
                root = self._node(next(self._events), 0)
        if root is None:
            self._faults.add("QP002", Place(1, 1), "the file is empty")
        self.look_for_tabs()
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        place = _at(event)
        if isinstance(event, yaml.AliasEvent):
            self._fault("QP005", event, f"an alias (*{event.anchor}). Write the value out.")
            return Broken(place)
        assert isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent))
        if event.anchor is not None:
            self._fault("QP004", event, f"an anchor (&{event.anchor}). Leave it out.")
        if event.tag is not None:
            self._fault("QP006", event, "a tag. Leave it out.")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, place)
        if depth >= MAX_DEPTH:
            self._fault("QP014", event, f"nested deeper than {MAX_DEPTH}. Flatten it.")
            raise _Stop
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(inner, depth + 1))
            return Items(tuple(items), place)
        return self._entries(place, depth)

    def _entries(self, place: Place, depth: int) -> Node:
        entries: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                if not isinstance(key, Broken):
                    self._fault("QP011", event, "a key must be a single word or text, not a list or a mapping")
            elif key.plain and key.raw == "<<":
                self._fault("QP017", event, "a merge key (<<). Write the keys out.")
            elif key.raw in entries:
                first = entries[key.raw][0].place
                self._fault("QP007", event, f"the key {shown(key.raw)} stands in line {first.line} already. Keep one of them.")
            else:
                entries[key.raw] = (key, value)
        return Entries(tuple(entries.values()), place)

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        # PyYAML gives the style of a plain scalar as None or "".
        is_plain = not event.style
        if not is_plain and event.start_mark and event.end_mark:
            self._quoted.append((event.start_mark.index, event.end_mark.index))
        return Scalar(_resolved(event.value) if is_plain else event.value, event.value, is_plain, place)

    def _fault(self, code: str, event: yaml.Event, message: str) -> None:
        self._faults.add(code, _at(event), message)

    def look_for_tabs(self) -> None:
        """Tabs outside quoted texts and comments: YAML allows some of them, and editors show them as anything."""
        if "\t" not in self._text or any(f.code == "QP003" for f in self._faults.found):
            return
        spans = iter([*self._quoted, (len(self._text), len(self._text))])
        start, end = next(spans)
        at = self._text.find("\t")
        while at >= 0:
            while at >= end and start < len(self._text):
                start, end = next(spans)
            if not start <= at < end:
                line = self._text[self._text.rfind("\n", 0, at) + 1 : at]
                if not re.search(r"(?:^|\s)#", line):
                    self._faults.add("QP003", _place(self._text[:at]), "a tab. Use spaces.")
                    return
            at = self._text.find("\t", at + 1)


def _at(event: yaml.Event) -> Place:
    mark = event.start_mark
    assert mark is not None
    return Place(mark.line + 1, mark.column + 1)


def _resolved(raw: str) -> Plain:
    """A plain scalar by the core schema of YAML 1.2: `no`, `on` and dates are texts."""
    if raw in _NULLS:
        return None
    if raw in _BOOLS:
        return _BOOLS[raw]
    if raw[0] not in "+-.0123456789" or len(raw) > 100:
        return raw
    if _INT.fullmatch(raw):
        return int(raw, 0) if raw[:2] in ("0o", "0x") else int(raw)
    odd = _ODD_FLOAT.fullmatch(raw)
    if odd is not None:
        value = _ODD_FLOATS[(odd[1] or odd[2]).lower()]
        return -value if raw[0] == "-" else value
    return float(raw) if _FLOAT.fullmatch(raw) else raw
