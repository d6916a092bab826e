"""The signature against the documentation's worked example, and what changes it."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.guard.acs3 import Credentials, escaped, form, signed

EXAMPLE = {"ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd", "RegionId": "cn-shanghai"}
PAIR = Credentials("YourAccessKeyId", "YourAccessKeySecret")
HOST, DATE, NONCE = "ecs.cn-shanghai.aliyuncs.com", "2023-10-26T10:22:32Z", "3156853299f313e23d1673dc12e1703d"


def test_the_worked_example() -> None:
    headers = signed(PAIR, HOST, "RunInstances", "2014-05-26", DATE, NONCE, query=form(EXAMPLE))
    assert headers == {
        "host": HOST,
        "x-acs-action": "RunInstances",
        "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "x-acs-date": DATE,
        "x-acs-signature-nonce": NONCE,
        "x-acs-version": "2014-05-26",
        "authorization": "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,"
        "SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
    }


def test_every_part_is_signed() -> None:
    def signature(
        pair: Credentials = PAIR, host: str = HOST, action: str = "A", date: str = DATE, nonce: str = NONCE, query: str = "",
        body: bytes = b"x", kind: str | None = "t",
    ) -> str:  # fmt: skip
        headers = signed(pair, host, action, "1", date, nonce, query=query, body=body, content_type=kind)
        return headers["authorization"].rpartition("=")[2]

    changed = [
        signature(), signature(Credentials("YourAccessKeyId", "other")), signature(host="other"), signature(action="B"),
        signature(date="2023-10-26T10:22:33Z"), signature(nonce="0" * 32), signature(query="a=b"), signature(body=b"y"),
        signature(kind=None),
    ]  # fmt: skip
    assert len(set(changed)) == len(changed)


@given(text=st.text(max_size=30))
def test_escaping_is_rfc_3986(text: str) -> None:
    assert escaped(text) == quote(text, safe="~")


@pytest.mark.parametrize(
    ("text", "shown"), [("a b", "a%20b"), ("*", "%2A"), ("~", "~"), ("+/=", "%2B%2F%3D"), ("你", "%E4%BD%A0")]
)
def test_signs_that_others_write_otherwise(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(fields=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=10), max_size=4))
def test_a_form_goes_round(fields: dict[str, str]) -> None:
    assert dict(parse_qsl(form(fields), keep_blank_values=True)) == fields
