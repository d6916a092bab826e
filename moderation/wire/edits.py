"""Other texts for the segments of a request or an answer, put into its bytes. All bytes beside them stay as they were."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from moderation.wire.arguments import Uneditable, edit_arguments
from moderation.wire.body import edit, locate, parse, quote
from moderation.wire.leaves import editable

_ARGUMENTS = re.compile(
    r"(/(?:messages|choices)/\d+(?:/message)?/(?:tool_calls/\d+|function_call)(?:/function|/custom)?/arguments)([#~/].*)?",
    re.DOTALL,
)
"""The arguments of a call, and a path inside them."""
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Removal:
    """Takes a text away for its label; of a tool call, all arguments, which become `{"removed": LABEL}`."""

    label: str

    def arguments(self) -> str:
        return f'{{"removed": {quote(self.label)}}}'


def edit_segments(
    raw: bytes, replacements: Mapping[str, str | Removal], sources: Mapping[str, str] = _NONE
) -> bytes:
    """The body with other texts at these segments' paths, and other JSON source at the pointers of `sources`.

    Bare numbers and words become strings. A removal anywhere in a call's arguments takes all of them. Raises Uneditable where
    a text cannot be replaced (leaves.editable tells): a key, or what was read from broken JSON.
    """
    edits = dict(sources)
    inner: dict[str, dict[str, str]] = {}
    removed: dict[str, Removal] = {}
    for path, new in replacements.items():
        call = _ARGUMENTS.fullmatch(path)
        if isinstance(new, Removal):
            if call:
                removed.setdefault(call[1], new)
                continue
            new = new.label
        if call and (call[2] or "").startswith(("#", "~")):
            inner.setdefault(call[1], {})[call[2]] = new
        elif editable(path):
            edits[path] = quote(new)
        else:
            raise Uneditable("an object's key cannot be replaced: block")
    for path, texts in inner.items():
        if path not in removed and not all(map(editable, texts)):
            raise Uneditable("a key, or a text in broken JSON, cannot be replaced: block, or remove the whole call")
    places = locate(raw, [*inner, *removed])
    for path, removal in removed.items():
        if path in places:  # a call without arguments has nothing to remove
            source = removal.arguments()
            edits[path] = source if raw[places[path][0]] in b"{[" else quote(source)
    for path, texts in inner.items():
        if path not in removed:
            start, end = places[path]
            edits[path] = quote(edit_arguments(parse(raw[start:end]), texts))
    return edit(raw, edits)
