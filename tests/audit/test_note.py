"""Signed notes and checkpoints: the vector of the design, round trips, and what is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.audit.note import (
    COSIGNATURE,
    Checkpoint,
    Note,
    NoteError,
    Signer,
    Verifier,
    check_name,
    decode_base64,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    parse_signer,
    parse_verifier,
)

VECTOR = """acme.example/modlog/eu1-a
2
HXN2vmGCAvv/kFkJgyjiI4oha+lSsprE5YrgMJGuPu4=

— acme.example/modlog/eu1-a jVKWVLQBdMvQHLfpW2wWrM9om3122YTxJwzgu5JfLFqT47DLUrpfYWG8MnSFyu+F0xsHfvzmpIGBjDpTTzZ4b7Lrgwg=
— witness.example/w1 Ro2ZuwAAAABrBGMFKU1OqGES8ADyZgBUol4/+wlzaYqrKZsVkns5CA8QISnE28us7YiiNmZE3lzHgWh5+CMNR9NW7JB7l7Kvll1nAQ==
""".encode()
SIGNER = Signer("acme.example/modlog/eu1-a", bytes(range(32)))
WITNESS = Verifier("witness.example/w1", COSIGNATURE, Signer("witness.example/w1", bytes(range(1, 33))).verifier.public)
CHECKPOINT = Checkpoint("acme.example/modlog/eu1-a", 2, base64.b64decode("HXN2vmGCAvv/kFkJgyjiI4oha+lSsprE5YrgMJGuPu4="))


def test_vector_is_read() -> None:
    assert open_checkpoint(VECTOR, [SIGNER.verifier, WITNESS]) == CHECKPOINT
    assert WITNESS.verify(parse_note(VECTOR)) == 0x6B046305


def test_vector_is_made() -> None:
    ours = SIGNER.sign(CHECKPOINT.text())
    whole = Note(ours.text, (*ours.signatures, parse_note(VECTOR).signatures[1]))
    assert whole.to_bytes() == VECTOR


def test_go_example_of_the_note_package() -> None:
    """The key and note of the documentation of golang.org/x/mod/sumdb/note."""
    verifier = parse_verifier("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    note = parse_note(
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n".encode())
    assert verifier.verify(note) is None


@pytest.mark.parametrize("at", range(0, len(VECTOR), 3))
def test_no_changed_byte_passes(at: int) -> None:
    changed = VECTOR[:at] + bytes([VECTOR[at] ^ 1]) + VECTOR[at + 1 :]
    with pytest.raises(NoteError):
        open_checkpoint(changed, [SIGNER.verifier, WITNESS])


def test_key_lines_go_round() -> None:
    assert parse_verifier(SIGNER.verifier.line()) == SIGNER.verifier
    assert parse_verifier(WITNESS.line() + "\n") == WITNESS
    again = parse_signer(SIGNER.line())
    assert again.sign("x\n").to_bytes() == SIGNER.sign("x\n").to_bytes()


@pytest.mark.parametrize("line", [
    "", "a", "a+b", "a+00000000+AQ==", "a b+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(),
    SIGNER.verifier.line().replace("+", "+0", 1), SIGNER.verifier.line()[:-4], "+" + SIGNER.verifier.line().split("+", 1)[1],
    "a+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(), "a+00000000+",
])
def test_bad_verifier_lines(line: str) -> None:
    with pytest.raises(NoteError):
        parse_verifier(line)


@pytest.mark.parametrize("line", [
    "", SIGNER.verifier.line(), SIGNER.line()[:-3], SIGNER.line().replace("8d5", "8d6", 1), "PRIVATE+KEY+a+b+AQ==",
])
def test_bad_private_lines(line: str) -> None:
    with pytest.raises(NoteError):
        parse_signer(line)


@pytest.mark.parametrize("text", [
    "o\n2\n", "o\n2\nAA==\n", "o\n02\n" + "A" * 43 + "=\n", "o\n-1\n" + "A" * 43 + "=\n", "o\n²\n" + "A" * 43 + "=\n",
    "o\n2\n" + "A" * 43 + "=\nextension\n", "a b\n2\n" + "A" * 43 + "=\n", "\n2\n" + "A" * 43 + "=\n",
    "o\n2\n" + "A" * 42 + "B=\n", "o\n2\n" + "A" * 43 + "=", "o\n" + "9" * 17 + "\n" + "A" * 43 + "=\n",
])
def test_bad_checkpoints(text: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(text)


@pytest.mark.parametrize("data", [
    b"", b"x\n", b"x\n\n", b"x\n\n- a AAAAAAAA\n", "x\n\n— a\n".encode(), "x\n\n— a AA==\n".encode(),
    "x\n\n— a  AAAAAAAA\n".encode(),
    "x\n\n— a AAAAAAAA".encode(), "x\t\n\n— a AAAAAAAA\n".encode(), b"\xff\n\n", "x\n\n— a AAAAAAA\n".encode(), b"x" * 1_000_001,
])
def test_bad_notes(data: bytes) -> None:
    with pytest.raises(NoteError):
        parse_note(data)


def test_missing_and_foreign_signatures() -> None:
    note = SIGNER.sign("x\n")
    with pytest.raises(NoteError, match="no signature"):
        WITNESS.verify(note)
    with pytest.raises(NoteError, match="does not fit"):
        SIGNER.verifier.verify(Note("y\n", note.signatures))
    short = Note("x\n", (type(note.signatures[0])(WITNESS.name, WITNESS.key_id + b"short"),))
    with pytest.raises(NoteError, match="72 bytes"):
        WITNESS.verify(short)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "x" * 121, "\u2003"])
def test_bad_names(name: str) -> None:
    with pytest.raises(NoteError):
        check_name(name)


@given(st.binary(max_size=40), st.text(max_size=4))
def test_base64_has_one_form(data: bytes, junk: str) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64(text, "x") == data
    for other in (text.rstrip("="), text + "\n", text + "=", junk + text):
        if other != text:
            try:
                assert base64.b64encode(decode_base64(other, "x")).decode() == other
            except NoteError:
                continue


@given(st.binary(max_size=300))
def test_any_bytes_are_a_note_or_refused(data: bytes) -> None:
    try:
        note = parse_note(data)
    except NoteError:
        return
    assert note.to_bytes() == data


@given(st.integers(0, 2**53), st.binary(min_size=32, max_size=32))
def test_checkpoints_go_round(size: int, root: bytes) -> None:
    checkpoint = Checkpoint("moderation/host/log-0", size, root)
    signer = Signer(checkpoint.origin, bytes(32))
    assert open_checkpoint(signer.sign(checkpoint.text()).to_bytes(), [signer.verifier]) == checkpoint
