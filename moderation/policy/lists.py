"""The word lists of a policy: terms in the policy itself, or in a file beside it, a term a line."""

from __future__ import annotations

from collections.abc import Callable

from moderation.policy.faults import Place, shown
from moderation.policy.fields import Fields
from moderation.policy.keys import WORD_LIST
from moderation.policy.load import Entries, Node, Scalar
from moderation.policy.model import Vocabulary, WordList
from moderation.policy.places import Lines

MAX_LIST_BYTES = 16 << 20
MAX_TERMS = 200_000
MAX_TERM = 200


def word_lists(
    fields: Fields, lines: Lines, vocabulary: Vocabulary, read: Callable[[str], bytes], node: Node | None
) -> tuple[dict[str, WordList], dict[str, bytes]]:
    """The lists, and the files that they came from."""
    found: dict[str, WordList] = {}
    files: dict[str, bytes] = {}
    for key, value in fields.entries(node, "word_lists"):
        name = fields.name(key, "a word list's id")
        what = f"the word list {shown(key.raw)}"
        said = fields.closed(value, what, WORD_LIST)
        terms: list[tuple[str, Place]] = []
        refused = False
        for one in fields.items(said.get("words"), "words"):
            term = fields.line(one, "a term", MAX_TERM)
            refused = refused or not term
            if term:
                terms.append((term, one.place))
        if "file" in said:
            data = _file(fields, read, said["file"])
            refused = refused or data is None
            if data is not None:
                files[key.raw] = data
                path = said["file"]
                rows = _terms(fields, data, path.raw if isinstance(path, Scalar) else "")
                refused = refused or rows is None
                terms.extend(rows or ())
        for term, place in terms:
            if not vocabulary.normalise(term).strip():
                fields.fault("QP040", place, f"the term {shown(term)} is empty once it is normalised.")
        if isinstance(value, Entries) and not terms and "words" not in said and "file" not in said:
            fields.fault("QP015", value.place, f"{what} needs 'words' or 'file'.")
        elif isinstance(value, Entries) and not terms and not refused:
            fields.fault("QP040", value.place, f"{what} has no terms.")
        if len(terms) > MAX_TERMS:
            fields.fault("QP013", value.place, f"{what} has {len(terms)} terms, the most is {MAX_TERMS}.")
        whole = fields.word(said.get("match"), "a word for match", {"whole_word": "w", "substring": "s"})
        fold = fields.yes(said.get("ignore_case"), "ignore_case")
        if name:
            lines.lists[name] = key.place
            found[name] = WordList(name, tuple(sorted({term for term, _ in terms})), whole != "s", fold is not False)
    return found, files


def _file(fields: Fields, read: Callable[[str], bytes], node: Node) -> bytes | None:
    path = fields.line(node, "file")
    if path is None:
        return None
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or ":" in path or any(part in ("", ".", "..") for part in parts):
        fields.fault("QP019", node.place, f"the file {shown(path)} must lie below the policy's folder, as in lists/names.txt.")
        return None
    try:
        data = read(path)
    except OSError as error:
        fields.fault("QP019", node.place, f"the file {shown(path)} cannot be read: {error.strerror or 'no such file'}.")
        return None
    if len(data) > MAX_LIST_BYTES:
        fields.fault("QP013", node.place, f"the file {shown(path)} has {len(data)} bytes, the most is {MAX_LIST_BYTES}.")
        return None
    return data


def _terms(fields: Fields, data: bytes, path: str) -> list[tuple[str, Place]] | None:
    """The terms of a list file, each with its place in it; None where none of its lines could be taken."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fields.fault("QP002", Place(line, 1, path), "not UTF-8. Save the file as UTF-8.")
        return None
    found: list[tuple[str, Place]] = []
    refused = False
    for number, row in enumerate(text.split("\n"), 1):
        term = row.strip()
        if not term or term.startswith("#"):
            continue
        if len(term) > MAX_TERM or any(ord(c) < 32 for c in term):
            refused = True
            fields.fault("QP013", Place(number, 1, path), f"a term over {MAX_TERM} characters, or with control characters.")
        else:
            found.append((term, Place(number, row.index(term) + 1, path)))
    return None if refused and not found else found
