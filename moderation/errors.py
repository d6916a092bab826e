"""The error tree, and the table of every code that a client or an operator can see.

ModerationError
 ├─ UsageError          broken input or wrong use; exit 2; says where (file:line:column)
 ├─ Refused             a request that we answer with an error; carries a code of CODES
 ├─ UpstreamError       the upstream failed; carries a code of CODES
 └─ LogError            the log cannot be written or is broken; exit 74
"""

from __future__ import annotations

from dataclasses import dataclass


class ModerationError(Exception):
    """Base of all errors that this project raises on purpose. Its text never holds content of prompts or answers."""

    exit_code = 1


class UsageError(ModerationError):
    """Wrong use or broken input. `where` is FILE:LINE:COLUMN or a setting's name."""

    exit_code = 2

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(f"{where} {message}" if where else message)
        self.where = where
        self.message = message


class LogError(ModerationError):
    """A decision cannot be written durably, or the log on disk is not what it should be."""

    exit_code = 74


@dataclass(frozen=True, slots=True)
class Code:
    status: int
    """HTTP status."""
    type: str
    """`error.type` in the OpenAI dialect."""
    retry: bool
    """Whether trying again can help; False sends x-should-retry: false."""
    meaning: str
    todo: str
    after: int | None = None
    """Seconds after which to try again, sent as Retry-After (RFC 9110, 10.2.3)."""


_CLIENT = "invalid_request_error"
_SERVER = "server_error"

CODES: dict[str, Code] = {
    "data_inspection_failed": Code(
        400, _CLIENT, False,
        "The policy blocked the request or the answer.",
        "Change the content, or ask the policy's owner; quote the decision id.",
    ),
    "invalid_http": Code(
        400, _CLIENT, False,
        "The request is not HTTP/1.1 that every reader reads alike.",
        "Use an HTTP library; the message names the place.",
    ),
    "headers_too_large": Code(
        431, _CLIENT, False, "The request's headers are over the limit.", "Send fewer and shorter headers."
    ),
    "request_timeout": Code(
        408, _CLIENT, True, "The request did not come in time.", "Send it faster, or raise head_timeout or body_timeout."
    ),
    "expectation_failed": Code(
        417, _CLIENT, False, "The request expects what is not done here.", "Leave the header Expect out, or send 100-continue."
    ),
    "host_not_allowed": Code(
        421, _CLIENT, False,
        "The header Host names a host that this sidecar does not answer for.",
        "Use one of `allowed_hosts` in base_url, or add yours to it.",
    ),
    "invalid_json": Code(
        400, _CLIENT, False,
        "The body is not one JSON object in UTF-8 that every reader reads alike.",
        "Send valid JSON: no duplicate keys, no NaN, UTF-8.",
    ),
    "invalid_body": Code(
        400, _CLIENT, False,
        "The JSON is not a chat request that can be read in full.",
        "Compare with the chat completions reference; the message names the place.",
    ),
    "nesting_too_deep": Code(400, _CLIENT, False, "The JSON is nested deeper than 100.", "Flatten it."),
    "body_too_large": Code(413, _CLIENT, False, "The body is over the limit.", "Send less, or raise max_body."),
    "unsupported_encoding": Code(
        415, _CLIENT, False,
        "The content-encoding is not one that is read.",
        "Use identity, gzip, deflate, br or zstd, and one of them alone.",
    ),
    "unmoderated_path": Code(
        403, _CLIENT, False,
        "This path carries content that this version does not moderate.",
        "Use /chat/completions, or let the path through by name with the setting `passthrough`.",
    ),
    "media_not_scanned": Code(
        400, _CLIENT, False,
        "The policy blocks media that no detector reads.",
        "Leave the media out, or change defaults.unscanned_media.",
    ),
    "invalid_api_key": Code(
        401, _CLIENT, False, "The client key is missing or unknown.", "Send a key that `clients` lists."
    ),
    "not_found": Code(404, _CLIENT, False, "There is no such path here.", "See /docs for the paths."),
    "method_not_allowed": Code(405, _CLIENT, False, "The path does not take this method.", "Use POST."),
    "audit_unavailable": Code(
        503, _SERVER, True,
        "The decision cannot be written durably, so nothing goes on.",
        "Operators: check the log's disk; see /readyz.",
        after=1,
    ),
    "not_ready": Code(503, _SERVER, True, "The sidecar is starting or draining.", "Try again.", after=1),
    "overloaded": Code(
        503, _SERVER, True,
        "The sidecar has more to do than it can; this request was refused before it was read.",
        "Try again after Retry-After; operators: see max_streams, max_memory, max_wait and moderation_admission_refused_total.",
        after=1,
    ),
    "upstream_unreachable": Code(
        502, _SERVER, True, "The upstream cannot be reached.", "Operators: check --upstream and the network."
    ),
    "upstream_timeout": Code(
        504, _SERVER, True, "The upstream did not answer in time.", "Try again; operators: see the time-out settings."
    ),
    "upstream_interrupted": Code(
        502, _SERVER, True, "The upstream ended in the middle of its answer.", "Try again."
    ),
    "upstream_invalid": Code(
        502, _SERVER, True,
        "The upstream's answer cannot be read, so it cannot be moderated.",
        "Operators: check that --upstream is an OpenAI-compatible API.",
    ),
    "internal_error": Code(
        500, _SERVER, True, "The sidecar failed; nothing unread was passed on.", "Report it with the request id."
    ),
}


class Refused(ModerationError):
    """A request that we answer ourselves. `code` is a key of CODES; `message` says what and where, without content."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class UpstreamError(Refused):
    """The upstream failed. `code` is one of the upstream_* codes."""
