"""Reading of challenges and credentials: what the grammar allows, what phones send, what attackers send."""

from __future__ import annotations

import time

import pytest

from pbx_sip.auth.digest import MAX_CREDENTIALS, Challenge, Credentials
from pbx_sip.errors import ParseError

REST = 'realm="r", nonce="n", uri="sip:r", response="AB"'


def username(text: str) -> str:
    return Credentials.parse(f"Digest username={text}, {REST}").username


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('"1004"', "1004"),
        ("1004", "1004"),
        ("1004 ", "1004"),
        (' "10,04"', "10,04"),
        ('"a=b"', "a=b"),
        ('"<a>"', "<a>"),
        (r'"say \"hi\""', 'say "hi"'),
        (r'"back\\slash"', r"back\slash"),
        (r'"\\"', "\\"),
        ('""', ""),
        ('"Jürgen"', "Jürgen"),
    ],
)
def test_values_quoted_or_not(text: str, name: str) -> None:
    assert username(text) == name


def test_names_in_any_case_order_and_spacing() -> None:
    value = 'dIgEsT  URI="sip:r",Response = "ab" ,nonce="n",\r\n REALM="r" ,, UserName="u",'
    credentials = Credentials.parse(value)
    assert (credentials.username, credentials.realm, credentials.uri) == ("u", "r", "sip:r")
    assert (credentials.response, credentials.algorithm, credentials.qop) == ("ab", "MD5", "")


def test_what_was_written_is_read_back() -> None:
    credentials = Credentials('a"b\\c', "r", "n", "sip:r", "ab", "SHA-256", "c,n", "auth", "00000001", "o")
    assert Credentials.parse(str(credentials)) == credentials
    challenge = Challenge("r", "n", "SHA-256", ("auth", "auth-int"), stale=True, opaque="o")
    assert Challenge.parse(str(challenge)) == challenge


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Digest",
        "Basic abc",
        f'Digest username="u, {REST}',
        f'Digest username="u" x, {REST}',
        f'Digest username=u"x", {REST}',
        f"Digest username, {REST}",
        f"Digest username=, {REST}",
        f'Digest ="u", {REST}',
        f'Digest username="u", username="v", {REST}',
        f'Digest username="u", {REST}, qop=auth',
        f'Digest username="u", {REST}, qop=auth, cnonce="c", nc=1',
        'Digest username="u"',
        f'Digest username="u\\", {REST}',
        "Digest " + "x" * MAX_CREDENTIALS,
    ],
)
def test_what_cannot_be_read_is_refused(value: str) -> None:
    with pytest.raises(ParseError):
        Credentials.parse(value)


@pytest.mark.parametrize("filler", [" ", ",", "a", "=", '"', "\\", ' "', "a=", 'a="', '\\"', "\t,"])
def test_a_hostile_value_costs_little(filler: str) -> None:
    for head in ("Digest ", "Digest a=", 'Digest a="', "Digest a"):
        value = head + filler * ((MAX_CREDENTIALS - len(head) - 1) // len(filler)) + '"'
        began = time.process_time()
        with pytest.raises(ParseError):
            Credentials.parse(value)
        # Quadratic work on 4096 characters takes a second; linear work well below a millisecond.
        assert time.process_time() - began < 0.25
