"""What an INVITE's Expires, a Require inside a call, a 199, and a call to oneself mean."""

from __future__ import annotations

import pytest

from pbx_signaling.calls import signals as e
from pbx_signaling.users import questions as q
from pbx_sip.address import HostPort
from pbx_sip.message.message import Message, Request, Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import INVITE, answer, establish, from_bob, invite, reply, within


def statuses(messages: list[Message]) -> list[int]:
    return [message.status for message in messages if isinstance(message, Response)]


@pytest.mark.parametrize(("text", "rings_s"), [("7", 7), ("45;x=y", 45), ("119", 119)])
def test_an_invitation_that_expires_is_cancelled_with_487(text: str, rings_s: int) -> None:
    bench = Bench()
    invite(bench, extra=f"Expires: {text}")
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.take(ALICE)
    bench.advance(rings_s - 0.5)
    assert not bench.take(BOB)
    bench.advance(1.0)
    assert {message.cseq_method for message in bench.take(BOB)} == {"CANCEL"}
    assert 487 in statuses(bench.take(ALICE))
    answer(bench, out, 487)
    bench.sent.clear()
    assert bench.names()[-1] == "ENDED"
    bench.assert_clean()


@pytest.mark.parametrize("text", ["0", "soon", "-3", "4294967295", "99999999999", ""])
def test_an_expires_that_says_nothing_changes_nothing(text: str) -> None:
    bench = Bench()
    invite(bench, extra=f"Expires: {text}")
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.advance(60)
    assert not [message for message in bench.take(BOB) if isinstance(message, Request)]


def test_an_answer_in_time_ends_the_timer() -> None:
    bench = Bench()
    _, ok = establish(bench, caller="Expires: 5")
    bench.advance(20)
    assert not bench.take(BOB)
    bench.send(within("BYE", ok, 2, "y"), ALICE)
    bench.send(reply(bench.request(BOB, "BYE"), 200), BOB)
    bench.sent.clear()
    bench.assert_clean()


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "MESSAGE", "OPTIONS", "BYE"])
@pytest.mark.parametrize("required", ["tdialog", "100rel, x-first, X-Second"])
def test_a_require_inside_a_call_that_we_do_not_know_is_420(method: str, required: str) -> None:
    bench = Bench()
    out, ok = establish(bench)
    bench.send(within(method, ok, 2, "r2") + f"\nRequire: {required}", ALICE)
    refused = bench.response(ALICE, 420)
    assert refused.first("Unsupported") == ", ".join(
        sorted(word.lower() for word in required.split(", ") if word != "100rel")
    )
    assert not bench.take(BOB)
    bench.send(from_bob(method, out, 2, "b2") + f"\nRequire: {required}", BOB)
    assert bench.response(BOB, 420)
    assert not bench.take(ALICE)
    bench.send(within("BYE", ok, 3, "y3") + "\nRequire: timer", ALICE)
    assert bench.response(ALICE, 200)
    assert bench.request(BOB, "BYE")


def test_a_199_neither_rings_nor_crosses() -> None:
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 199, tag="gone")
    assert not bench.take(ALICE)
    answer(bench, out, 199, tag="also", extra="Require: 100rel\nRSeq: 7")
    assert bench.request(BOB, "PRACK").first("RAck") == "7 1 INVITE"
    assert not bench.take(ALICE)
    assert bench.names() == ["INITIATED", "DIALING"]
    answer(bench, out, 180)
    assert bench.response(ALICE, 180)


def target(where: HostPort, user: str = "1004", *, transport: int = 1, connection: int = 0) -> e.Target:
    return e.Target(
        f"sip:{user}@{where}", f"{user}@pbx.local", (), transport, where.host, where.port, "udp4", connection, "s1"
    )


@pytest.mark.parametrize(
    ("user", "found", "rings", "status"),
    [
        ("1004", [target(ALICE)], None, 486),
        ("1004", [target(ALICE), target(BOB)], BOB, 0),  # another phone of hers
        ("1004", [], None, 480),
        ("1004", [target(ALICE, transport=2, connection=5)], None, 0),  # her phone's other registration
        ("1008", [target(ALICE, "1008")], ALICE, 0),  # another line of the same phone
    ],
)
def test_a_call_to_oneself_rings_other_phones_alone(
    user: str, found: list[e.Target], rings: HostPort | None, status: int
) -> None:
    bench = Bench(found=e.Found(True, found))
    text = "sip:1004@192.0.2.1" if user == "1004" else "sip:1008@192.0.2.1"
    bench.send(INVITE.format(branch="s1").replace("sip:1008@192.0.2.1", text, 1), ALICE, sdp(ALICE.host))
    invites = [remote for message, remote in bench.sent if isinstance(message, Request) and message.method == "INVITE"]
    if status:
        assert statuses(bench.take(ALICE)) == [100, status]
        assert not invites
    elif rings is not None:
        assert invites == [rings]


def test_what_a_callee_cannot_say_to_a_caller_is_mapped() -> None:
    for status, told, extra in (
        (405, 500, "Allow: OPTIONS"),
        (415, 488, ""),
        (420, 500, "Unsupported: timer"),
        (421, 480, "Require: 100rel"),
        (423, 500, "Min-Expires: 3600"),
        (503, 480, ""),
    ):
        bench = Bench()
        invite(bench)
        bench.take(ALICE)
        answer(bench, bench.request(BOB, "INVITE"), status, extra=extra)
        response = bench.response(ALICE, told)
        assert not {"Allow", "Unsupported", "Require", "Min-Expires"} & {name for name, _ in response.headers}


@pytest.mark.parametrize(("status", "told"), [(401, 403), (405, 488), (415, 488), (420, 488), (421, 488), (503, 500)])
def test_a_refused_re_invite_leaves_the_session_and_says_why_in_words_of_ours(status: int, told: int) -> None:
    bench = Bench()
    _, ok = establish(bench)
    bench.send(within("INVITE", ok, 2, "r2") + "\nContent-Type: application/sdp", ALICE, sdp(ALICE.host, 4010))
    bench.send(reply(bench.request(BOB, "INVITE"), status, extra="Proxy-Authenticate: Digest realm=x"), BOB)
    assert statuses(bench.take(ALICE)) == [100, told]
    bench.send(within("BYE", ok, 3, "y3"), ALICE)
    assert bench.response(ALICE, 200)


def test_an_info_that_is_not_allowed_says_what_is() -> None:
    bench = Bench()
    _, ok = establish(bench)
    bench.send(within("INFO", ok, 2, "i2"), ALICE)
    bench.send(reply(bench.request(BOB, "INFO"), 405, extra="Allow: INVITE"), BOB)
    allowed = (bench.response(ALICE, 405).first("Allow") or "").split(", ")
    assert "INFO" not in allowed
    assert {"INVITE", "BYE", "UPDATE"} <= set(allowed)


@pytest.mark.parametrize(
    ("host", "sender", "whom"),
    [
        ("198.51.100.9", "pbx.local", "1008@198.51.100.9"),
        ("198.51.100.9:5066;transport=tcp", "pbx.local", "1008@198.51.100.9"),
        ("[2001:db8::77]", "pbx.local", "1008@2001:db8::77"),
        ("198.51.100.9", "198.51.100.10", "1008@198.51.100.9"),
        ("198.51.100.9", "198.51.100.9", "1008@pbx.local"),  # by this address the phone knows us
        ("127.0.0.1", "pbx.local", "1008@pbx.local"),
        ("192.0.2.1:5060", "pbx.local", "1008@pbx.local"),
        ("localhost", "pbx.local", "1008@pbx.local"),
    ],
)
def test_a_user_at_somebody_elses_address_is_not_ours(host: str, sender: str, whom: str) -> None:
    bench = Bench()
    text = INVITE.format(branch="e1").replace("sip:1008@192.0.2.1", f"sip:1008@{host}", 1)
    bench.send(text.replace("1004@pbx.local", f"1004@{sender}"), ALICE, sdp(ALICE.host))
    (question,) = [ask.question for ask in bench.asked if isinstance(ask.question, q.Find)]
    assert question.aor == whom


def test_a_redirection_to_somebody_elses_address_is_not_followed() -> None:
    for contact, asked in (("sip:1004@198.51.100.9", 1), ("sip:1009@192.0.2.1", 2), ("sip:1009@pbx.local", 2)):
        bench = Bench()
        invite(bench)
        answer(bench, bench.request(BOB, "INVITE"), 302, extra=f"Contact: <{contact}>")
        questions = [ask.question for ask in bench.asked if isinstance(ask.question, q.Find)]
        assert len(questions) == asked, contact
