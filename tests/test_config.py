"""Where settings come from, which route a request takes, and what is said of a broken configuration."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from moderation.config import Config, ConfigError, load
from moderation.document import Document, Place, Where
from moderation.errors import Refused
from moderation.routes import Client, Match, Route
from moderation.settings import SETTINGS, Setting, Unfit, plain_path
from tests.authority import Authority

BASE = "https://qwen.test/compatible-mode/v1"


def read(flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None, file: object = None,
         name: str = "moderation.yaml") -> Config:
    """load() with a file that holds `file`; its places read as moderation.yaml:<path>."""

    def read_file(path: Path) -> bytes:
        if file is None or str(path) != name:
            raise FileNotFoundError(2, "No such file")
        return b"-"

    def read_yaml(shown: str, raw: bytes) -> Document:
        def at(place: Place) -> Where:
            return Where(0, 0, ":".join([shown, *map(str, place)]))

        return Document(shown, file, at, at)

    return load(flags or {}, environ or {}, read_file, read_yaml)


def faults(**sources: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(**sources)  # type: ignore[arg-type]
    assert str(caught.value) == "\n".join(str(fault) for fault in caught.value.faults)
    return [str(fault) for fault in caught.value.faults]


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


# --- sources

def test_flag_beats_environment_beats_file_beats_default() -> None:
    file = {"upstream": BASE, "port": 3, "host": "h3", "drain": "3s"}
    environ = {"MODERATION_PORT": "2", "MODERATION_HOST": "h2"}
    config = read({"port": "1"}, environ, file)
    assert (config.port, config.host, config.drain, config.max_streams) == (1, "h2", 3.0, 1000)


def test_an_empty_variable_is_not_set() -> None:
    assert read({"upstream": BASE}, {"MODERATION_PORT": ""}).port == 8080


def test_the_file_may_be_named_by_flag_or_variable_and_must_then_be_there() -> None:
    file = {"upstream": BASE, "port": 7}
    assert read({"config": "etc/m.yaml"}, file=file, name="etc/m.yaml").port == 7
    assert read({}, {"MODERATION_CONFIG": "etc/m.yaml"}, file, "etc/m.yaml").port == 7
    assert faults(flags={"config": "gone.yaml"}) == ["gone.yaml config: there is no such file"]
    assert read({"upstream": BASE}).config is None


def test_paths_in_the_file_are_beside_the_file() -> None:
    route = {"name": "a", "match": {"port": 1}, "policy": "q.yaml"}
    file = {"upstream": BASE, "policy": "p.yaml", "data": "/var/log/m", "routes": [route]}
    config = read({"config": "etc/m.yaml", "keys": "k"}, file=file, name="etc/m.yaml")
    assert (config.policy, config.data, config.keys, config.routes[0].policy) == ("etc/p.yaml", "/var/log/m", "k", "etc/q.yaml")


def test_config_has_every_setting_and_the_default_of_each() -> None:
    config = read({"upstream": BASE})
    assert [each.name for each in fields(Config)][:len(SETTINGS)] == [setting.name for setting in SETTINGS]
    for setting in SETTINGS:
        assert getattr(config, setting.name) == (BASE if setting.name == "upstream" else setting.default), setting.name


def test_defaults_are_values_that_could_be_written() -> None:
    for setting in SETTINGS:
        if setting.default is not None and setting.default != ():
            assert setting.kind.read(setting.shown_default) == setting.default, setting.name


def test_secrets_are_not_shown() -> None:
    file = {"clients": [{"name": "a", "key_sha256": sha("k")}]}
    environ = {"MODERATION_ADMIN_TOKEN": "a-token-of-seventeen", "QWEN": "sk-upstream",
               "MODERATION_UPSTREAM_PROXY_AUTH": "me:the-proxys-password"}
    shown = repr(read({"upstream": BASE, "upstream_key_env": "QWEN"}, environ, file))
    assert "proxys" not in shown
    assert faults(flags={"upstream": BASE}, environ={"MODERATION_UPSTREAM_PROXY_AUTH": "no-colon"}) == [
        "MODERATION_UPSTREAM_PROXY_AUTH upstream_proxy_auth: expected USER:PASSWORD."]
    [fault] = faults(flags={"upstream": BASE, "upstream_proxy": "http://me:hidden@proxy.test:3128"})
    assert fault.startswith("--upstream-proxy upstream_proxy: expected a proxy like")
    assert "hidden" not in fault
    assert "token-of" not in shown
    assert "sk-upstream" not in shown
    assert sha("k") not in shown
    assert faults(flags={"upstream": BASE}, environ={"MODERATION_ADMIN_TOKEN": "short secret"}) == [
        "MODERATION_ADMIN_TOKEN admin_token: expected 16 to 512 printable ASCII characters without spaces."]


YAML = b"""# how we run it
upstream: https://qwen.test/compatible-mode/v1
port: 9000
drain: 5s
passthrough: [embeddings]
routes:
  - name: payroll
    match: {path: /payroll}
    durability: often
"""


def test_a_real_file_with_real_places(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(YAML.replace(b"often", b"fast"))
    config = load({"config": str(path)}, {})
    assert (config.port, config.drain, config.passthrough, config.routes[0].durability) == (9000, 5.0, ("/embeddings",), "fast")
    path.write_bytes(YAML)
    with pytest.raises(ConfigError) as caught:
        load({"config": str(path)}, {})
    assert str(caught.value) == f"{path}:9:17 routes.durability: expected one of strict, fast, got 'often'."


@pytest.mark.parametrize(("raw", "start"), [
    (b"a: [", "m.yaml:"), (b"port: 1\nport: 2\n", "m.yaml:2:1 QP007"), (b"\xff", "m.yaml:1:1 QP002"),
    (b"port: &x 1", "m.yaml:1:7 QP004"),
    (b"- a", "m.yaml:1:1 expected `setting: value` lines"),
])
def test_files_that_are_no_settings(raw: bytes, start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"config": "m.yaml", "upstream": BASE}, {}, lambda _: raw)
    assert str(caught.value).startswith(start)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("raw", [b"", b"\n# nothing yet\n  # at all\n"])
def test_a_file_of_comments_is_no_fault(raw: bytes) -> None:
    assert load({"upstream": BASE}, {}, lambda _: raw).port == 8080


ALL_AT_ONCE = [
    ("an unknown setting hides nothing", """\
upstream: https://qwen.test
prot: 8080
drain: x
clients:
  - {name: a b, key_sha256: short}
routes:
  - {nmae: a, match: {pth: /a}, durability: often}
port: 70000
""", [
        "2:1 unknown setting 'prot'. Did you mean 'port'?",
        "3:8 drain: expected a time",
        "5:12 clients.name: expected a name",
        "5:29 clients.key_sha256: expected the SHA-256",
        "7:6 routes: unknown key 'nmae'. Did you mean 'name'?",
        "7:23 routes.match: unknown key 'pth'. Did you mean 'path'?",
        "7:45 routes.durability: expected one of strict, fast",
        "8:7 port: expected a whole number",
    ]),
    ("one key of a section misspelt", "upstrem: https://qwen.test\n", ["1:1 unknown setting 'upstrem'. Did you mean 'upstream'?"]),
    ("clients misspelt", "upstream: https://qwen.test\ncleints: [{name: a}]\nroutes: [{name: r, match: {key: a}}]\n",
     ["2:1 unknown setting 'cleints'. Did you mean 'clients'?"]),
    ("routes misspelt", "route: [{name: r, upstream: https://qwen.test}]\n", ["1:1 unknown setting 'route'. Did you mean 'routes'?"]),
    ("far from anything", "upstream: https://qwen.test\nxyzzy: 1\n", ["2:1 unknown setting 'xyzzy'. Known: upstream, policy,"]),
    ("a setting that is no line of the file", "upstream: https://qwen.test\nadmin_token: abc\n",
     ["2:1 admin_token: cannot be set here; set MODERATION_ADMIN_TOKEN"]),
    ("a key twice", "upstream: https://qwen.test\nport: 1\nport: 2\ndrain: x\n",
     ["3:1 QP007 the key 'port' stands in line 2", "4:8 drain: expected a time"]),
    ("an alias for the upstream", "upstream: *x\ndrain: x\n", ["1:11 QP005 an alias", "2:8 drain: expected a time"]),
    ("a bad upstream", "upstream: qwen.test\nroutes: [{name: r, match: {path: /r}}]\n", ["1:11 upstream: expected a URL"]),
    ("a bad region", "upstream: https://qwen.test\nregion: a b\nroutes: [{name: r, match: {path: /r}, region: cn}]\n",
     ["2:9 region: expected a name"]),
    ("a bad upstream of a region's first route", """\
upstream: https://qwen.test
routes:
  - {name: a, match: {path: /a}, region: eu, upstream: eu.test}
  - {name: b, match: {path: /b}, region: eu}
  - {name: c, match: {path: /c}, region: us}
""", ["3:56 routes.upstream: expected a URL", "5:5 routes: `c` needs an `upstream`"]),
    ("a bad region of a route", """\
upstream: https://qwen.test
routes:
  - {name: a, match: {path: /a}, region: e u, upstream: "https://eu.test"}
  - {name: b, match: {path: /b}, region: eu}
""", ["3:42 routes.region: expected a name"]),
    ("a match that cannot be read takes nothing", """\
upstream: https://qwen.test
routes:
  - {name: a, match: {tenant: x}}
  - {name: b, mach: {path: /b}}
  - {name: c, match: }
  - {name: d, match: {path: /d, port: 0}}
  - {name: e, match: {path: }}
  - {name: f, match: {path: /f}}
""", ["3:23 routes.match: unknown key 'tenant'. Known: path, key, port.", "4:15 routes: unknown key 'mach'. Did you mean 'match'?",
      "5:22 routes.match: expected `path:", "6:39 routes.match.port: expected a fixed port", "7:22 routes.match: expected `path:"]),
    ("names that cannot be read are not the same", """\
upstream: https://qwen.test
routes:
  - {name: a b, match: {path: /a}}
  - {name: c d, match: {path: /c}}
""", ["3:12 routes.name: expected a name", "4:12 routes.name: expected a name"]),
    ("a client whose key is wrong has its name all the same", """\
upstream: https://qwen.test
clients: [{name: hr, key_sha256: short}, {name: web}]
routes:
  - {name: a, match: {key: hr}}
  - {name: b, match: {key: web}}
  - {name: c, match: {key: nobody}}
""", ["2:34 clients.key_sha256: expected the SHA-256", "2:42 clients: needs `key_sha256`", "6:28 routes.match.key: `clients` names no `nobody`"]),
]


@pytest.mark.parametrize(("note", "text", "told"), ALL_AT_ONCE, ids=[row[0] for row in ALL_AT_ONCE])
def test_all_faults_of_a_file_and_no_others_from_top_to_bottom(note: str, text: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"config": "m.yaml"}, {}, lambda _: text.encode())
    said = [str(fault) for fault in caught.value.faults]
    assert len(said) == len(told), said
    for line, start in zip(said, told, strict=True):
        assert line.startswith(f"m.yaml:{start}"), note


_WORDS = st.sampled_from(["upstream", "upstrem", "routes", "route", "clients", "name", "match", "path", "key", "port", "region", "tenant",
                          "key_sha256", "policy", "drain", BASE, "/a", "a", "default", sha("k"), "", "x y"])
_VALUES = st.recursive(st.none() | st.booleans() | st.integers(-1, 70_000) | _WORDS,
                       lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4), max_leaves=12)


def places(raw: bytes) -> list[str]:
    """Where the faults of a file are; none where it is a configuration."""
    try:
        load({"config": "m.yaml", "upstream": BASE}, {}, lambda _: raw)
    except ConfigError as error:
        return [str(fault.where) for fault in error.faults]
    return []


@given(st.dictionaries(_WORDS, _VALUES, max_size=5))
def test_any_file_is_a_configuration_or_told_from_left_to_right(said: dict[str, object]) -> None:
    found = [re.fullmatch(r"m\.yaml:1:([0-9]+)", place) for place in places(json.dumps(said).encode())]
    columns = [int(place[1]) for place in found if place is not None]
    assert len(columns) == len(found)
    assert columns == sorted(columns)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_configuration_or_told(raw: bytes) -> None:
    assert all(place.startswith("m.yaml:") for place in places(raw))


def test_flags_and_variables_come_before_the_file() -> None:
    text = b"upstream: x\nmax_body: x\n"
    with pytest.raises(ConfigError) as caught:
        load({"config": "m.yaml", "drain": "x"}, {"MODERATION_PORT": "x"}, lambda _: text)
    places = [fault.where for fault in caught.value.faults]
    assert places == ["MODERATION_PORT", "--drain", "m.yaml:1:11", "m.yaml:2:11"]


def test_a_flag_stands_for_a_line_that_cannot_be_read() -> None:
    assert faults(flags={"upstream": BASE}, file={"upstrem": "x", "routes": [{"name": "r", "match": {"port": 1}, "region": "eu"}]}) == [
        "moderation.yaml:upstrem unknown setting 'upstrem'. Did you mean 'upstream'?",
        "moderation.yaml:routes:0 routes: `r` needs an `upstream`: region `eu` has none yet, "
        "and a region's text goes to no other region's upstream."]


def test_a_file_that_is_not_there_is_one_fault() -> None:
    assert faults(flags={"config": "gone.yaml", "drain": "x"}) == [
        "gone.yaml config: there is no such file",
        "--drain drain: expected a time like 30, 500ms, 30s, 5m, at most 7 days, got 'x'."]


# --- warnings

VARIABLES = [
    ("MODERATION_PROT", "the variable MODERATION_PROT is no setting and has no effect. Did you mean MODERATION_PORT?"),
    ("MODERATION_CLIENTS", "the variable MODERATION_CLIENTS is no setting and has no effect."),
    ("MODERATION_ADMIN_TOKN", "the variable MODERATION_ADMIN_TOKN is no setting and has no effect. Did you mean MODERATION_ADMIN_TOKEN?"),
    ("MODERATION_ADMIN_TOKEN", None), ("MODERATION_CONFIG", None), ("MODERATION_DRAIN", None),
    ("MODERATION_KEY_OF_QWEN", None), ("MODERATION_KEY_OF_EU", None),
    ("MODERATION_SERVICE_HOST", None), ("MODERATION_PORT_8080_TCP_ADDR", None), ("MODERATION_EU_SERVICE_PORT_HTTP", None),
    ("MODERATIONS", None), ("PATH", None),
]


@pytest.mark.parametrize(("name", "warning"), VARIABLES)
def test_a_variable_that_is_no_setting(name: str, warning: str | None) -> None:
    values = {"MODERATION_ADMIN_TOKEN": "a-token-of-seventeen", "MODERATION_CONFIG": "moderation.yaml"}
    environ = {"MODERATION_KEY_OF_QWEN": "k", "MODERATION_KEY_OF_EU": "k", name: values.get(name, "30s")}
    file = {"upstream": BASE, "upstream_key_env": "MODERATION_KEY_OF_QWEN", "routes": [
        {"name": "r", "match": {"port": 1}, "upstream": "https://eu.test", "upstream_key_env": "MODERATION_KEY_OF_EU"}]}
    said = read({}, environ, file).warnings
    assert [line.removesuffix(".") for line in said] == ([warning.removesuffix(".")] if warning else [])


@pytest.mark.parametrize(("host", "clients", "warned"), [
    ("0.0.0.0", False, True), ("::", False, True), ("10.0.0.7", False, True), ("0.0.0.0", True, False), ("127.0.0.1", False, False),
    ("localhost", False, False),
])
def test_a_port_that_anybody_may_use(host: str, clients: bool, warned: bool) -> None:
    file = {"upstream": BASE, "clients": [{"name": "a", "key_sha256": sha("k")}] if clients else []}
    said = read({"host": host}, {}, file).warnings
    assert len(said) == int(warned)
    assert not warned or said[0].startswith("anybody who reaches the port may use it")


# --- authorities

PEM = b"-----BEGIN CERTIFICATE-----\n"


def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(start).not_valid_after(start + timedelta(days=36_500)).sign(key, SHA256()))
    return made.public_bytes(Encoding.PEM)


GOOD_PEM = certificate()
AUTHORITIES = [
    ("one", GOOD_PEM, None), ("with comments, in any encoding", b"# \xe9\xff\n" + GOOD_PEM + b"# end\n" + certificate(), None),
    ("empty", b"", "expected a PEM file of certificates; ca.pem holds none."),
    ("no certificate", b"hello", "expected a PEM file of certificates; ca.pem holds none."),
    ("cut off", GOOD_PEM[:-60], "expected a PEM file of certificates; ca.pem holds none."),
    ("nonsense inside", PEM + b"AAAA\n-----END CERTIFICATE-----\n", "expected a PEM file of certificates; ca.pem holds none."),
    ("not there", None, "ca.pem cannot be read: No such file"),
]


@pytest.mark.parametrize(("note", "raw", "problem"), AUTHORITIES, ids=[row[0] for row in AUTHORITIES])
@pytest.mark.parametrize(("file", "where"), [(b"", "--upstream-ca"), (b"upstream_ca: ca.pem\n", "moderation.yaml:1:14")])
def test_authorities_are_looked_at(note: str, raw: bytes | None, problem: str | None, file: bytes, where: str) -> None:
    def read_file(path: Path) -> bytes:
        held = {"moderation.yaml": file, "ca.pem": raw}.get(str(path))
        if held is None:
            raise FileNotFoundError(2, "No such file")
        return held

    flags = {"upstream": BASE} if file else {"upstream": BASE, "upstream_ca": "ca.pem"}
    if problem is None:
        assert load(flags, {}, read_file).upstream_ca == "ca.pem"
        return
    with pytest.raises(ConfigError) as caught:
        load(flags, {}, read_file)
    assert str(caught.value).startswith(f"{where} upstream_ca: {problem}"), note


def client_files(folder: Path) -> dict[str, str]:
    """Files of many kinds, by name."""
    (folder / "other").mkdir()
    authority, other = Authority(folder), Authority(folder / "other")
    cert, key = authority.sign("client")
    _, strange = other.sign("stranger")
    _, locked = authority.sign("locked", password=b"secret")
    (folder / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    (folder / "text").write_text("hello")
    return {"cert": str(cert), "key": str(key), "strange": str(strange), "locked": str(locked),
            "both": str(folder / "both.pem"), "text": str(folder / "text"), "gone": str(folder / "gone")}


CLIENT_CERTIFICATES: list[tuple[str, str | None, str | None, str | None]] = [
    ("two files", "cert", "key", None),
    ("one file", "both", None, None),
    ("a key alone", None, "key", "--upstream-client-key upstream_client_key: needs upstream_client_cert beside it."),
    ("no key in the file", "cert", None, "do not hold them."),
    ("no certificate", "text", "key", "expected PEM files of a certificate and of its private key without a password"),
    ("another's key", "cert", "strange", "the certificate and the private key do not belong together."),
    ("a key with a password", "cert", "locked", "without a password"),
    ("a certificate that is not there", "gone", "key", "cannot be read: No such file or directory."),
    ("a key that is not there", "cert", "gone", "cannot be read: No such file or directory."),
]


@pytest.mark.parametrize(("note", "cert", "key", "problem"), CLIENT_CERTIFICATES, ids=[row[0] for row in CLIENT_CERTIFICATES])
def test_a_client_certificate_is_looked_at(tmp_path: Path, note: str, cert: str | None, key: str | None, problem: str | None) -> None:
    files = client_files(tmp_path)
    flags = {"upstream": BASE, "upstream_client_cert": files.get(cert or ""), "upstream_client_key": files.get(key or "")}
    if problem is None:
        config = read(flags)
        assert (config.upstream_client_cert, config.upstream_client_key) == (files[cert or ""], files.get(key or ""))
        return
    [fault] = faults(flags=flags)
    assert fault.startswith("--upstream-client-"), note
    assert problem in fault, note


# --- values

GOOD = [
    ("upstream", "https://h/compatible-mode/v1/", "https://h/compatible-mode/v1", "a slash at the end means nothing"),
    ("upstream", "http://127.0.0.1:9", "http://127.0.0.1:9", "an origin alone"),
    ("upstream", "http://[::1]:9/v1", "http://[::1]:9/v1", "IPv6"),
    ("port", "0", 0, "any free port"),
    ("upstream_proxy", "http://proxy.test:3128/", "http://proxy.test:3128", "a proxy"),
    ("upstream_connections", "0", 0, "no limit"),
    ("max_memory", "1MiB", 1 << 20, "a size"),
    ("max_wait", "0", 0.0, "for ever"),
    ("drain", "500ms", 0.5, "a unit"),
    ("drain", "2m", 120.0, "a unit"),
    ("drain", "1.5", 1.5, "seconds where there is no unit"),
    ("max_body", "64KiB", 65_536, "binary"),
    ("max_body", "1mb", 1_000_000, "decimal, any case"),
    ("passthrough", "embeddings, /files/", ("/embeddings", "/files"), "with or without slashes"),
    ("upstream_key_env", "PATH", "PATH", "a variable's name"),
]


@pytest.mark.parametrize(("name", "text", "value", "note"), GOOD, ids=[f"{row[0]}={row[1]}" for row in GOOD])
def test_values_that_fit(name: str, text: str, value: object, note: str) -> None:
    config = read({"upstream": BASE, name: text}, {"PATH": "key"})
    assert getattr(config, name) == value, note


BAD = [
    ("upstream", "qwen.test/v1", "no scheme"),
    ("upstream", "ftp://qwen.test", "not HTTP"),
    ("upstream_proxy", "https://proxy.test:3128", "not spoken to over TLS"),
    ("upstream_proxy", "socks5://proxy.test:1080", "no HTTP proxy"),
    ("upstream_proxy", "http://proxy.test:3128/path", "a path"),
    ("upstream_proxy", "proxy.test:3128", "no scheme"),
    ("upstream_connections", "-1", "fewer than none"),
    ("upstream", "https://user:pass@qwen.test", "a password in a URL ends up in logs"),
    ("upstream", "https://qwen.test/v1?x=1", "a query"),
    ("upstream", "https://qwen.test:99999", "no such port"),
    ("upstream", "https://", "no host"),
    ("upstream", "https://[::1", "a bracket that is never closed"), ("upstream", "https://[x]:1", "no address in brackets"),
    ("upstream", "https://qwen.test/../v1", "dots"),
    ("port", "65536", "too large"), ("port", "-1", "negative"), ("port", "8080x", "not a number"), ("port", "٣", "not our digit"),
    ("port", "tcp://10.0.0.1:80", "what Kubernetes sets"),
    ("drain", "fast", "not a time"), ("drain", "8000000", "too long"), ("max_body", "0", "nothing would fit"),
    ("max_body", "1.5MiB", "not whole"), ("durability", "Strict", "case"), ("block_as", "", "empty"),
    ("block_code", "with space", "a space"), ("passthrough", "../files", "dots"), ("tenant", "a b", "a space"),
    ("upstream_key_env", "sk-123", "the key itself, not the variable's name"), ("log_level", "trace", "not a level"),
]


@pytest.mark.parametrize(("name", "text", "note"), BAD, ids=[f"{row[0]}={row[1]}" for row in BAD])
def test_values_that_do_not_fit_are_told_with_source_and_expectation(name: str, text: str, note: str) -> None:
    said = faults(flags={"upstream": BASE, name: text})
    flag = "--" + name.replace("_", "-")
    assert len(said) == 1, note
    assert said[0].startswith(f"{flag} {name}: expected "), note
    if text:
        variable = f"MODERATION_{name.upper()}"
        assert faults(file={"upstream": BASE}, environ={variable: text})[0].startswith(f"{variable} {name}: expected ")
        assert faults(file={"upstream": BASE, name: text})[0].startswith(f"moderation.yaml:{name} {name}: expected ")


@pytest.mark.parametrize("value", [True, 1.5, [], {}, "x" * 500, {"a": 1}], ids=repr)
def test_yaml_values_of_any_type_are_told(value: object) -> None:
    said = faults(file={"upstream": BASE, "port": value})
    assert said[0].startswith("moderation.yaml:port port: expected a whole number from 0 to 65535, got ")
    assert len(said[0]) < 200


def test_the_kubernetes_trap_is_named() -> None:
    assert "enableServiceLinks" in faults(flags={"upstream": BASE}, environ={"MODERATION_PORT": "tcp://10.0.0.1:80"})[0]


def test_all_faults_at_once_with_the_nearest_word() -> None:
    said = faults(flags={"port": "x"}, file={"upstrem": BASE, "drain": "x", "admin_token": "t" * 20, "zzz": 1})
    assert said == [
        "moderation.yaml:upstrem unknown setting 'upstrem'. Did you mean 'upstream'?",
        "moderation.yaml:admin_token admin_token: cannot be set here; set MODERATION_ADMIN_TOKEN",
        "moderation.yaml:zzz unknown setting 'zzz'. Known: "
        + ", ".join([s.name for s in SETTINGS if s.file] + ["routes", "clients"]) + ".",
        "--port port: expected a whole number from 0 to 65535, got 'x'.",
        "moderation.yaml:drain drain: expected a time like 30, 500ms, 30s, 5m, at most 7 days, got 'x'.",
    ]


@given(st.sampled_from(SETTINGS), st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.text())))
def test_any_value_is_read_or_told(setting: Setting, value: object) -> None:
    def outcome() -> str:
        try:
            return f"{setting.kind.read(value)}"
        except Unfit as unfit:
            return f"told {unfit}"

    assert outcome() != "told "


def test_a_file_that_is_not_a_mapping() -> None:
    assert faults(file=["x"]) == ["moderation.yaml expected `setting: value` lines"]


# --- routes

ROUTES = {
    "upstream": BASE, "tenant": "house", "policy": "main.yaml",
    "clients": [{"name": "hr", "key_sha256": sha("hr-key"), "tenant": "acme-hr"}, {"name": "web", "key_sha256": sha("web-key")}],
    "routes": [
        {"name": "payroll", "match": {"path": "/payroll"}, "tenant": "acme", "policy": "payroll.yaml", "durability": "fast"},
        {"name": "eu", "match": {"port": 8081}, "region": "eu", "upstream": "https://eu.test/compatible-mode/v1"},
        {"name": "eu-two", "match": {"path": "/eu", "key": "hr"}, "region": "eu"},
        {"name": "hr", "match": {"key": "hr"}},
    ],
}

TAKES = [
    ("/v1/chat/completions", None, 8080, "default", "/v1/chat/completions", "nothing matches"),
    ("/payroll/v1/chat/completions", None, 8080, "payroll", "/v1/chat/completions", "the prefix is taken off"),
    ("/payroll", None, 8080, "payroll", "/", "the prefix alone"),
    ("/payrolls/v1", None, 8080, "default", "/payrolls/v1", "a prefix ends where a step ends"),
    ("/payroll/v1", "hr", 8081, "payroll", "/v1", "the first match wins"),
    ("/v1/models", None, 8081, "eu", "/v1/models", "by port"),
    ("/eu/v1", "hr", 8080, "eu-two", "/v1", "all of a match must hold"),
    ("/eu/v1", "web", 8080, "default", "/eu/v1", "one part of a match is not enough"),
    ("/v1", "hr", 8080, "hr", "/v1", "by key"),
]


@pytest.mark.parametrize(("path", "client", "port", "route", "rest", "note"), TAKES, ids=[row[5] for row in TAKES])
def test_which_route(path: str, client: str | None, port: int, route: str, rest: str, note: str) -> None:
    found, left = read(file=ROUTES).route_for(path, client, port)
    assert (found.name, left) == (route, rest), note


def test_what_routes_inherit() -> None:
    payroll, eu, eu_two, hr, default = read(file=ROUTES).routes
    assert (payroll.upstream, payroll.policy, payroll.durability, payroll.tenant) == (BASE, "payroll.yaml", "fast", "acme")
    assert (eu.region, eu_two.region, eu_two.upstream) == ("eu", "eu", "https://eu.test/compatible-mode/v1")
    assert (hr.policy, hr.durability, hr.region) == ("main.yaml", "strict", "default")
    assert default == Route("default", BASE, Match(), None, "default", "main.yaml", "strict")


def test_one_default_route_without_any() -> None:
    config = read({"upstream": BASE})
    assert config.route_for("/v1/chat/completions", None, 8080) == (Route("default", BASE), "/v1/chat/completions")
    assert config.ports == (8080,)
    assert read(file=ROUTES).ports == (8080, 8081)


def test_a_catch_all_route_takes_the_place_of_the_default() -> None:
    config = read(file={"routes": [{"name": "all", "upstream": BASE}]})
    assert [route.name for route in config.routes] == ["all"]


def test_without_a_default_upstream_what_no_route_matches_is_refused() -> None:
    config = read(file={"routes": [{"name": "a", "match": {"path": "/a"}, "upstream": BASE}]})
    with pytest.raises(Refused) as caught:
        config.route_for("/b", None, 8080)
    assert caught.value.code == "not_found"


EU = "https://eu.test"
BROKEN = [
    ({"routes": [{"name": "a", "match": {"port": 2}, "upstream": EU, "region": "eu"},
                 {"name": "b", "match": {"port": 1}, "upstream": BASE, "region": "eu"}]},
     "moderation.yaml:routes:1:upstream routes.upstream: region `eu` is pinned to https://eu.test", "a region has one upstream"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"port": 1}, "region": "eu"}]},
     "moderation.yaml:routes:0 routes: `a` needs an `upstream`: region `eu` has none", "a region never falls back to another's"),
    ({"upstream": BASE, "region": "cn", "routes": [{"name": "a", "match": {"port": 1}, "region": "cn", "upstream": EU}]},
     "moderation.yaml:routes:0:upstream routes.upstream: region `cn` is pinned", "the main region is pinned too"),
    ({"upstream": BASE, "routes": [{"name": "a"}, {"name": "b", "match": {"port": 1}}]},
     "moderation.yaml:routes:1 routes: an earlier route without `match`", "a route that nothing reaches"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"key": "nobody"}}]},
     "moderation.yaml:routes:0:match:key routes.match.key: `clients` names no `nobody`", "a key of nobody"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"path": "payroll"}}]},
     "moderation.yaml:routes:0:match:path routes.match.path: expected a prefix", "no slash"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"path": "/a/../b"}}]},
     "moderation.yaml:routes:0:match:path routes.match.path: expected a prefix", "dots"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {}}]},
     "moderation.yaml:routes:0:match routes.match: expected", "an empty match is a slip, not a catch-all"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"tenant": "x"}}]},
     "moderation.yaml:routes:0:match:tenant routes.match: unknown key 'tenant'", "an unknown way to match"),
    ({"upstream": BASE, "routes": [{"match": {"port": 1}}]}, "moderation.yaml:routes:0 routes: needs `name`", "no name"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"port": 1}}, {"name": "a", "match": {"port": 2}}]},
     "moderation.yaml:routes:1:name routes.name: another route has this name", "a name twice"),
    ({"upstream": BASE, "routes": [{"name": "default", "match": {"port": 1}}]},
     "moderation.yaml:routes routes.name: `default` is the name of what no route matches", "the default's name"),
    ({"upstream": BASE, "routes": {"name": "a"}}, "moderation.yaml:routes routes: expected a list", "not a list"),
    ({"upstream": BASE, "routes": ["a"]}, "moderation.yaml:routes:0 routes: expected an entry", "not an entry"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"port": 1}, "durability": "often"}]},
     "moderation.yaml:routes:0:durability routes.durability: expected one of strict, fast, got 'often'", "a bad value inside"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"port": 0}}]},
     "moderation.yaml:routes:0:match:port routes.match.port: expected a fixed port", "any port is none"),
    ({"upstream": BASE, "routes": [{"name": "a", "match": {"port": 1}, "upstream_key_env": "NOT_SET"}]},
     "moderation.yaml:routes:0:upstream_key_env upstream_key_env: the variable NOT_SET is not set", "no such variable"),
    ({"upstream": BASE, "clients": [{"name": "a", "key_sha256": "sk-plain"}]},
     "moderation.yaml:clients:0:key_sha256 clients.key_sha256: expected the SHA-256", "the key itself"),
    ({"upstream": BASE, "clients": [{"name": "a", "key_sha256": sha("k")}, {"name": "b", "key_sha256": sha("k").upper()}]},
     "moderation.yaml:clients:1:key_sha256 clients.key_sha256: another client has this key", "one key, two names"),
    ({"upstream": BASE, "clients": [{"name": "a", "key_sha256": sha("k")}, {"name": "a", "key_sha256": sha("l")}]},
     "moderation.yaml:clients:1:name clients.name: another client has this name", "one name, two keys"),
    ({}, "--upstream upstream: expected a URL", "no upstream at all"),
]


@pytest.mark.parametrize(("file", "start", "note"), BROKEN, ids=[row[2] for row in BROKEN])
def test_broken_routes_and_clients(file: object, start: str, note: str) -> None:
    said = faults(file=file)
    assert [line for line in said if line.startswith(start)], (note, said)
    assert len(said) == 1, (note, said)
    assert "sk-plain" not in said[0]


# --- clients and keys

def test_who_asks() -> None:
    config = read(file=ROUTES)
    assert config.client_for("Bearer hr-key") == Client("hr", sha("hr-key"), "acme-hr")
    assert config.client_for("bearer  web-key ") == Client("web", sha("web-key"))
    for header in [None, "", "Bearer", "Bearer ", "Basic hr-key", "hr-key", "Bearer " + sha("hr-key"), "Bearer hr-key x",
                   "Bearer \udcff"]:
        assert config.client_for(header) is None, header


def test_the_clients_tenant_comes_before_the_routes() -> None:
    config = read(file=ROUTES)
    payroll, default = config.routes[0], config.routes[-1]
    hr, web = config.clients
    asked = [(payroll, hr), (payroll, web), (default, web), (default, None)]
    assert [config.tenant_of(route, client) for route, client in asked] == ["acme-hr", "acme", "house", "house"]


def test_an_upstream_key_goes_to_its_own_upstream_alone() -> None:
    file = {"upstream": BASE, "upstream_key_env": "CN", "routes": [
        {"name": "same", "match": {"port": 1}},
        {"name": "other", "match": {"port": 2}, "upstream": EU},
        {"name": "own", "match": {"port": 3}, "upstream": EU, "upstream_key_env": "EU"}]}
    config = read(file=file, environ={"CN": "cn-key ", "EU": "eu-key"})
    assert [route.upstream_key for route in config.routes] == ["cn-key", None, "eu-key", "cn-key"]
    assert faults(file=file, environ={"CN": "a\nb", "EU": "x"}) == [
        "upstream_key_env upstream_key_env: the variable CN holds characters that cannot stand in a header."]


# --- paths

FORWARD = [
    ("https://h/compatible-mode/v1", "/v1/chat/completions", "/chat/completions", "a base URL is served at /v1"),
    ("https://h/compatible-mode/v1", "/v1", "", "the base itself"),
    ("https://h/compatible-mode/v1", "/v10/x", None, "not below /v1"),
    ("https://h/compatible-mode/v1", "/api/v1/x", None, "not below /v1"),
    ("https://h", "/api/v1/x", "/api/v1/x", "an origin is served path by path"),
    ("http://h:80", "/v1/a%20b", "/v1/a%20b", "the path stays as it is"),
]


@pytest.mark.parametrize(("upstream", "path", "goes", "note"), FORWARD, ids=[row[3] + row[1] for row in FORWARD])
def test_where_a_path_goes(upstream: str, path: str, goes: str | None, note: str) -> None:
    assert Route("r", upstream).forward(path) == goes, note


@pytest.mark.parametrize("path", ["/v1/../x", "/v1/chat/..", "/v1/%2e%2E/x", "/v1/./x", "/v1/.%2e/x", "//v1", "/v1//x", "/v1\\x",
                                  "/v1%5cx", "/v1/a%2Fb", "/v1/a b", "/v1/\x00", "/v1/%00", "/v1/x?y", "/v1/x#y"])
def test_murky_paths_are_refused(path: str) -> None:
    assert not plain_path(path)
    with pytest.raises(Refused):
        Route("r", "https://h").forward(path)


@pytest.mark.parametrize("path", ["/v1/...", "/v1/.well-known", "/v1/a..b", "/v1/files/x.y", "/v1/模型", "/"])
def test_plain_paths(path: str) -> None:
    assert plain_path(path)


def test_what_passes_by_name() -> None:
    config = read({"upstream": BASE, "passthrough": "embeddings,/v1/files"})
    for path in ["/embeddings", "/v1/embeddings", "/compatible-mode/v1/files/x/content"]:
        assert config.passes(path), path
    for path in ["/embedding", "/v1/embeddingsx", "/x/embeddings", "/v1", "/v1/chat/completions", "/"]:
        assert not config.passes(path), path


@pytest.mark.parametrize("name", ["chat", "chat/completions", "v1", "compatible-mode", "compatible-mode/v1", "v1/chat",
                                  "v1/chat/completions"])
def test_the_moderated_path_cannot_be_let_through(name: str) -> None:
    said = faults(flags={"upstream": BASE, "passthrough": name})
    assert said[0].startswith(f"--passthrough passthrough: /{name} would let /chat/completions through unmoderated")


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
                                             ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("127.0.0.1.x.test", False)])
def test_loopback(host: str, local: bool) -> None:
    assert read({"upstream": BASE, "host": host}).loopback is local
