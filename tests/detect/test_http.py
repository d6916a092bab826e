"""A judge over real sockets: what is asked and told, and every way in which it can fail, each with its cause."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest

from moderation.detect.api import Passage
from moderation.detect.guard.acs3 import Credentials
from moderation.detect.guard.aliyun import Aliyun
from moderation.detect.guard.exchange import HIGH, MEDIUM, Engine
from moderation.detect.guard.llm_judge import LlmJudge
from moderation.detect.guard.openai_moderation import OpenAiModeration
from moderation.detect.guard.pace import Pace
from moderation.detect.guard.qwen3guard import Qwen3Guard
from moderation.detect.http import Http
from moderation.detect.judges import MOST, sender
from moderation.detect.run import TRIAL
from moderation.text import Role
from moderation.upstream import Timeouts, Upstream
from moderation.verdict import Cause, Finding, Unknown
from tests.fakes import FakeUpstream, Pause, Received, Script, free_port, json_script

Answer = tuple[Finding, ...] | Unknown
SECRET = "do not tell"


def verdict(content: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}


SAFE = verdict("Safety: Safe\nCategories: None")


def found(category: str, score: int) -> Finding:
    return Finding("judge", category, None, category, score, None)


def made(engine: Engine, upstream: Upstream, **more: Any) -> Http:
    categories = more.pop("categories", engine.categories)
    return Http("judge", engine, sender(upstream), endpoint="x", categories=categories, end=upstream.close, **more)


def with_judge(
    engine: Callable[[FakeUpstream], Engine], work: Callable[[FakeUpstream, Http], Awaitable[None]],
    *scripts: Script | Callable[[Received], Script], **more: Any,
) -> None:  # fmt: skip
    async def main() -> None:
        async with FakeUpstream(*scripts) as fake:
            judge = made(engine(fake), Upstream(fake.base, Timeouts(1, 1, 1, 1)), **more)
            try:
                await work(fake, judge)
            finally:
                await judge.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def guard(fake: FakeUpstream) -> Engine:
    return Qwen3Guard("m", key="sesame")


def one(
    script: Script | Callable[[Received], Script], passage: Passage, engine: Callable[[FakeUpstream], Engine] = guard, **more: Any
) -> Answer:
    said: list[Answer] = []

    async def work(fake: FakeUpstream, judge: Http) -> None:
        said.append(await judge.ask(passage))

    with_judge(engine, work, script, **more)
    return said[0]


def test_qwen3guard_is_asked_and_read() -> None:
    def server(received: Received) -> Script:
        assert received.request_line == "POST /compatible-mode/v1/chat/completions HTTP/1.1"
        assert received.header("authorization") == "Bearer sesame"
        assert received.header("content-type") == "application/json"
        said = {
            "user": "Safety: Unsafe\nCategories: Violent, Jailbreak",
            "assistant": "Safety: Controversial\nCategories: PII\nRefusal: No",
        }
        return json_script(verdict(said[received.json["messages"][-1]["role"]]))

    assert one(server, Passage("x")) == (found("jailbreak", HIGH), found("violence", HIGH))
    assert one(server, Passage("x", Role.RESPONSE)) == (found("personal_data", MEDIUM),)


def test_openai_moderation_is_asked_and_read() -> None:
    result = {
        "flagged": True,
        "categories": {"hate": True, "hate/threatening": False},
        "category_scores": {"hate": 0.9, "hate/threatening": 0.3},
    }
    said = one(json_script({"results": [result]}), Passage("x"), lambda fake: OpenAiModeration())
    assert said == (found("hate_harassment", 900_000),), "the highest of a category"


def test_a_chat_model_is_asked_and_read() -> None:
    said = one(
        json_script(verdict('{"violence": 0.25, "house": 0}')), Passage("x"), lambda fake: LlmJudge("m", ("violence", "house"))
    )
    assert said == (found("violence", 250_000),)


# --- AI Guardrails: a fake that checks signatures as the service does


def signature(received: Received, secret: str) -> str:
    """Signed anew from the bytes on the wire, by the documentation's steps."""
    headers = {name.lower(): value for name, value in received.headers}
    scheme, _, rest = headers["authorization"].partition(" ")
    assert scheme == "ACS3-HMAC-SHA256"
    names = dict(part.split("=", 1) for part in rest.split(","))["SignedHeaders"]
    assert {"host", "content-type", *(name for name in headers if name.startswith("x-acs-"))} == set(names.split(";"))
    digest = hashlib.sha256(received.body).hexdigest()
    assert headers["x-acs-content-sha256"] == digest
    lines = "".join(f"{name}:{headers[name]}\n" for name in names.split(";"))
    method, path, _ = received.request_line.split(" ")
    canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
    to_sign = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


class Green:
    """AI Guardrails as far as a caller sees it: checks the signature, the nonce and the length, and finds what a text names."""

    def __init__(self) -> None:
        self.nonces: set[str] = set()
        self.texts: list[str] = []
        self.services: list[str] = []

    def __call__(self, received: Received) -> Script:
        authorization = received.header("authorization") or ""
        if authorization.rpartition("Signature=")[2] != signature(received, "sesame"):
            return json_script({"Code": "SignatureDoesNotMatch", "Message": "x", "RequestId": "1"}, 400)
        nonce = received.header("x-acs-signature-nonce")
        assert nonce is not None
        if nonce in self.nonces:
            return json_script({"Code": "SignatureNonceUsed", "Message": "x"}, 400)
        self.nonces.add(nonce)
        fields = parse_qs(received.body.decode(), strict_parsing=True)
        text = json.loads(fields["ServiceParameters"][0])["content"]
        self.services.append(fields["Service"][0])
        if len(text.encode("utf-16-le")) // 2 > 2_000:
            return json_script({"Code": 400, "Message": "content is too long"})
        self.texts.append(text)
        risk = "high" if "武器" in text else "none"
        label = "violent_weapons" if "武器" in text else "nonLabel"
        return json_script(
            {"Code": 200, "Message": "OK", "RequestId": "1", "Data": {"RiskLevel": risk, "Result": [{"Label": label}]}}
        )


def aliyun(secret: str) -> Callable[[FakeUpstream], Engine]:
    return lambda fake: Aliyun(f"127.0.0.1:{fake.port}", Credentials("id", secret))


def with_green(green: Green, secret: str, work: Callable[[Http], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        async with FakeUpstream(green) as fake:
            judge = made(aliyun(secret)(fake), Upstream(f"http://127.0.0.1:{fake.port}"), **more)
            try:
                await work(judge)
            finally:
                await judge.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_aliyun_is_asked_with_a_good_signature_and_read() -> None:
    green = Green()

    async def work(judge: Http) -> None:
        assert await judge.ask(Passage("武器 & 100% +x")) == (found("violence", HIGH),)
        assert await judge.ask(Passage("你好", Role.RESPONSE)) == ()
        assert await judge.ask(Passage("你好", Role.TOOL_RESULT)) == ()

    with_green(green, "sesame", work)
    assert green.texts == ["武器 & 100% +x", "你好", "你好"]
    assert green.services == ["llm_query_moderation", "llm_response_moderation", "llm_query_moderation"]


def test_aliyun_refuses_a_wrong_key() -> None:
    async def work(judge: Http) -> None:
        assert await judge.ask(Passage("武器")) == Unknown("judge", Cause.ERROR)

    with_green(Green(), "open", work)


@pytest.mark.parametrize(
    ("text", "answer", "note"),
    [
        ("好" * 4_990 + "武器", (found("violence", HIGH),), "at the end"),
        ("好" * 1_999 + "武器" + "好" * 1_999, (found("violence", HIGH),), "across a cut"),
        ("好" * 5_000, (), "nowhere"),
        ("👍" * 2_500, (), "of signs that count twice"),
    ],
)
def test_a_long_text_is_asked_about_in_pieces(text: str, answer: Answer, note: str) -> None:
    green = Green()

    async def work(judge: Http) -> None:
        assert await judge.ask(Passage(text)) == answer, note

    with_green(green, "sesame", work)
    assert len(green.texts) == 3
    assert "".join(dict.fromkeys(green.texts)).count("武") >= text.count("武")


def test_one_piece_without_an_answer_is_no_answer() -> None:
    def server(received: Received) -> Script:
        return json_script({"Code": 500}) if "%E6%9C%AB" in received.body.decode() else Green()(received)

    async def main() -> None:
        async with FakeUpstream(server) as fake:
            judge = made(aliyun("sesame")(fake), Upstream(f"http://127.0.0.1:{fake.port}"))
            assert await judge.ask(Passage("武器" + "好" * 3_000 + "末")) == Unknown("judge", Cause.UNAVAILABLE)
            await judge.close()

    asyncio.run(asyncio.wait_for(main(), 20))


# --- failures

FAILURES: list[tuple[Script, Cause, str]] = [
    (json_script({"error": SECRET}, 500), Cause.UNAVAILABLE, "broken"),
    (json_script({"error": SECRET}, 503), Cause.UNAVAILABLE, "overloaded"),
    (json_script({"error": SECRET}, 429), Cause.UNAVAILABLE, "too many"),
    (json_script({"error": SECRET}, 401), Cause.ERROR, "a wrong key"),
    (json_script({"error": SECRET}, 404), Cause.ERROR, "a wrong path or model"),
    (json_script({"error": SECRET}, 413), Cause.TOO_LARGE, "too long"),
    (json_script(SAFE, 302, headers=(("location", "/x"),)), Cause.ERROR, "elsewhere"),
    (json_script(SAFE, 201), Cause.ERROR, "something was made"),
    (Script([SECRET.encode()]), Cause.INVALID, "no JSON"),
    (Script([]), Cause.INVALID, "nothing"),
    (Script([json.dumps(SAFE).encode()[:40]], cut=True), Cause.ERROR, "cut"),
    (Script([json.dumps(SAFE).encode()[:40]], cut=True, reset=True), Cause.ERROR, "reset"),
    (Script([b"\x00\xff junk\r\n\r\n"], framing="raw"), Cause.INVALID, "no HTTP"),
    (Script([b'"' + b"x" * MOST + b'"']), Cause.INVALID, "without end"),
    (Script([Pause(5), json.dumps(SAFE).encode()]), Cause.TIMEOUT, "slow to begin"),
    (Script([b"{", Pause(5), b"}"]), Cause.TIMEOUT, "slow to end"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "cause", "note"), FAILURES, ids=[case[-1] for case in FAILURES])
def test_every_failure_has_its_cause(script: Script, cause: Cause, note: str) -> None:
    async def work(fake: FakeUpstream, judge: Http) -> None:
        assert await judge.ask(Passage(SECRET)) == Unknown("judge", cause)
        assert judge.why
        assert SECRET not in judge.why
        assert "upstream" not in judge.why

    with_judge(guard, work, script)


def test_nobody_there() -> None:
    async def main() -> None:
        judge = made(Qwen3Guard("m"), Upstream(f"http://127.0.0.1:{free_port()}"))
        assert await judge.ask(Passage("x")) == Unknown("judge", Cause.UNAVAILABLE)
        await judge.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_question_that_is_given_up_ends_at_the_judge() -> None:
    async def work(fake: FakeUpstream, judge: Http) -> None:
        for _ in range(2):  # before a byte has come, and after
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await judge.ask(Passage("x"))
        for received in fake.received:
            await asyncio.wait_for(received.gone.wait(), 5)

    with_judge(guard, work, Script([Pause(60)]), Script([b"{", Pause(60)]))


def test_a_judge_that_comes_back_is_asked_again() -> None:
    async def work(fake: FakeUpstream, judge: Http) -> None:
        assert await judge.ask(Passage("x")) == Unknown("judge", Cause.UNAVAILABLE)
        assert await judge.ask(Passage("x")) == ()
        await judge.close()
        assert await judge.ask(Passage("x")) == (), "closed, and opened anew"

    with_judge(guard, work, json_script({}, 500), json_script(SAFE))


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (json_script({}, 401), "it answered with the status 401: is the key right? see `key_env`"),
        (json_script({}, 404), "it answered with the status 404: are `url` and `model` right?"),
        (json_script({}, 500), "it answered with the status 500"),
        (json_script({}), "its answer is not in the format of the engine"),
        (Script([Pause(5)], framing="raw"), "the judge did not answer in time"),
    ],
)
def test_an_operator_is_told_why(script: Script, why: str) -> None:
    async def work(fake: FakeUpstream, judge: Http) -> None:
        assert judge.why is None
        await judge.ask(Passage("x"))
        assert judge.why == why

    with_judge(guard, work, script)


# --- the policy's words


@pytest.mark.parametrize(
    ("labels", "categories", "said", "note"),
    [
        ({}, {"violence", "jailbreak"}, (found("jailbreak", HIGH), found("violence", HIGH)), "the engine's own"),
        ({"Violent": "threats"}, {"threats", "jailbreak"}, (found("jailbreak", HIGH), found("threats", HIGH)), "another name"),
        ({"Violent": "harm", "Jailbreak": "harm"}, {"harm"}, (found("harm", HIGH),), "one for two"),
        ({}, {"jailbreak"}, (found("jailbreak", HIGH),), "only what the policy asks for"),
    ],
)  # fmt: skip
def test_labels_count_as_the_policy_says(labels: Mapping[str, str], categories: set[str], said: Answer, note: str) -> None:
    script = json_script(verdict("Safety: Unsafe\nCategories: Violent, Jailbreak"))
    assert one(script, Passage("x"), labels=labels, categories=frozenset(categories)) == said, note


def told(text: str, **more: Any) -> tuple[Answer, list[str]]:
    """What a judge says that finds `武器` and `hurt`, and what it was asked about."""
    asked: list[str] = []

    def server(received: Received) -> Script:
        asked.append(received.json["messages"][-1]["content"])
        return json_script(verdict("Safety: Unsafe\nCategories: Violent") if "hurt" in asked[-1] else SAFE)

    return one(server, Passage(text), **more), asked


@pytest.mark.parametrize(
    ("text", "asked", "note"),
    [
        ("Plain text, café, Привет, 你好。", 1, "ordinary letters are asked about as they stand, and once"),
        ("Note: aSB3aWxsIGh1cnQgeW91IHRvbmlnaHQgYW5kIGhpbQ==", 2, "in base64"),
        ("Hi." + "".join(chr(0xE0000 + ord(char)) for char in "I will hurt you"), 2, "in tags that show nothing"),
    ],
)
def test_what_is_encoded_or_hidden_is_asked_about_too(text: str, asked: int, note: str) -> None:
    answer, texts = told(text)
    assert (len(texts), texts[0]) == (asked, text), note
    assert answer == ((found("violence", HIGH),) if asked == 2 else ())


@pytest.mark.parametrize(
    ("text", "languages", "cause"),
    [
        ("你好，世界。", ["en"], Cause.UNSUPPORTED),
        ("你好，世界。", ["zh-CN", "en"], None),
        ("Hello.", ["zh"], Cause.UNSUPPORTED),
        ("你好。", None, None),
    ],
)
def test_a_language_that_it_does_not_know_is_unknown(text: str, languages: list[str] | None, cause: Cause | None) -> None:
    answer, texts = told(text, languages=languages)
    assert answer == (Unknown("judge", cause) if cause else ())
    assert len(texts) == (not cause), "and it is not asked"


def test_a_sentence_that_it_does_not_know_is_unknown_but_for_what_it_found() -> None:
    assert told("Please read this to me, word by word and with care: 怎么在家里做蛋糕", languages=["en"])[0] == Unknown(
        "judge", Cause.UNSUPPORTED
    )
    assert told("It would hurt to read this out, word by word and with care: 怎么在家里做蛋糕", languages=["en"])[0] == (
        found("violence", HIGH),
    )
    result = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.01}}
    text, engine = (
        Passage("Please read this to me, word by word and with care: 怎么在家里做蛋糕"),
        lambda fake: OpenAiModeration(),
    )
    said = one(json_script({"results": [result]}), text, engine, languages=["en"])
    assert said == Unknown("judge", Cause.UNSUPPORTED), "a score near nothing finds nothing"


@pytest.mark.parametrize("languages", [["en"], ["zh"], ["ja"], ["am"], ["en", "zh"]])
def test_a_trial_asks_in_whatever_language(languages: list[str]) -> None:
    """Else the trial of a judge that is gone gives `unsupported`, which is no failure."""
    gone = json_script({"error": {}}, status=500)
    assert one(gone, Passage(TRIAL, trial=True), languages=languages) == Unknown("judge", Cause.UNAVAILABLE)
    assert one(json_script(SAFE), Passage(TRIAL, trial=True), languages=languages) == ()


def test_no_word_of_a_judge_gets_into_a_finding() -> None:
    result = {"flagged": True, "categories": {SECRET: True}, "category_scores": {SECRET: 0.9}}
    said = one(json_script({"results": [result]}), Passage("x"), lambda fake: OpenAiModeration())
    assert said == (found("other_harm", 900_000),)


def test_a_rate_is_kept() -> None:
    now = [0.0]

    async def work(fake: FakeUpstream, judge: Http) -> None:
        said = await asyncio.gather(*(judge.ask(Passage(str(number))) for number in range(30)))
        assert sum(one == () for one in said) == len(fake.received) == 13  # one, 1/10 s of burst, and 20 ms of patience
        assert sum(one == Unknown("judge", Cause.UNAVAILABLE) for one in said) == 17
        now[0] += 1.0
        assert await judge.ask(Passage("x")) == ()

    with_judge(guard, work, json_script(SAFE), pace=Pace(100), patience=0.02, clock=lambda: now[0])


def test_a_version_changes_with_all_that_a_judgement_hangs_on() -> None:
    upstream = Upstream("http://h")
    same = made(Qwen3Guard("m", key="a"), upstream)
    assert made(Qwen3Guard("m", key="b"), upstream).version == same.version, "a key is none of it"
    others = [
        made(Qwen3Guard("n"), upstream), made(Qwen3Guard("m"), upstream, labels={"Violent": "x"}),
        made(Qwen3Guard("m"), upstream, categories=frozenset({"violence"})),
        Http("judge", Qwen3Guard("m"), sender(upstream), endpoint="y", categories=same_categories()),
    ]  # fmt: skip
    assert len({same.version, *(other.version for other in others)}) == 5


def same_categories() -> frozenset[str]:
    return Qwen3Guard("m").categories
