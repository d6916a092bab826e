"""Whatever an upstream answers: what the client sees, what the log says, and that nothing unread goes out.

Every answer holds an identity number, which the policy takes out of all that it reads.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import brotli
import pytest

from moderation.flow.coding import zstd
from moderation.wire.sse import MAX_EVENT
from tests.fakes import Received, Script, sse
from tests.http.wire import Served, served
from tests.kitchen import answer, chunk

ID = "11010519491231002X"
GONE = "[removed: cn_id_card]"
TEXT = f"one {ID} two"
CLEAN = f"one {GONE} two"
JSON = json.dumps(answer(TEXT)).encode()
EVENTS = sse(chunk({"role": "assistant", "content": ""}), *(chunk({"content": part}) for part in (TEXT[:9], TEXT[9:])), chunk({}, "stop"))
STREAM = b"".join(EVENTS)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress,
}  # fmt: skip


def frames(raw: bytes) -> list[dict[str, Any]]:
    """The events of a stream as the standard has a client read them; {} for [DONE]."""
    found: list[dict[str, Any]] = []
    for one in re.sub(rb"\r\n|\r", b"\n", raw.removeprefix(b"\xef\xbb\xbf")).split(b"\n\n"):
        lines = [line.removeprefix(b"data:") for line in one.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(line.removeprefix(b" ") for line in lines)
        if data:
            found.append({} if data == b"[DONE]" else json.loads(data))
    return found


def said(raw: bytes) -> str:
    """The content of the first choice."""
    choices = [one for frame in frames(raw) for one in frame.get("choices", ()) if one["index"] == 0 and "delta" in one]
    return "".join(one["delta"].get("content") or "" for one in choices)


class Told(NamedTuple):
    """An answer as the client has it, and the log's last word."""

    status: int
    headers: dict[str, str]
    body: bytes
    outcome: object

    @property
    def error(self) -> str | None:
        """The code of the error, whole or as the last event."""
        if self.headers["content-type"].lower().startswith("text/event-stream"):
            last = frames(self.body)[-1] if frames(self.body) else {}
            return last["error"]["code"] if "error" in last else None
        value = json.loads(self.body)
        return value["error"]["code"] if "error" in value else None


class Table:
    """One sidecar for all cases, whose upstream answers as each case says."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def ask(self, script: Script, stream: bool) -> Told:
        current[0] = script
        link = http.client.HTTPConnection("127.0.0.1", self._served.kitchen.port, timeout=20)
        try:
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": stream})
            link.request("POST", "/v1/chat/completions", body)
            reply = link.getresponse()
            raw = reply.read()
            headers = {name.lower(): value for name, value in reply.getheaders()}
        finally:
            link.close()
        leaves = self._served.kitchen.leaves(headers["x-request-id"])
        return Told(reply.status, headers, raw, leaves[-1]["outcome"])


current: list[Script] = [Script()]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    def script(request: Received) -> Script:
        return current[0]

    with served(tmp_path_factory.mktemp("answers"), script, max_answer="12MiB") as it:
        yield Table(it)


def typed(body: bytes, kind: str = "application/json", coding: str | None = None, status: int = 200, **more: Any) -> Script:
    headers = [("content-type", kind), *([("content-encoding", coding)] if coding else [])]
    steps = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    return Script(steps, status, headers, **more)


def event(text: str | bytes, end: bytes = b"\n\n") -> bytes:
    return b"data: " + (text if isinstance(text, bytes) else text.encode()) + end


EVENT = "text/event-stream"
BAD = "upstream_invalid"
CUT = "upstream_interrupted"

WHOLE = [
    ("half a JSON", typed(JSON[:-9])),
    ("JSON and more", typed(JSON + JSON)),
    ("a field twice", typed(JSON[:-1] + b',"choices":[]}')),
    ("a byte order mark", typed(b"\xef\xbb\xbf" + JSON)),
    ("UTF-16", typed(JSON.decode().encode("utf-16"))),
    ("not UTF-8", typed(JSON.replace(b"one", b"\xff\xfe"))),
    ("NaN", typed(JSON[:-1] + b',"n":NaN}')),
    ("deep nesting", typed(JSON[:-1] + b',"n":' + b"[" * 200 + b"]" * 200 + b"}")),
    ("an event stream that claims to be JSON", typed(STREAM)),
    ("HTML with 200", typed(b"<html>" + TEXT.encode() + b"</html>", "text/html")),
    ("plain text with 200", typed(TEXT.encode(), "text/plain")),
    ("no type, and no JSON", Script([TEXT.encode()], headers=[])),
    ("nothing", typed(b"")),
    ("no choices", typed(json.dumps({"text": TEXT}).encode())),
    ("choices that are none", typed(json.dumps({"choices": {"0": {"message": {"content": TEXT}}}}).encode())),
    ("a message that is text", typed(json.dumps({"choices": [{"message": TEXT}]}).encode())),
    ("longer than may be", typed(json.dumps(answer(TEXT + " " * (12 << 20))).encode())),
    ("cut in the middle", typed(JSON, cut=True)),
    ("a coding that it is not", typed(JSON, coding="gzip")),
    ("a coding that nobody knows", typed(JSON, coding="compress")),
    ("one coding over another", typed(brotli.compress(gzip.compress(JSON)), coding="gzip, br")),
    *((f"{name}, cut short", typed(pack(JSON)[:-5], coding=name)) for name, pack in PACK.items()),
    *((f"{name}, and more behind it", typed(pack(JSON) + b"{}{}{}", coding=name)) for name, pack in PACK.items()),
    *((f"{name}, a bomb", typed(pack(bytes(50_000_000)), coding=name)) for name, pack in PACK.items()),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("note", "script"), WHOLE, ids=[row[0] for row in WHOLE])
def test_a_whole_answer_that_cannot_be_read(table: Table, note: str, script: Script, stream: bool) -> None:
    told = table.ask(script, stream)
    assert (told.status, told.error, told.outcome) == (502, CUT if note.startswith("cut") else BAD, "upstream_error")
    assert ID.encode() not in told.body
    assert "content-encoding" not in told.headers


READ = [
    ("JSON", typed(JSON)),
    ("JSON without a type", Script([JSON], headers=[])),
    ("JSON that claims to be HTML", typed(JSON, "text/html")),
    ("U+2028, U+2029, U+0085 as they are", typed(json.dumps(answer(TEXT + "\u2028\u2029\x85"), ensure_ascii=False).encode())),
    ("lone surrogates", typed(JSON.replace(b" two", b" two\\ud83d"))),
    *((name, typed(pack(JSON), coding=name)) for name, pack in PACK.items()),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("note", "script"), READ, ids=[row[0] for row in READ])
def test_a_whole_answer_that_is_read(table: Table, note: str, script: Script, stream: bool) -> None:
    told = table.ask(script, stream)
    assert (told.status, told.outcome) == (200, "completed")
    assert json.loads(told.body)["choices"][0]["message"]["content"].startswith(CLEAN)
    assert "content-encoding" not in told.headers
    assert told.headers["content-length"] == str(len(told.body))


ODD = [
    # note, the stream, the text as the client puts it together, the error at its end
    ("as it should be", typed(STREAM, EVENT), CLEAN, None),
    ("parameters of the type", typed(STREAM, "text/event-stream;charset=utf-8"), CLEAN, None),
    ("a type in capitals", typed(STREAM, "Text/Event-Stream"), CLEAN, None),
    ("CRLF", typed(STREAM.replace(b"\n", b"\r\n"), EVENT), CLEAN, None),
    ("CR", typed(STREAM.replace(b"\n", b"\r"), EVENT), CLEAN, None),
    ("line ends of all kinds", typed(EVENTS[0].replace(b"\n", b"\r\n") + EVENTS[1].replace(b"\n", b"\r") + b"".join(EVENTS[2:]), EVENT), CLEAN, None),
    ("a byte order mark", typed(b"\xef\xbb\xbf" + STREAM, EVENT), CLEAN, None),
    ("comments and empty events", typed(b": hi\n\n\n\n" + b": ping\n\n".join(EVENTS), EVENT), CLEAN, None),
    ("names, ids and times beside the data", typed(STREAM.replace(b"data:", b"event: m\nid: 1\nretry: 5\ndata:"), EVENT), CLEAN, None),
    ("data over many lines", typed(STREAM.replace(b', "', b',\ndata: "'), EVENT), CLEAN, None),
    ("no space behind data:", typed(STREAM.replace(b"data: ", b"data:").replace(b"data:{", b"data: {", 1), EVENT), CLEAN, None),
    ("an empty data", typed(b"data:\n\n" + STREAM, EVENT), CLEAN, None),
    ("[DONE] twice", typed(STREAM + EVENTS[-1], EVENT), CLEAN, None),
    ("more behind [DONE]", typed(STREAM + event(json.dumps(chunk({"content": ID}))), EVENT), CLEAN, None),
    ("no [DONE]", typed(b"".join(EVENTS[:-1]), EVENT), CLEAN, CUT),
    ("[DONE] without a blank line", typed(STREAM[:-1], EVENT), CLEAN, None),
    ("cut in the middle", typed(STREAM[:-30], EVENT, cut=True), None, CUT),
    ("nothing", typed(b"", EVENT), "", CUT),
    ("a line without an end", typed(b"data: " + b"x" * (MAX_EVENT + 70_000) + ID.encode(), EVENT), "", BAD),
    ("blank lines without an end", typed(b"\n" * 20_000 + STREAM, EVENT), CLEAN, None),
    ("a whole answer that claims to be a stream", typed(JSON, EVENT), "", BAD),
    ("a whole answer as an event", typed(event(JSON) + EVENTS[-1], EVENT), None, None),
    ("HTML that claims to be a stream", typed(b"<html>" + TEXT.encode(), EVENT), "", BAD),
    ("broken JSON", typed(EVENTS[0] + event(b'{"choices":[{"delta":{"content":"' + TEXT.encode()), EVENT), "", BAD),
    ("a field twice", typed(EVENTS[0] + event(b'{"choices":[],"choices":[{"delta":{"content":"%b"}}]}' % TEXT.encode()), EVENT), "", BAD),
    ("not UTF-8", typed(EVENTS[0] + event(EVENTS[1][6:-2].replace(b"one", b"\xff")), EVENT), "", BAD),
    ("DATA:", typed(EVENTS[0] + b"DATA" + EVENTS[1][4:] + b"".join(EVENTS[2:]), EVENT), "", BAD),
    ("a space before data:", typed(EVENTS[0] + b" " + EVENTS[1] + b"".join(EVENTS[2:]), EVENT), "", BAD),
    ("an error as an event", typed(b"".join(EVENTS[:3]) + event('{"error":{"message":"no","code":"no_luck"}}'), EVENT), CLEAN, "no_luck"),
    ("an error behind the name of an event", typed(b"event: error\n" + event('{"error":{"message":"no","code":"no_luck"}}'), EVENT), "", "no_luck"),
    ("text beside an error", typed(event(json.dumps(chunk({"content": TEXT}, error={"message": "no", "code": "x"}))), EVENT), "", BAD),
    ("U+2028, U+2029, U+0085 as they are", typed(b"".join(sse(chunk({"content": TEXT + "\u2028\u2029\x85"}), chunk({}, "stop"))), EVENT), CLEAN + "\u2028\u2029\x85", None),
    ("the same by their numbers", typed(event(json.dumps(chunk({"content": TEXT + "\u2028\u2029\x85"}))) + b"".join(EVENTS[-2:]), EVENT), CLEAN + "\u2028\u2029\x85", None),
    ("a number over two choices is none", typed(b"".join(sse(chunk({"content": ID[:9]}), chunk({"content": ID[9:]}, index=1), chunk({}, "stop"), chunk({}, "stop", 1))), EVENT), ID[:9], None),
    ("choices that take turns", typed(b"".join(sse(chunk({"content": TEXT[:9]}), chunk({"content": TEXT[:9]}, index=1), chunk({"content": TEXT[9:]}), chunk({"content": TEXT[9:]}, index=1), chunk({}, "stop"), chunk({}, "stop", 1))), EVENT), CLEAN, None),
    ("text behind a choice's end", typed(b"".join(sse(chunk({"content": "a "}), chunk({}, "stop"), chunk({"content": TEXT}))), EVENT), "a ", BAD),
    ("a coding that it is not", typed(STREAM, EVENT, "gzip"), "", BAD),
    *((name, typed(pack(STREAM), EVENT, name), CLEAN, None) for name, pack in PACK.items()),
    *((f"{name}, a bomb", typed(pack(b"data: " + bytes(50_000_000)), EVENT, name), "", BAD) for name, pack in PACK.items()),
]


@pytest.mark.parametrize(("note", "script", "text", "error"), ODD, ids=[row[0] for row in ODD])
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream(table: Table, note: str, script: Script, text: str | None, error: str | None, stream: bool) -> None:
    told = table.ask(script, stream)
    assert told.status == 200
    assert told.error == error
    if text is not None:
        assert said(told.body) == text
    assert told.outcome == ("upstream_error" if error else "completed")
    assert ID.encode() not in told.body
    assert "content-encoding" not in told.headers
    if error:
        assert not any(one.get("finish_reason") for frame in frames(told.body) for one in frame.get("choices", ()))


def test_10_mb_in_one_event(table: Table) -> None:
    """More than may be held. Whether the detectors' time or that bound is over first is the machine's; neither lets it out."""
    long = event(json.dumps(chunk({"content": "x" * (10 << 20) + " " + TEXT})))
    told = table.ask(typed(long + b"".join(EVENTS[-2:]), EVENT), True)
    assert told.outcome in ("upstream_error", "blocked")
    assert len(told.body) < 4096
    assert ID.encode() not in told.body


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("note", ["as it should be", "CRLF", "CR", "line ends of all kinds", "data over many lines", "DATA:", *PACK])
def test_the_same_however_it_is_cut(table: Table, note: str, size: int) -> None:
    script = next(row[1] for row in ODD if row[0] == note)
    whole = b"".join(step for step in script.steps if isinstance(step, bytes))
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    cut, plain = (table.ask(one, True) for one in (Script(pieces, headers=script.headers), script))
    assert said(cut.body) == said(plain.body)
    assert (cut.error, cut.outcome) == (plain.error, plain.outcome)
