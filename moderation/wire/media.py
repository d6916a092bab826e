"""Parts that no detector here reads: which they are, and what of them is text after all.

A URL or base64 is the medium itself and is not read; every other string in such a part is.
"""

from __future__ import annotations

import re
from typing import Any

from moderation.wire.body import escape
from moderation.wire.leaves import Leaves

MEDIA_KEYS = {
    "image_url": "image",
    "image": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "audio": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "file": "file",
    "file_url": "file",
    "input_file": "file",
}
"""Names of media parts, as `type` and as the field that holds the medium, and what they are."""
_PAYLOADS = frozenset({"url", "data", "file_data", "file_url", "file_id", "image_url", "video_url"})
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,15}://\S*").fullmatch
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\r\n"
_DATA = re.compile(r"(?i)data:[a-z0-9.+\-]*/?[a-z0-9.+\-]*(?:;[a-z0-9.+\-]+=[a-z0-9.+\-_\"]*)*;base64,").match
_LEAST = 64
"""Characters of base64 below which a string is read as text: an id or a number looks like base64, and no picture is so small."""


def media_kind(part: dict[str, Any]) -> str | None:
    """What kind of medium a content part holds; None where it holds none."""
    kind = part.get("type")
    if type(kind) is str and kind in MEDIA_KEYS:
        return MEDIA_KEYS[kind]
    return next((MEDIA_KEYS[key] for key in part if key in MEDIA_KEYS and part[key] is not None), None)


def media_texts(part: dict[str, Any], path: str, leaves: Leaves) -> None:
    """Read all that is text in a media part."""
    for key, value in part.items():
        if key in MEDIA_KEYS or key in _PAYLOADS:
            leaves.key(key)
            payload_texts(value, f"{path}/{escape(key)}", leaves)
        else:
            leaves.member(key, value, path)


def payload_texts(value: Any, path: str, leaves: Leaves) -> None:
    """Read all that is text in the field that holds a medium."""
    if is_payload(value):
        return
    if type(value) is list:
        for index, one in enumerate(value):
            payload_texts(one, f"{path}/{index}", leaves)
    elif type(value) is dict:
        for key, child in value.items():
            if key in _PAYLOADS and is_payload(child):
                leaves.key(key)
            else:
                leaves.member(key, child, path)
    else:
        leaves.take(value, path)


def payload_paths(value: Any, path: str) -> list[str]:
    """Where media themselves stand in the field that holds them; nowhere where it holds text alone."""
    if is_payload(value):
        return [path]
    if type(value) is list:
        return [found for index, one in enumerate(value) for found in payload_paths(one, f"{path}/{index}")]
    if type(value) is dict:
        return [f"{path}/{key}" for key in value if key in _PAYLOADS and is_payload(value[key])]
    return []


def is_payload(value: Any) -> bool:
    """Whether a string is a medium or points at one: a data URI, a URL without white space, or base64."""
    if type(value) is not str:
        return False
    if _URL(value):
        return True
    data = _DATA(value)
    rest = value[data.end():] if data else value
    return (bool(data) or len(value) >= _LEAST) and rest.isascii() and not rest.encode().translate(None, _BASE64)
