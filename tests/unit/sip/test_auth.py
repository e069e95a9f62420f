"""Digest: the vectors of the RFCs, and everything that must not be accepted; nonces."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from pbx_sip.address import network_of
from pbx_sip.auth.digest import STRONGEST_FIRST, Challenge, Credentials, ha1, respond, verify
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
