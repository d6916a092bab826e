"""Whether what something is set to is a key or a password, or only a name, a path or a piece of a program.

These are checks of patterns (detect/matcher.py) that look like any other text: only the text before them says what they are.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter

from moderation.detect.matcher import Hit

LIKELY = 900_000
"""A key whose own checksum did not pass, or a password that only its surroundings tell."""

_PLACEHOLDER = re.compile(
    r"(?i)your|example|sample|changeme|change_me|placeholder|redacted|dummy|insert|x{4,}|\*{3,}|\.{3,}"
    r"|^(?:<|\$\{|\$\(|\{\{|%\(|process\.env|os\.environ|getenv|env\[|config\.|settings\.|self\.|this\.|none|null|true|false|undefined)"
)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_WORD = r"[A-Za-z_$][A-Za-z_$]*[0-9]{0,2}"
_MEMBER = r"(?:\??\.|->|::)"
_CODE = re.compile(
    # A call, an item of a list, a type; a member of something; a variable; a template; a tag of YAML.
    rf"{_WORD}(?:{_MEMBER}{_WORD})*[\[(<]|[A-Za-z_][A-Za-z0-9_.]*\(|{_WORD}(?:{_MEMBER}{_WORD})+[!?]?\Z"
    r"|\$(?:[A-Z_][A-Z0-9_]*|[a-z_]+[0-9]?)\Z|[#$@%]?\{|%[A-Za-z_]+%\Z|%\(|![A-Za-z]+\Z|(?:[Ss]tring|Int|Float|Boolean|ID|str|bool|int)[!?]\Z|[:@&*]\w*(?i:pass|pwd)\w*\Z"
)
_NAME = re.compile(
    r"[A-Za-z]+(?:_+[A-Za-z]+)+_?|_+[A-Za-z_]+|[a-z]\w*?(?:[Pp]ass(?:[Ww]ord|wd|phrase|code)?|[Pp]wd)_?[0-9]?|(?:pass(?:word|wd)?|pwd)_?[0-9]"
)
"""Names of variables."""
_HYPHENS = re.compile(r"[A-Za-z]+(?:-[a-z]+){1,2}")
_PROSE = re.compile(r"(?i)(?:is|是|为)\s*\Z")
_PATH = re.compile(r"(?:~|\.{1,2})?/[^/]+/|~/|\.{1,2}/|//")
_TYPE = re.compile(r"[A-Za-z_][\w.]*(?:Key|Token|Secret|Type|Error|Config|Client|Provider)s?\Z")
_VERSION = re.compile(r"v?[0-9]{1,4}[.\-][0-9]{1,4}[.\-][0-9]+")
_OUTCOME = re.compile(r"(?:\A|[^A-Za-z_])(?:PASS|Pass|pass):\s+\Z")
_TICKET = re.compile(r"(?i)(?:boarding|bus|train|rail|season|day|ski|guest|visitor|travel)[ _\-]pass(?:code)?\W*\Z")
_TEST = re.compile(r"\w+[_/][\w/.]*")
_QUOTES = ("'", '"', "`")
_CLOSES = {")": "(", "]": "[", "}": "{", ">": "<"}
_TRAIL = ".,;:)]}>'\"`"


def entropy(text: str) -> float:
    """Bits a character, by the characters' own frequencies."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) if text else 0.0


def mixed(before: str, match: str, after: str) -> Hit | None:
    """A long key of any letters and digits, where the text before says that it is one."""
    kinds = sum(any(test(char) for char in match) for test in (str.isupper, str.islower, str.isdigit))
    return Hit(len(match)) if kinds == 3 and entropy(match) >= 3.8 else None


def assigned(before: str, match: str, after: str) -> Hit | None:
    """A key or token that something is set to: one long piece of letters and digits, and not words with hyphens."""
    text = match.rstrip(_TRAIL)
    longest = max(re.split(r"[_\-./+]", text), key=len)
    telling = any(map(str.isdigit, longest)) and any(map(str.isalpha, longest))
    if len(text) < 16 or not ((len(longest) >= 12 and telling) or _UUID.fullmatch(text)):
        return None
    if entropy(text) < 3.0 or _PLACEHOLDER.search(text) or _PATH.match(text) or _VERSION.match(text):
        return None
    if before[-1:] not in _QUOTES and (_CODE.match(text) or _TYPE.match(text)):
        return None
    return Hit(len(text), LIKELY)


def basic(before: str, match: str, after: str) -> Hit | None:
    """A name, a colon and a password in base64."""
    try:
        decoded = base64.b64decode(match.rstrip("=") + "=" * (-len(match.rstrip("=")) % 4), validate=True)
    except binascii.Error:
        return None
    return Hit(len(match)) if b":" in decoded else None


def password(before: str, match: str, after: str) -> Hit | None:
    """Up to the closing quote where there is an opening one; otherwise without the sentence's signs, and nothing of a program."""
    quoted = before[-1:] in _QUOTES
    text = match if quoted else _bare(match)
    kinds = sum(
        any(test(char) for char in text) for test in (str.isupper, str.islower, str.isdigit, lambda char: not char.isalnum())
    )
    if len(text) < 6 or (kinds < 2 and not text.isdigit()) or text.isalpha():
        return None
    if entropy(text) < 2.2 or _PLACEHOLDER.search(text) or "://" in text or text.startswith(("${", "{{", "<")):
        return None
    if not quoted and (_CODE.match(text) or _PATH.match(text) or _HYPHENS.fullmatch(text)):
        return None
    if not quoted and _NAME.fullmatch(text) and not _PROSE.search(before):
        return None
    # What a run of tests prints, and what lets one on board.
    if _TICKET.search(before):
        return None
    return None if _OUTCOME.search(before) and _TEST.fullmatch(text) else Hit(len(text), LIKELY)


def _bare(match: str) -> str:
    """A value without the signs after it; ! and ? are as likely its own, and so is a bracket that it opens."""
    text = match
    while text and text[-1] in _TRAIL and not (text[-1] in _CLOSES and text.count(_CLOSES[text[-1]]) >= text.count(text[-1])):
        text = text[:-1]
    return text
