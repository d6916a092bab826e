"""What goes to the upstream of a request's head, and what its whole answer is. Knows no decision."""

from __future__ import annotations

from typing import Any

from moderation.errors import Refused, UpstreamError
from moderation.flow.http import Headers, header
from moderation.routes import Route
from moderation.upstream import Answer, forwardable
from moderation.wire import body

_OURS = (b"accept-encoding", b"content-encoding", b"authorization")


def onward(headers: Headers, route: Route, *, keyed: bool) -> Headers:
    """The headers of a moderated request as they go on.

    The caller's Authorization goes upstream only where it is the upstream's own: not where clients are `keyed`, nor with a key
    of ours.
    """
    own = route.upstream_key is None and not keyed
    kept = [(name, value) for name, value in forwardable(headers)
            if (low := name.lower()) not in _OURS or (own and low == b"authorization")]
    kept.append((b"accept-encoding", b"identity"))
    if route.upstream_key is not None:
        kept.append((b"authorization", b"Bearer " + route.upstream_key.encode()))
    return kept


def value_of(raw: bytes, good: bool) -> Any:
    """The JSON of an answer; None where an error need not be JSON. Raises UpstreamError."""
    try:
        return body.parse(raw)
    except Refused as error:
        if good:
            raise UpstreamError("upstream_invalid", f"the upstream's answer: {error.message}") from None
        return None


def has_choices(value: Any) -> bool:
    return isinstance(value, dict) and value.get("choices") is not None


def upstream_id(answer: Answer) -> str | None:
    """The upstream's own id of this call."""
    value = header(answer.headers, b"x-request-id")
    return value.decode("latin-1") if value else None
