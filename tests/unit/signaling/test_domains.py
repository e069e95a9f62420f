"""Which hosts are ours, and whom a URI means."""

from __future__ import annotations

import pytest

from pbx_signaling.domains import Domains
from pbx_signaling.settings import SignalingSettings
from pbx_sip.message.uri import Uri

OURS = Domains("pbx.local", frozenset({"sip.example.org", "voice"}))


@pytest.mark.parametrize(
    ("uri", "aor"),
    [
        ("sip:1004@pbx.local", "1004@pbx.local"),
        ("sip:1004@PBX.LOCAL:5070;transport=tcp", "1004@pbx.local"),
        ("sips:1004@sip.Example.org", "1004@pbx.local"),
        ("sip:1004@voice", "1004@pbx.local"),
        ("sip:1004@localhost", "1004@pbx.local"),
        ("sip:1004@192.0.2.7", "1004@pbx.local"),
        ("sip:1004@[2001:db8::7]", "1004@pbx.local"),
        ("sip:1004@example.org", "1004@example.org"),
        ("sip:%31004@voice", "1004@pbx.local"),
        ("tel:10.04", "1004@pbx.local"),
        ("tel:1004;phone-context=voice", "1004@pbx.local"),
        ("tel:1004;phone-context=example.org", "1004@example.org"),
        ("sip:1004@example.org;user=phone", "1004@example.org"),
        ("sip:alice@voice;user=phone", "alice@pbx.local"),
    ],
)
def test_whom_a_uri_means(uri: str, aor: str) -> None:
    assert OURS.aor_of(Uri.parse(uri)) == aor


def test_the_names_that_are_advertised_are_ours() -> None:
    made = SignalingSettings(authenticate=False, advertise=("Edge.example.org",), domain_aliases=("voice.",))
    assert made.aliases == {"edge.example.org", "voice"}


@pytest.mark.parametrize("aliases", [("a b",), ("<x>",), tuple(f"h{n}" for n in range(100))])
def test_aliases_that_are_none_are_said_at_start(aliases: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="PBX_DOMAIN_ALIASES"):
        SignalingSettings(authenticate=False, advertise=("192.0.2.1",), domain_aliases=aliases)
