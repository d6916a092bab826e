"""Detectors of the kind http from a policy's words: which engine, where it is asked, with whose key. Knows policy and upstream.

Keys come from the environment, by the names that the policy gives; they are read once, and stand in no policy, version or error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from moderation.detect.guard import aliyun, llm_judge, openai_moderation, qwen3guard
from moderation.detect.guard.acs3 import Credentials
from moderation.detect.guard.aliyun import Aliyun
from moderation.detect.guard.exchange import OTHER, Engine, Question, Reply
from moderation.detect.guard.llm_judge import Format, LlmJudge
from moderation.detect.guard.openai_moderation import OpenAiModeration
from moderation.detect.guard.pace import Pace
from moderation.detect.guard.qwen3guard import Qwen3Guard, Strictness
from moderation.detect.http import Http, Send
from moderation.policy.model import DetectorSpec, EngineSpec, EngineWords, Option
from moderation.upstream import Reach, Timeouts, Upstream

MOST = 1 << 20
"""Bytes of a judge's answer."""
AT_ONCE = 16
_ALL = {
    "rate": Option("the most questions a second", least=1, most=10_000),
    "at_once": Option(f"the most questions at the same time (default: {AT_ONCE})", least=1, most=256),
}


def _words(needs: str, takes: str, categories: frozenset[str], **options: Option) -> EngineWords:
    return EngineWords(frozenset(needs.split()), frozenset(takes.split()), _ALL | options, categories)


def _each(words: type[StrEnum]) -> tuple[str, ...]:
    return tuple(one.value for one in words)


STRICTNESS = Option(
    "what Controversial counts as: strict as unsafe, graded as medium (default), loose as safe", _each(Strictness)
)

ENGINES: Mapping[str, EngineWords] = {
    "qwen3guard": _words(
        "url model", "key_env labels", frozenset(qwen3guard.CATEGORY.values()),
        strictness=STRICTNESS,
    ),
    "openai_moderation": _words("url", "model key_env labels", frozenset({*openai_moderation.CATEGORY.values(), OTHER})),
    "aliyun": _words(
        "url key_env", "labels", aliyun.CATEGORIES,
        key_id_env=Option("the variable that holds the AccessKey ID; key_env is for its secret", variable=True, needed=True),
        prompt_service=Option("the service that reads prompts and tool results (default: llm_query_moderation)"),
        response_service=Option("the service that reads answers (default: llm_response_moderation)"),
    ),
    "llm_judge": _words(
        "url model categories", "key_env", frozenset(),
        prompt=Option("an instruction of your own: it must hold {categories}, and may hold {schema}", holds="{categories}"),
        format=Option("how JSON is asked for: json_schema (default), json_object, or text for not at all", _each(Format)),
    ),
}  # fmt: skip
"""What a policy may say of each engine, and what it gives."""


def judge(spec: DetectorSpec, environ: Mapping[str, str]) -> Http:
    """The detector of a spec of the kind http. Raises ValueError, with a name and never a value, where a key is not set."""
    said = spec.engine
    if said is None or said.url is None:
        raise ValueError("it has no engine, or no url")
    engine = _engine(spec, said, environ)
    seconds = spec.timeout_ms / 1000
    at_once = int(said.options.get("at_once", AT_ONCE))
    # The time-outs here are a second line: detect/run ends a question, and with it what runs here.
    upstream = Upstream(said.url, Timeouts(seconds, seconds, seconds, seconds), reach=Reach(connections=at_once))
    rate = said.options.get("rate", aliyun.RATE if isinstance(engine, Aliyun) else None)
    return Http(
        spec.id,
        engine,
        sender(upstream),
        endpoint=said.url,
        categories=frozenset(spec.categories),
        labels=said.labels,
        languages=spec.languages,
        at_once=at_once,
        pace=Pace(int(rate)) if rate is not None else None,
        patience=seconds,
        end=upstream.close,
    )


def _engine(spec: DetectorSpec, said: EngineSpec, environ: Mapping[str, str]) -> Engine:
    key = _key(environ, "key_env", said.key_env)
    option = {name: str(value) for name, value in said.options.items()}
    match said.name:
        case "qwen3guard":
            return Qwen3Guard(said.model or "", Strictness(option.get("strictness", Strictness.GRADED)), key)
        case "openai_moderation":
            return OpenAiModeration(said.model, key)
        case "aliyun":
            pair = Credentials(_key(environ, "key_id_env", option.get("key_id_env")) or "", key or "")
            if (said.url or "").count("/") > 2:  # what is signed is the path `/`
                raise ValueError(
                    "the url of the engine aliyun is a host alone, such as https://green-cip.cn-shanghai.aliyuncs.com"
                )
            services = {name: option[name] for name in ("prompt_service", "response_service") if name in option}
            return Aliyun(_host(said.url or ""), pair, **services)
        case "llm_judge":
            told = option.get("prompt", llm_judge.PROMPT)
            return LlmJudge(said.model or "", spec.categories, told, Format(option.get("format", Format.SCHEMA)), key)
        case name:
            raise ValueError(f"engine {name!r} is not one that this version builds")


def _key(environ: Mapping[str, str], what: str, name: str | None) -> str | None:
    if name is None:
        return None
    key = environ.get(name, "").strip()
    if not key:
        raise ValueError(f"the environment variable {name}, which {what} names, is not set")
    if not key.isascii() or not key.isprintable():
        raise ValueError(f"the environment variable {name}, which {what} names, holds signs that no key has")
    return key


def _host(url: str) -> str:
    """The header Host for a URL."""
    match = re.fullmatch(r"(https?)://([^/]+).*", url)
    assert match is not None
    return match[2].removesuffix(":443" if match[1] == "https" else ":80").lower()


def sender(upstream: Upstream) -> Send:
    """Asks over an upstream's connections, and reads the whole answer."""

    async def send(question: Question) -> Reply:
        answer = await upstream.send("POST", question.path, question.headers, question.body)
        try:
            return Reply(answer.status, await answer.whole(MOST))
        except BaseException:
            answer.close()  # cancelled: nobody waits for the rest
            raise

    return send
