"""Caller identity through the core: From, P-Asserted-Identity and Privacy on the callee's leg and in the dialog."""

from __future__ import annotations

import pytest

from pbx_sip.auth.digest import Credentials
from pbx_sip.message.message import Message, Request
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import answer, establish, invite, within

ALICES, BOBS = ALICE.host, BOB.host
BOSS = 'P-Asserted-Identity: "Boss" <sip:boss@gw.example>'


def authorization(nonce: str) -> str:
    uri, more = "sip:1008@192.0.2.1", {"cnonce": "c", "qop": "auth", "nc": "00000001"}
    fields = Credentials("1004", "pbx.local", nonce, uri, "0" * 64, algorithm="SHA-256", **more)
    return f"Proxy-Authorization: {fields}"


def called(bench: Bench, extra: str, *, sender: str = "") -> Request:
    """The INVITE that Bob gets; `sender` takes the place of Alice's From."""
    invite(bench, extra=f"{authorization(bench.nonce())}\n{extra}".strip(), sender=sender)
    bench.take(ALICE)
    return bench.request(BOB, "INVITE")


def identity(message: Message) -> list[str]:
    sender = (message.first("From") or "").partition(";tag=")[0]
    return [sender, *message.headers.all("P-Asserted-Identity"), *message.headers.all("Privacy")]


@pytest.mark.parametrize(
    ("trusted", "extra", "expected"),
    [
        ((), f"{BOSS}\nPrivacy: none", ['"Al" <sip:1004@pbx.local>']),
        ((BOBS,), BOSS, ['"Al" <sip:1004@pbx.local>', '"Al" <sip:1004@pbx.local>']),
        ((ALICES,), BOSS, ['"Boss" <sip:boss@pbx.local>']),
        ((ALICES, BOBS), BOSS, ['"Boss" <sip:boss@pbx.local>', '"Boss" <sip:boss@gw.example>']),
        ((), "Privacy: id", ['"Anonymous" <sip:anonymous@anonymous.invalid>']),
        (
            ("192.0.2.0/24",),
            f"{BOSS}\nPrivacy: id",
            ['"Anonymous" <sip:anonymous@anonymous.invalid>', '"Boss" <sip:boss@gw.example>', "id"],
        ),
    ],
)
def test_who_calls(trusted: tuple[str, ...], extra: str, expected: list[str]):
    bench = Bench(authenticate=True, trusted=trusted, name="Al")
    out = called(bench, extra)
    assert identity(out) == expected
    assert "P-Preferred-Identity" not in out.headers


def test_an_anonymous_from_is_proved_by_its_credentials():
    bench = Bench(authenticate=True)
    out = called(bench, "", sender='"Anonymous" <sip:anonymous@anonymous.invalid>')
    assert identity(out) == ['"Anonymous" <sip:anonymous@anonymous.invalid>']
    (entry,) = bench.calls.values()
    assert (entry.call.claimed, entry.call.caller) == ("1004@pbx.local", "1004")


def test_the_from_of_others_must_be_their_own():
    bench = Bench(authenticate=True)
    called(bench, BOSS, sender="<sip:boss@pbx.local>")
    (entry,) = bench.calls.values()
    assert entry.call.claimed == "boss@pbx.local", "what the registrar refuses"


def test_privacy_of_a_kind_that_we_do_not_know_is_refused_where_it_is_critical():
    bench = Bench()
    invite(bench, extra="Privacy: teleport;critical")
    assert bench.response(ALICE, 500)
    assert not bench.calls


@pytest.mark.parametrize(
    ("trusted", "crosses"), [((), False), ((ALICES,), False), ((BOBS,), False), (("::/0", "0.0.0.0/0"), True)]
)
def test_who_answers(trusted: tuple[str, ...], crosses: bool):
    bench = Bench(trusted=trusted)
    invite(bench)
    out = bench.request(BOB, "INVITE")
    bench.take(ALICE)
    asserted = "P-Asserted-Identity: <sip:1008@desk.example>\nPrivacy: id"
    answer(bench, out, 200, sdp("192.0.2.20"), extra=asserted)
    expected = ["<sip:1008@desk.example>", "id"] if crosses else []
    assert identity(bench.response(ALICE, 200))[1:] == expected


def test_identity_inside_the_dialog_crosses_between_trusted_peers_alone():
    for trusted, expected in (((), []), ((ALICES, BOBS), ["<tel:+4930>"])):
        bench = Bench(trusted=trusted)
        _, ok = establish(bench)
        bench.send(within("INFO", ok, 2, "n1") + "\nP-Asserted-Identity: tel:+49-30", ALICE)
        info = bench.request(BOB, "INFO")
        assert identity(info)[1:] == expected
        answer(bench, info, 200)
        bench.send(within("BYE", ok, 3, "y1"), ALICE)
        bench.sent.clear()
        bench.assert_clean()


@pytest.mark.parametrize(
    ("account", "sender", "extra", "shown"),
    [
        ("", '"Alice \\"A\\" Smith" <sip:1004@pbx.local>', "", '"Alice \\"A\\" Smith" <sip:1004@pbx.local>'),
        ("", "Alice Smith <sip:1004@pbx.local>", "", '"Alice Smith" <sip:1004@pbx.local>'),
        ("", "<sip:1004@pbx.local>", "", "<sip:1004@pbx.local>"),
        ("Al", '"The Boss" <sip:1004@pbx.local>', "", '"Al" <sip:1004@pbx.local>'),
        ("", '"Alice" <sip:1004@pbx.local>', "Privacy: id", '"Anonymous" <sip:anonymous@anonymous.invalid>'),
        ("", f'"{"x" * 500}" <sip:1004@pbx.local>', "", f'"{"x" * 128}" <sip:1004@pbx.local>'),
    ],
)
def test_what_a_caller_calls_itself_is_shown_where_its_account_has_no_name(
    account: str, sender: str, extra: str, shown: str
):
    bench = Bench(authenticate=True, trusted=(BOBS,), name=account)
    out = called(bench, extra, sender=sender)
    assert identity(out)[0] == shown
    asserted = f'"{account}" <sip:1004@pbx.local>' if account else "<sip:1004@pbx.local>"
    assert identity(out)[1] == asserted, "what it calls itself is nobody's word but its own"


@pytest.mark.parametrize(
    "sender", ["<sip:1004@laptop.lan>", "<sip:anybody@198-51-100-1.isp.example>", "<tel:+4930123>"]
)
def test_a_from_of_no_host_of_ours_is_proved_by_its_credentials(sender: str):
    """It is written anew for the callee anyway; behind it is no account of ours that could be claimed."""
    bench = Bench(authenticate=True)
    out = called(bench, "", sender=sender)
    assert identity(out)[0] == "<sip:1004@pbx.local>"
    (entry,) = bench.calls.values()
    assert entry.call.claimed == "1004@pbx.local"
