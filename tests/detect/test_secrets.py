"""Secrets: each kind by its examples, what only looks like one, whole keys, keys over many lines, and the law."""

from __future__ import annotations

import base64
import json
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.assigned import entropy
from moderation.detect.matcher import Pattern
from moderation.detect.patterns import Patterns
from moderation.detect.secrets import KINDS, SECRETS, Secrets
from moderation.normalise import normalise
from tests.detect.law import check_cuts, check_random, spans, streamed, whole

ALL = Secrets("secrets", "secret")
EXAMPLES = [(p, text, True) for p in SECRETS for text in p.must] + [(p, text, False) for p in SECRETS for text in p.must_not]


@pytest.mark.parametrize(("pattern", "text", "found"), EXAMPLES, ids=[f"{p.name}-{f}-{t[:40]}" for p, t, f in EXAMPLES])
def test_examples(pattern: Pattern, text: str, found: bool) -> None:
    plain = normalise(text).text
    assert len(check_cuts(Patterns("one", [pattern], ["c"]), plain)) == found
    if found:
        assert pattern.entity in {f.entity for f in whole(ALL, plain)}


def test_kinds_are_named_alike() -> None:
    for pattern in SECRETS:
        assert pattern.entity is not None
        assert pattern.entity.startswith("SECRET_")
        assert pattern.must, pattern.name
        assert pattern.must_not, pattern.name
        if pattern.name != "url_with_credentials":
            assert pattern.entity == f"SECRET_{pattern.name.upper()}"
    assert set(KINDS) == {pattern.entity for pattern in SECRETS}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("commit da39a3ee5e6b4b0d3255bfef95601890afd80709 fixes it", "a SHA-1"),
        ("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "a SHA-256"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "a UUID"),
        ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "an image"),
        ("pip install sk-learn and scikit-learn", "a package"),
        ("api_key = YOUR_API_KEY", "a placeholder"),
        ("password: <your password>", "another"),
        ("export OPENAI_API_KEY=$OPENAI_API_KEY", "a variable"),
        ("api_key = os.getenv('OPENAI_API_KEY')", "a call"),
        ("forgot your password? click here", "a question"),
        ("the token: authentication and authorization", "words"),
        ("密码是什么？我忘记密码了", "Chinese talk of passwords"),
        ("https://example.com/path?token=abc", "a short one"),
        ("the client application, 2024-roadmap-q3-final", "a file name"),
        ("token: authentication-handler-v2-prod", "a name of parts"),
        ("access: /etc/keys/prod1/file-of-keys-2024", "a path"),
        ("the password is required for 2 users", "prose"),
        ("task-based risk-aware desk-bound", "words with sk- in them"),
    ],
)
def test_what_only_looks_like_one(text: str, note: str) -> None:
    assert check_cuts(ALL, normalise(text).text) == (), note


@pytest.mark.parametrize(
    "code",
    [
        "password = request.form['password']",
        "const password = req.body.password;",
        "password=hashed_password",
        "password: form.password",
        "password = form.cleaned_data['password1']",
        "if password == user.password1:",
        "this.password = password1;",
        "this.password = newPassword2;",
        "password: Optional[str] = None",
        "password: Mapped<String>",
        "password = config->password2;",
        "password = Settings::password1",
        "password: z.string().min(8)",
        "password = $password1;",
        "PASSWORD=$DB_PASSWORD1",
        "password: !secret mysql_root",
        "password: case-sensitive",
        "WHERE password = :password1",
        "pwd: /home/user/project1",
        "PWD=~/work/project1",
        "PASS: test_login_12",
        "PASS: tests/unit/test_login_1.py",
        "postgresql://${USER}:${PASS}@db",
        "mysql://{user}:{password}@{host}/x",
        "app: web-frontend-7f9c6d5b4a3e2d1c",
        "client: okhttp/4.9.3-20210101-abcdef123456",
        "API-Version: 2023-06-01-preview20231a",
        "access token version: 2023-06-01-preview20231a",
        "private: /home/user/.ssh/id_ed25519abcdefg",
        "private_key: /home/user/.ssh/id_ed25519abcdefg",
        "app version: 1.2.3-build20241105abcdef",
        "signing: SHA256withRSA1234567a",
        "access_token = session.data.user.access_token",
        "compass: N45.1234",
        "bypass: 123456",
        "bypass=192.168.1.0/24",
        "encompass: A1B2C3",
        "trespass: 2nd-degree",
        "boarding pass: AB12345",
        "private_key: ed25519.Ed25519PrivateKey",
        "a tokenizer: //cdn.example.org/models/tok-rules-part1.txt",
        "type Login { password: String! }",
        "password: Joi.string().min(6)",
        "password: {{ vault_db_password }}",
        "password: ${{ secrets.DB_PASSWORD }}",
        "const pwd = path.resolve(__dirname1)",
    ],
)
def test_code_is_not_damaged(code: str) -> None:
    assert check_cuts(ALL, normalise(code).text) == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("password: Passw0rd!", "Passw0rd!"),
        ("DB_PASS=Sup3rSecret!!", "Sup3rSecret!!"),
        ("密码：Aa123456!。", "Aa123456!"),
        ("password: Passw0rd. Next", "Passw0rd"),
        ("(password: Abc123!)", "Abc123!"),
        ("密码是：Abc@123！", "Abc@123!"),
        ("the password is: Abc@123", "Abc@123"),
        ('_auth = "dXNlcjpwYXNzd29yZDEyMw=="', "dXNlcjpwYXNzd29yZDEyMw=="),
        ("client_secret: aB38Q~dE5fG7hJ9kL1mN3pQ", "aB38Q~dE5fG7hJ9kL1mN3pQ"),
        ("password=1b[c]2{d}", "1b[c]2{d}"),
        ("pass: hunter2x", "hunter2x"),
        ("dbpass=hunter2x", "hunter2x"),
        ("my password is Password1", "Password1"),
        ("my password is password1", "password1"),
        ('"password": "req.body.x1"', "req.body.x1"),
        ('password = "a;b,c)d1"', "a;b,c)d1"),
        ("password = 'Abc123!?'", "Abc123!?"),
        ("passphrase: correct-horse-battery-staple", "correct-horse-battery-staple"),
        ("curl -H 'Authorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l'", "YWxhZGRpbjpvcGVuc2VzYW1l"),
        ('"auth": "aB3dE5fG7hJ9kL1mN3pQ"', "aB3dE5fG7hJ9kL1mN3pQ"),
        (f"SLACK_APP=xapp-1-A0123456789-1234567890123-{'0a1b2c3d' * 8}", f"xapp-1-A0123456789-1234567890123-{'0a1b2c3d' * 8}"),
        ("api_key = 12345678-1234-4abc-8def-1234567890ab", "12345678-1234-4abc-8def-1234567890ab"),
    ],
)
def test_a_secret_is_taken_whole(text: str, value: str) -> None:
    plain = normalise(text).text
    assert [found for _, found in spans(check_cuts(ALL, plain), plain)] == [value]


def pem(lines: int) -> str:
    random = Random(3)
    body = "\n".join(base64.b64encode(random.randbytes(48)).decode() for _ in range(lines))
    return f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"


def test_a_private_key_is_whole_and_nothing_of_it_goes_out_early() -> None:
    key = pem(25)
    text = f"here it is:\n{key}\nthanks"
    assert spans(whole(ALL, text), text) == [("private_key", key)]
    found, holds = streamed(ALL, [text[i : i + 7] for i in range(0, len(text), 7)])
    assert spans(found, text) == [("private_key", key)]
    assert not any(text.index(key) < hold < text.index(key) + len(key) for hold in holds)


def test_an_unfinished_private_key_counts() -> None:
    key = pem(5).rsplit("\n", 1)[0]
    for text in (f"x {key}", f"x {key}\nMIIab", f"x {key} and then words"):
        ((name, value),) = spans(check_random(ALL, text, Random(1)), text)
        assert name == "private_key"
        assert value.startswith(key)
        assert not value.endswith("words")


def test_a_key_longer_than_reach_does_not_hold_for_ever() -> None:
    text = "-----BEGIN PRIVATE KEY-----\n" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY\n" * 700
    _, holds = streamed(ALL, [text[i : i + 997] for i in range(0, len(text), 997)])
    assert holds[-2] >= len(text) - ALL.reach
    assert spans(whole(ALL, text), text)[0][0] == "private_key"


def test_a_token_is_whole() -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    token = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': '1', 'name': 'x' * 900})}.{'aB3_-' * 9}"
    text = f"Authorization: Bearer {token} ok"
    assert spans(check_random(ALL, text, Random(2), 10), text) == [("jwt", token)]


def test_checksum_of_github_tokens() -> None:
    (good,) = whole(ALL, "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")
    (bad,) = whole(ALL, "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18")
    assert (good.score, bad.score) == (1_000_000, 900_000)


def test_some_kinds_only() -> None:
    some = Secrets("secrets", "secret", ["SECRET_JWT"])
    assert whole(some, "AKIAIOSFODNN7EXAMPLE") == ()
    assert some.version != ALL.version


def test_entropy() -> None:
    assert entropy("") == entropy("aaaa") == 0.0
    assert entropy("abcd") == 2.0


PARTS = st.sampled_from(
    [text for p in SECRETS for text in (*p.must, *p.must_not) if len(text) < 200]
    + [" ", "\n", "=", "password = ", "api_key: '", "密码是", "-----BEGIN ", "eyJ", "sk-", '"', "Bearer ", "aB3dE5fG7hJ9kL1mN3", "。"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PARTS, max_size=6), st.randoms(use_true_random=False))
def test_law_over_mixtures(parts: list[str], random: Random) -> None:
    check_random(ALL, normalise("".join(parts)).text, random)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_law_over_any_text(text: str) -> None:
    check_cuts(ALL, normalise(text).text)


@pytest.mark.parametrize("text", ["password: a " * 20_000, "-----BEGIN PRIVATE KEY-----" * 9_000, "eyJ" * 100_000, "sk-" * 30_000])
def test_long_texts_are_linear(text: str) -> None:
    begun = time.process_time()
    ALL.scan(text, 0, final=True)
    assert time.process_time() - begun < 5.0
