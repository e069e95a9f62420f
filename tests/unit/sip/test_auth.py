"""Digest: the vectors of the RFCs, and everything that must not be accepted; nonces."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from pbx_sip.address import network_of
from pbx_sip.auth.digest import (
    STRONGEST_FIRST,
    Challenge,
    Credentials,
    account_of,
    digest,
    ha1,
    respond,
    select,
    verify,
)
from pbx_sip.auth.nonce import NonceMinter, NonceVerdict
from pbx_sip.errors import RemoteError

# RFC 7616 section 3.9.1: user Mufasa, password "Circle of Life".
REALM, NONCE = "http-auth@example.org", "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
VECTORS = [
    ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
    ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
]


def rfc7616(algorithm: str, response: str) -> Credentials:
    return Credentials("Mufasa", REALM, NONCE, "/dir/index.html", response, algorithm, CNONCE, "auth", "00000001")


@pytest.mark.parametrize(("algorithm", "response"), VECTORS)
def test_the_vectors_of_rfc_7616(algorithm: str, response: str):
    hashed = ha1(algorithm, "Mufasa", REALM, "Circle of Life")
    assert verify(rfc7616(algorithm, response), hashed, "GET")
    assert not verify(rfc7616(algorithm, response), hashed, "POST")


def test_the_vector_of_rfc_2617():
    value = (
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", '
        'response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    hashed = ha1("MD5", "Mufasa", "testrealm@host.com", "Circle Of Life")
    assert verify(Credentials.parse(value), hashed, "GET")


@pytest.mark.parametrize("algorithm", STRONGEST_FIRST)
@pytest.mark.parametrize("qop", [("auth",), ("auth-int",), ()])
def test_what_we_answer_we_accept_and_nothing_else(algorithm: str, qop: tuple[str, ...]):
    challenge = Challenge("pbx.local", "abc", algorithm, qop)
    assert Challenge.parse(str(challenge)) == challenge
    good = respond(challenge, "1004", "secret", "INVITE", "sip:1008@pbx.local", cnonce="c", body=b"v=0")
    good = Credentials.parse(str(good))
    hashed = ha1(algorithm, "1004", "pbx.local", "secret")
    assert verify(good, hashed, "INVITE", b"v=0")
    assert not verify(good, ha1(algorithm, "1004", "pbx.local", "wrong"), "INVITE", b"v=0")
    assert not verify(good, hashed, "BYE", b"v=0")
    assert not verify(replace(good, uri="sip:x@y"), hashed, "INVITE", b"v=0")
    assert not verify(replace(good, nonce="abx"), hashed, "INVITE", b"v=0")
    if qop == ("auth-int",):
        assert not verify(good, hashed, "INVITE", b"v=1")


def test_unknown_algorithms_and_qops_are_refused_not_crashed_on():
    good = rfc7616("MD5", "x" * 32)
    assert not verify(replace(good, algorithm="SHA-1"), "x", "GET")
    assert not verify(replace(good, qop="auth-conf"), "x", "GET")
    assert not verify(replace(good, response="é"), "x", "GET")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic abc",
        "Digest",
        'Digest username="a"',
        'Digest username="a", username="b", realm="r", nonce="n", uri="u", response="x"',
        'Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth',
        'Digest username="a, realm="r", nonce="n", uri="u", response="x"',
        "Digest " + "a=b, " * 2000,
    ],
)
def test_what_is_no_digest(value: str):
    with pytest.raises(RemoteError):
        Credentials.parse(value)


def test_secrets_do_not_show():
    assert "8ca523" not in repr(rfc7616(*VECTORS[0]))


SOURCE = "192.0.2.7"


def test_nonces():
    minter = NonceMinter(b"k" * 32, lambda size: b"s" * size, lifetime_s=60)
    nonce = minter.mint(1000.0, SOURCE)
    assert minter.check(nonce, 1059.0, SOURCE) is NonceVerdict.VALID
    assert minter.check(nonce, 1061.0, SOURCE) is NonceVerdict.STALE
    assert minter.check(nonce, 1000.0, "192.0.2.8") is NonceVerdict.FOREIGN
    assert minter.check(nonce, 1000.0, None) is NonceVerdict.VALID
    assert minter.check(nonce[:-1] + ("0" if nonce[-1] != "0" else "1"), 1000.0, SOURCE) is NonceVerdict.FORGED
    for other in ("f" + nonce[1:], nonce.upper(), nonce[:14] + "0" * 10 + nonce[24:]):
        assert minter.check(other, 1000.0, SOURCE) is NonceVerdict.FOREIGN
        assert minter.check(other, 1000.0, None) is NonceVerdict.FORGED
    other_key = NonceMinter(b"other key 012345", lambda size: b"s" * size)
    assert other_key.check(nonce, 1000.0, SOURCE) is NonceVerdict.FOREIGN
    assert other_key.check(nonce, 1000.0, None) is NonceVerdict.FORGED
    for junk in ("", "x", "\u00e9" * 56, nonce + "0"):
        assert minter.check(junk, 1000.0, SOURCE) is NonceVerdict.FORGED
    with pytest.raises(ValueError, match="16 octets"):
        NonceMinter(b"short", lambda size: b"")


def test_no_part_of_a_nonce_can_be_changed_for_another_source():
    minter = NonceMinter(b"k" * 32, os.urandom)
    mine, theirs = minter.mint(1000.0, "203.0.113.1"), minter.mint(1000.0, "203.0.113.2")
    for cut in (14, 24):
        assert minter.check(mine[:cut] + theirs[cut:], 1000.0, "203.0.113.2") is not NonceVerdict.VALID
        assert minter.check(theirs[:cut] + mine[cut:], 1000.0, "203.0.113.2") is not NonceVerdict.VALID


def test_nonces_of_one_second_and_one_source_differ():
    minter = NonceMinter(b"k" * 32, os.urandom)
    assert len({minter.mint(1000.0, SOURCE) for _ in range(200)}) > 190


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address:", "not an address:"),
        ("proxy.example", "proxy.example"),
    ],
)
def test_what_counts_as_one_source(host: str, network: str):
    assert network_of(host) == network


@pytest.mark.parametrize(("nc", "qop"), [("0000000A", "auth"), ("0000000a", "AUTH"), ("ABCDEF01", "Auth")])
def test_count_and_quality_are_hashed_as_they_came(nc: str, qop: str):
    """RFC 7616 section 3.4.1: a hash over the text; capitals are no reason to refuse a right password."""
    hashed = ha1("MD5", "u", "r", "p")
    middle = f"{hashed}:n:{nc}:c:{qop}:{digest('MD5', 'REGISTER:sip:r')}"
    value = f'Digest username="u",realm="r",nonce="n",uri="sip:r",qop={qop},nc={nc},cnonce="c"'
    right = Credentials.parse(f'{value},response="{digest("MD5", middle).upper()}"')
    assert verify(right, hashed, "REGISTER")
    assert not verify(right, hashed, "INVITE")


@pytest.mark.parametrize("nc", ["0000000g", "1", "000000001", "0x000001"])
def test_a_count_that_is_none(nc: str):
    with pytest.raises(RemoteError):
        Credentials.parse(
            f'Digest username="u",realm="r",nonce="n",uri="sip:r",response="x",qop=auth,cnonce="c",nc={nc}'
        )


OURS = 'username="u", nonce="n", uri="sip:r", response="ab"'


@pytest.mark.parametrize(
    "value",
    [
        f'Digest realm="pbx.test", {OURS}',
        f'digest REALM = "pbx.test" ,{OURS}',
        f"Digest\trealm=pbx.test, {OURS}",
        f'Digest {OURS},\r\n Realm\t=\t"pbx.test"',
        f'Digest realm="pbx.test", opaque="", {OURS}',
    ],
)
def test_credentials_are_found_by_their_realm(value: str):
    other = value.replace("pbx.test", "elsewhere.test")
    assert select([other, value], "pbx.test") == value
    assert select([other], "pbx.test") == ""


@pytest.mark.parametrize("blank", ['nonce=""', 'response=""', 'nonce="",response=""', 'Response = ""', 'NONCE=""'])
def test_blank_credentials_answer_no_challenge(blank: str):
    """IMS phones name their user so before they were challenged (3GPP TS 24.229 5.1.1.2)."""
    names = [part.partition("=")[0].strip().lower() for part in blank.split(",")]
    rest = ", ".join(part for part in OURS.split(", ") if part.partition("=")[0] not in names)
    assert select([f'Digest realm="pbx.test", {blank}, {rest}'], "pbx.test") == ""


def test_broken_credentials_are_answered_as_what_they_are():
    broken = 'Digest realm="pbx.test", username="u'
    assert select([broken], "pbx.test") == broken
    assert select(["Basic abc"], "pbx.test") == ""
    assert select(["", "Digest"], "pbx.test") == ""


@pytest.mark.parametrize(
    ("username", "account"),
    [
        ("u", "u@r.test"),
        ("u@r.test", "u@r.test"),
        ("u@R.Test", "u@r.test"),
        ("u@x", "u@x@r.test"),
        ("@r.test", "@r.test@r.test"),
    ],
)
def test_whose_a_digest_user_name_is(username: str, account: str):
    assert account_of(username, "r.test") == account
