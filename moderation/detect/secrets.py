"""The detector of kind `secrets`: keys, tokens and passwords by their formats, with checksum or entropy tests.

Each kind is SECRET_<KIND>. What has a format of its own is found wherever it stands; what looks like any other text
(passwords, nameless keys) only where the text before it says what it is. So hashes, UUIDs and images in base64 stay out.
Knows nothing of policies.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Sequence

from moderation.detect import catalogue
from moderation.detect.assigned import LIKELY, assigned, basic, entropy, mixed, password
from moderation.detect.matcher import MOST_REACH, Hit, Pattern
from moderation.detect.patterns import Patterns

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ALNUM = "A-Za-z0-9"
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/=]|\\(?![nr]))+")


def _random(before: str, match: str, after: str) -> Hit | None:
    """A format of its own: keep out templates such as sk-xxxxxxxx."""
    return Hit(len(match)) if entropy(match[-32:]) >= 2.5 and not re.search(r"(.)\1{7}", match) else None


def _github(before: str, match: str, after: str) -> Hit | None:
    """Classic tokens end in six characters that check the thirty before them."""
    if _random(before, match, after) is None:
        return None
    left, digits = zlib.crc32(match[4:34].encode()), ""
    while left:
        left, digit = divmod(left, 62)
        digits = _BASE62[digit] + digits
    return Hit(len(match)) if digits.rjust(6, "0") == match[34:40] else Hit(len(match), LIKELY)


def _jwt(before: str, match: str, after: str) -> Hit | None:
    """The header must be JSON that names an algorithm."""
    header = match.partition(".")[0]
    try:
        decoded = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return Hit(len(match)) if isinstance(decoded, dict) and ("alg" in decoded or "enc" in decoded) else None


def _private_key(before: str, match: str, after: str) -> Hit | None:
    """There must be lines of base64 in it; one without an end goes to the last of them."""
    pieces = list(_BASE64.finditer(match, match.index("-----", 5) + 5))
    long = [at for at, piece in enumerate(pieces) if len(piece.group()) >= 24]
    if not long:
        return None
    if match.endswith("-----"):
        return Hit(len(match))
    last = long[-1]
    # The line that was being written.
    return Hit(pieces[last + 1 if last + 2 == len(pieces) else last].end())


def _openai(before: str, match: str, after: str) -> Hit | None:
    """Names of packages have hyphens and words; keys have digits and both cases in one long piece."""
    longest = max(re.split(r"[_\-]", match[3:]), key=len)
    telling = len(longest) >= 16 and any(map(str.isdigit, longest)) and any(map(str.isalpha, longest))
    return _random(before, match, after) if telling and entropy(longest) >= 3.0 else None


_QUOTED = r"[\"'\]]{0,2}\s{0,3}(?::=|=>|==?|:|,|是|为)\s{0,3}[\"'`]?"
_PASSWORD = (
    r"(?i)(?:pass(?:word|wd|phrase)|pwd|密码|口令|(?:^|[^a-z]|db|user|my|admin|root|sql|smtp|ftp|ssh|login|mail|http|proxy|redis|sudo)"
    r"pass(?:code)?)[\"'\]]{0,2}\s{0,3}(?::=|=>|==?|:|(?:是|为)[ :]?|is:? )\s{0,3}"
)
"""What sets a password. A pass alone is part of too many words: compass, bypass."""
_KEY = r"(?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?"
_BODY = r"(?:[A-Za-z0-9+/=\s\\:,.()]|-[A-Za-z0-9])"

SECRETS: tuple[Pattern, ...] = (
    Pattern(
        "private_key", "SECRET_PRIVATE_KEY",
        rf"-----BEGIN {_KEY}-----(?:{_BODY}*?-----END {_KEY}-----|{_BODY}*)",
        "Private key in PEM, up to its end line or as far as it goes", check=_private_key, reach=MOST_REACH,
        must=(
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx8Jq0Wv1\n-----END RSA PRIVATE KEY-----",
            "x -----BEGIN PRIVATE KEY-----\\nMIIEowIBAAKCAQEAx8Jq0Wv1\\nAb",
        ),
        must_not=(
            "-----BEGIN PUBLIC KEY-----\nMIIEowIBAAKCAQEAx8Jq0Wv1\n-----END PUBLIC KEY-----",
            "between -----BEGIN PRIVATE KEY----- and the end",
        ),
    ),
    Pattern(
        "aws_access_key", "SECRET_AWS_ACCESS_KEY", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}", "AWS access key id",
        not_before=_ALNUM, not_after=_ALNUM, check=_random,
        must=("key AKIAIOSFODNN7EXAMPLE", "密钥AKIAIOSFODNN7EXAMPLE。"), must_not=("AKIAIOSFODNN7EXAMPL", "AKIAAAAAAAAAAAAAAAAA"),
    ),
    Pattern(
        "aws_secret_key", "SECRET_AWS_SECRET_KEY", r"[A-Za-z0-9/+]{40}", "AWS secret access key, after its name",
        not_before="A-Za-z0-9/+", not_after="A-Za-z0-9/+", check=mixed,
        lead=rf"(?i)(?:aws|secret|access)[a-z0-9_ .\-]{{0,30}}{_QUOTED}",
        must=(
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            '"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
        ),
        must_not=("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "secret = da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    ),
    Pattern(
        "github_token", "SECRET_GITHUB_TOKEN", r"gh[opusr]_[A-Za-z0-9]{36}", "GitHub token, with its checksum",
        not_before=_ALNUM, not_after=_ALNUM, check=_github,
        must=("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", "token:gho_16C7e42F292c6912E7710c838347Ae178B4a"),
        must_not=("ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq1", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ),
    Pattern(
        "github_token", "SECRET_GITHUB_TOKEN", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", "GitHub fine-grained token",
        not_before=_ALNUM, not_after=_ALNUM, check=_random,
        must=("github_pat_11ABCDEFG0aBcDeFgHiJkL_1a2B3c4D5e6F7g8H9i0J1k2L3m4N5o6P7q8R9s0T1u2V3w4X5y6Z7a8B9c0",),
        must_not=("github_pat_11ABCDEFG0aBcDeFgHiJkL",),
    ),
    Pattern(
        "gitlab_token", "SECRET_GITLAB_TOKEN", r"gl(?:pat|ptt|rt|dt|soat)-[A-Za-z0-9_\-]{19,63}[A-Za-z0-9]", "GitLab token",
        not_before=_ALNUM, check=_random, must=("glpat-aB3dE5fG7hJ9kL1mN3pQ",), must_not=("glpat-short",),
    ),
    Pattern(
        "slack_token", "SECRET_SLACK_TOKEN",
        r"(?:xoxe\.)?xox[abeoprs]-(?:[A-Za-z0-9]{1,80}-){1,6}[A-Za-z0-9]{10,160}|xapp-\d-[A-Z0-9]{8,14}-\d{10,16}-[A-Za-z0-9]{32,128}",
        "Slack token",
        not_before=_ALNUM, check=_random,
        must=(
            "xoxb-123456789012-1234567890123-4mt0t4l1yf3k3t0k3n0aBcDe",
            "xapp-1-A0123456789-1234567890123-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
        must_not=("xoxb-123", "xapp-1-A0123456789-notes"),
    ),
    Pattern(
        "slack_webhook", "SECRET_SLACK_WEBHOOK",
        r"https://hooks\.slack\.com/(?:services|workflows)/T[A-Za-z0-9]{6,14}/[AB][A-Za-z0-9]{6,14}/[A-Za-z0-9/]{15,60}",
        "Slack webhook",
        not_before=_ALNUM, must=("https://hooks.slack.com/services/T00000000/B00000000/aB3dE5fG7hJ9kL1mN3pQ5rS7",),
        must_not=("https://hooks.slack.com/services/",),
    ),
    Pattern(
        "stripe_key", "SECRET_STRIPE_KEY", r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,240}|whsec_[A-Za-z0-9]{24,80}",
        "Stripe secret key",
        not_before=_ALNUM, check=_random, must=("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "whsec_aB3dE5fG7hJ9kL1mN3pQ5rS7tU9v"),
        must_not=("pk_live_4eC39HqLyjWDarjtT1zdp7dc", "sk_live_short"),
    ),
    Pattern(
        "anthropic_key", "SECRET_ANTHROPIC_KEY", r"sk-ant-[A-Za-z0-9_\-]{20,240}[A-Za-z0-9]", "Anthropic key",
        not_before=_ALNUM, check=_random, must=("sk-ant-api03-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY",), must_not=("sk-ant-",),
    ),
    Pattern(
        "dashscope_key", "SECRET_DASHSCOPE_KEY", r"sk-[0-9a-f]{32}", "DashScope (Model Studio) key",
        not_before=_ALNUM, not_after=_ALNUM, check=_random,
        must=("sk-0123456789abcdef0123456789abcde1", "密钥是sk-3f9a1c5e7b2d4f6a8c0e1b3d5f7a9c2e请保密"),
        must_not=("sk-0123456789abcdef0123456789abcde", "sk-00000000000000000000000000000000"),
    ),
    Pattern(
        "openai_key", "SECRET_OPENAI_KEY", r"sk-[A-Za-z0-9_\-]{19,299}[A-Za-z0-9]", "OpenAI key, and others of that form",
        not_before=_ALNUM, check=_openai,
        must=("sk-proj-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5", "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"),
        must_not=("sk-learn-contrib-with-long-names-here", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "task-force-and-more-words-here-12"),
    ),
    Pattern(
        "aliyun_access_key", "SECRET_ALIYUN_ACCESS_KEY", r"LTAI[A-Za-z0-9]{12,26}", "Alibaba Cloud access key id",
        not_before=_ALNUM, not_after=_ALNUM, check=_random, must=("LTAI5tAb3dE5fG7hJ9kL1mN3", "阿里云LTAI4FaB3dE5fG7hJ9kL"),
        must_not=("LTAI12",),
    ),
    Pattern(
        "aliyun_secret_key", "SECRET_ALIYUN_SECRET_KEY", r"[A-Za-z0-9]{30}", "Alibaba Cloud access key secret, after its name",
        not_before=_ALNUM, not_after=_ALNUM, check=mixed,
        lead=rf"(?i)(?:access|aliyun|alibaba|oss|secret)[a-z0-9_ .\-]{{0,30}}{_QUOTED}",
        must=("AccessKeySecret: aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1", "access_key_secret是aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1"),
        must_not=("aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1",),
    ),
    Pattern(
        "tencent_secret_id", "SECRET_TENCENT_SECRET_ID", r"AKID[A-Za-z0-9]{32}", "Tencent Cloud secret id",
        not_before=_ALNUM, not_after=_ALNUM, check=_random, must=("AKIDaB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY",), must_not=("AKIDab",),
    ),
    Pattern(
        "google_api_key", "SECRET_GOOGLE_API_KEY", r"AIza[A-Za-z0-9_\-]{35}", "Google API key",
        not_before=_ALNUM, not_after=_ALNUM, check=_random, must=("AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",),
        must_not=("AIzaSy",),
    ),
    Pattern(
        "google_oauth", "SECRET_GOOGLE_OAUTH", r"GOCSPX-[A-Za-z0-9_\-]{28}|ya29\.[A-Za-z0-9_\-]{30,240}",
        "Google OAuth secret or token",
        not_before=_ALNUM, check=_random, must=("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",), must_not=("ya29.short",),
    ),
    Pattern(
        "jwt", "SECRET_JWT", r"ey[A-Za-z0-9_\-]{14,}\.[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*", "JSON web token",
        not_before="A-Za-z0-9_\\-", check=_jwt, reach=8192,
        must=("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",),
        must_not=("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "eyes.wide.shut", "eyAAAAAAAAAAAAAAAAAA.AAAA.AAAA"),
    ),
    Pattern(
        "huggingface_token", "SECRET_HUGGINGFACE_TOKEN", r"hf_[A-Za-z0-9]{30,40}", "Hugging Face token",
        not_before=_ALNUM, not_after=_ALNUM, check=_random, must=("hf_aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",),
        must_not=("hf_hub_download",),
    ),
    Pattern(
        "package_token", "SECRET_PACKAGE_TOKEN", r"npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_\-]{50,240}", "npm or PyPI token",
        not_before=_ALNUM, check=_random, must=("npm_aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5",), must_not=("npm_config_registry",),
    ),
    Pattern(
        "sendgrid_key", "SECRET_SENDGRID_KEY", r"SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}", "SendGrid key",
        not_before=_ALNUM, check=_random, must=("SG.aB3dE5fG7hJ9kL1mN3pQ5r.aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7dE9f",),
        must_not=("SG.x.y",),
    ),
    Pattern(
        "telegram_token", "SECRET_TELEGRAM_TOKEN", r"\d{8,10}:AA[A-Za-z0-9_\-]{33}", "Telegram bot token",
        not_before=_ALNUM, not_after=_ALNUM, check=_random, must=("110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawx",),
        must_not=("110201543:AAH",),
    ),
    Pattern(
        "azure_key", "SECRET_AZURE_KEY", r"[A-Za-z0-9+/]{40,88}={0,2}", "Key in an Azure connection string",
        not_before="A-Za-z0-9+/", check=mixed, lead=r"(?i)(?:account|sharedaccess|primary|secondary)key\s?=\s?",
        must=("AccountName=a;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;",),
        must_not=("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq",),
    ),
    *(catalogue.named("url_with_credentials")),
    Pattern(
        "bearer_token", "SECRET_BEARER_TOKEN", r"[A-Za-z0-9_\-.~+/]{20,500}={0,2}", "Token of an Authorization header",
        not_before="A-Za-z0-9_\\-.~+/", check=assigned, lead=r"(?i)bearer\s{1,3}",
        must=("Authorization: Bearer aB3dE5fG7hJ9kL1mN3pQ5rS7", "bearer 123e4567-e89b-12d3-a456-426614174000"),
        must_not=("the bearer of-this-letter-is-a-friend",),
    ),
    Pattern(
        "basic_auth", "SECRET_BASIC_AUTH", r"[A-Za-z0-9+/]{6,500}={0,2}",
        "Name and password of an Authorization header, in base64",
        not_before="A-Za-z0-9+/", not_after="A-Za-z0-9+/", check=basic,
        lead=r"(?i)authorization[\"'\]]{0,2}\s{0,3}[:=,]\s{0,3}[\"'`]?basic\s{1,3}",
        must=("Authorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l", "{'Authorization': 'Basic dTpwYXNzd29yZA=='}"),
        must_not=("Authorization: Basic authentication", "the basic YWxhZGRpbjpvcGVuc2VzYW1l"),
    ),
    Pattern(
        "api_key", "SECRET_API_KEY", r"[A-Za-z0-9_\-+/.~]{16,300}={0,2}", "Key or token that something is set to",
        not_before="A-Za-z0-9_\\-+/.~", check=assigned,
        lead=rf"(?i)(?:(?:api|app|application|auth|access|account|admin|bot|client|consumer|deploy|encrypt|encryption|license|master"
        rf"|private|service|session|shared|signing|storage|subscription|webhook)[ _.\-]{{0,2}}key"
        rf"|secret|token|credential|密钥|秘钥|令牌)"
        rf"[a-z0-9_.\- ]{{0,20}}{_QUOTED}|(?:^|[^a-z])auth[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']",
        must=('api_key = "aB3dE5fG7hJ9kL1m"', "密钥：aB3dE5fG7hJ9kL1mN3", "CLIENT_SECRET=9f8e7d6c5b4a39281706f5e4"),
        must_not=(
            'api_key = "YOUR_API_KEY_HERE_123"', "api_key = os.environ.get1234567890", "api docs: https",
            "app: web-frontend-7f9c6d5b4a3e2d1c",
        ),
    ),
    Pattern(
        "password", "SECRET_PASSWORD",
        r"[!#$%&(*+\-./0-9<?@A-Z\[\]^_a-z{|}~][!#$%&(*+\-./0-9:<=>?@A-Z\[\]^_a-z{|}~]{5,127}",
        "Password that something is set to",
        not_before=_ALNUM, check=password,
        lead=_PASSWORD + r"[\"'`]?",
        must=(
            'password = "hunter2!"', "密码是Abc123456", "密码为123456", "数据库密码：P@ssw0rd!2024。",
            "Server=x;Pwd=s3cr3tPw;Database=d",
        ),
        must_not=("password: required", "password = ********", "password = get_password()", "passwords are hashed", "密码错误"),
    ),
    Pattern(
        "password", "SECRET_PASSWORD", r"[^\s\"'`]{6,128}", "Password between quotes",
        check=password, lead=_PASSWORD + r"[\"'`]",
        must=('password = "pa;ss,w)0rd"', "pwd: '密码Abc123'"),
        must_not=('password = "required"', "password = pa;ss", 'password = "${DB_PASS1}"'),
    ),
)  # fmt: skip
"""Every kind, the more telling ones first."""


KINDS: tuple[str, ...] = tuple(sorted({pattern.entity for pattern in SECRETS if pattern.entity is not None}))


class Secrets(Patterns):
    """A local detector (detect/api.py) over all kinds, or those of some entities."""

    def __init__(self, id: str, category: str, entities: Sequence[str] = ()) -> None:
        wanted = frozenset(entities) or frozenset(KINDS)
        chosen = [pattern for pattern in SECRETS if pattern.entity in wanted]
        super().__init__(id, chosen, [category] * len(chosen))
