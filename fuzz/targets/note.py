"""audit/note.py: signed notes, checkpoints and key lines, beside the verifier's own reader of the same."""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.target import Target, law
from moderation.audit.note import (
    Checkpoint,
    NoteError,
    Signer,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    parse_signer,
    parse_verifier,
)
from moderation.audit.verify_files import is_signed, read_checkpoint, read_key

SIGNER = Signer("moderation/h/log-0", bytes(range(32)))
NOTE = SIGNER.sign(Checkpoint(SIGNER.verifier.name, 12, bytes(32)).text()).to_bytes()

TEXT = NOTE.partition(b"\n\n")[0] + b"\n"


def _run(data: bytes) -> str:
    return f"{_note(data)} / {_key(data)}"


def _note(data: bytes) -> str:
    signed = read_checkpoint(data)
    key = read_key(SIGNER.verifier.line().encode())
    assert key is not None
    # Signature lines behind the one that counts may be broken to the one reader and nothing to the other.
    law(signed is None or not is_signed(signed[0], signed[1], key) or signed[0].encode() == TEXT,
        "another text with a good signature")
    try:
        note = parse_note(data)
        law(note.to_bytes() == data, "a note, written again, has other bytes")
        checkpoint = parse_checkpoint(note.text)
    except NoteError as error:
        return str(error)
    law(checkpoint.text() == note.text, "a checkpoint, written again, is another text")
    try:
        open_checkpoint(data, [SIGNER.verifier])
        ours = True
    except NoteError:
        ours = False
    law(not ours or note.text.encode() == TEXT, "another text with a good signature")
    law(not ours or (signed is not None and is_signed(signed[0], signed[1], key)), "the verifier refuses what is well signed")
    return f"checkpoint {ours} {len(note.signatures)}"


def _key(data: bytes) -> str:
    try:
        line = data.decode()
    except UnicodeDecodeError:
        read_key(data)
        return "no text"
    told = ""
    try:
        signer = parse_signer(line)
        law(signer.line() == line.removesuffix("\n"), "a private key, written again, is another line")
    except NoteError as error:
        told = str(error)
    try:
        verifier = parse_verifier(line)
        law(verifier.line() == line.removesuffix("\n"), "a key, written again, is another line")
    except NoteError as error:
        return f"{told} {error}"
    law(read_key(data) is not None or verifier.kind != 1, "the verifier refuses a good key line")
    return "a key"


def _seeds() -> Sequence[bytes]:
    cosigned = NOTE + b"\xe2\x80\x94 witness " + b"A" * 104 + b"\n"
    return [NOTE, cosigned, SIGNER.line().encode(), SIGNER.verifier.line().encode() + b"\n", b"a\n\n\xe2\x80\x94 a AAAAAAA=\n"]


TARGET = Target(
    "note", "Refused, or the same bytes when written again; nothing but what was signed has a good signature; two readers agree.",
    _seeds, lambda: _run, ("\u2014 ".encode(), b"\n\n", b"+", b"=", b"AAAA", b"moderation/h/log-0", b"12\n", b"PRIVATE+KEY+",
                           b"\x00\n", b"00"),
    longest=3000,
)
