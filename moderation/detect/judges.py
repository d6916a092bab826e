"""Detectors of the kind http from a policy's words: which engine, where it is asked, with whose key. Knows policy and upstream.

Keys come from the environment, by the names that the policy gives; they are read once, and stand in no policy, version or error.
"""

from __future__ import annotations

from moderation.detect.guard.exchange import Question, Reply
from moderation.detect.http import Send
from moderation.upstream import Upstream

MOST = 1 << 20
"""Bytes of a judge's answer."""


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
