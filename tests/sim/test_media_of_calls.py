"""What calls do with session descriptions, on the wire: holds, forks, refusals, answers that have to be said again."""

from __future__ import annotations

import pytest

from pbx_sip.message.message import Request, Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import INVITE, answer, establish, from_bob, invite, reply, within

SDP = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
UNTYPED = INVITE.format(branch="i1").replace("\nContent-Type: application/sdp", "")
BOBS = "\nContact: <sip:1008@192.0.2.20:5060>\nContent-Type: application/sdp"
RELIABLE = "Require: 100rel\nRSeq: {}"
T38 = (
    b"v=0\r\no=- 1 2 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=image 4500 udptl t38\r\n"
    b"a=T38FaxVersion:0\r\n"
)


def finals(bench: Bench, to: object = ALICE) -> list[Response]:
    return [message for message in bench.take(to) if isinstance(message, Response) and message.status >= 200]


def told(bench: Bench) -> list[tuple[int, str, int, str]]:
    """The endpoints that the relay was told since the last time."""
    updates = bench.forget_updates()
    return [
        (endpoint.side, endpoint.host, endpoint.port, endpoint.direction.name)
        for update in updates
        for endpoint in update.endpoints
    ]


def end(bench: Bench, ok: Response, cseq: int = 90) -> None:
    bench.send(within("BYE", ok, cseq, "yend"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def holds(bench: Bench) -> list[str]:
    return [name for name in bench.names() if name in ("HELD", "RESUMED")]


@pytest.mark.parametrize("host", ["127.0.0.7", "169.254.1.1", "fe80::9", "::1"])
def test_an_address_that_is_not_the_callers_is_refused_before_anybody_rings(host: str):
    bench = Bench()
    invite(bench, sdp(host))
    (refused,) = finals(bench)
    assert refused.status == 488
    assert "address" in (refused.first("Warning") or "")
    assert not bench.take(BOB)
    assert not bench.slots
    bench.send(within("ACK", refused, 1, "i1"), ALICE)
    bench.advance(40)
    bench.assert_clean()


def test_an_address_that_is_not_the_callees_ends_the_attempt():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    answer(bench, bench.request(BOB, "INVITE"), 200, sdp("127.0.0.53", 53))
    assert [message.method for message in bench.take(BOB) if isinstance(message, Request)] == ["ACK", "BYE"]
    assert [message.status for message in finals(bench)] == [488]
    assert told(bench) == []


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("body", [T38, sdp("127.0.0.53"), sdp("192.0.2.20").replace(b"RTP/AVP", b"TCP/RTP/AVP")])
def test_a_session_that_cannot_be_carried_is_refused_and_the_old_one_goes_on(method: str, body: bytes):
    bench = Bench()
    out, ok = establish(bench, caller="Allow: INVITE, UPDATE")
    bench.forget_updates()
    bench.send(from_bob(method, out, 2, "t1") + BOBS, BOB, body)
    (refused,) = finals(bench, BOB)
    assert refused.status == 488
    assert not bench.take(ALICE)
    assert told(bench) == []
    bench.send(from_bob("ACK", out, 2, "t1"), BOB)
    bench.send(from_bob("INVITE", out, 3, "t2") + BOBS, BOB, sdp("192.0.2.20", direction="sendonly"))
    assert bench.request(ALICE, "INVITE").body
    end(bench, ok)


def test_a_description_without_content_type_is_one_wherever_one_may_stand():
    bench = Bench()
    bench.send(UNTYPED, ALICE, sdp("192.0.2.10"))
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    assert out.content_type == "application/sdp"
    assert b"192.0.2.10" not in out.body
    bench.send(reply(out, 200), BOB, sdp("192.0.2.20"))
    ok = bench.response(ALICE, 200)
    assert ok.content_type == "application/sdp"
    assert b"192.0.2.20" not in ok.body
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.request(BOB, "ACK")
    bench.send(within("INFO", ok, 2, "n1"), ALICE, b"anything")
    assert bench.request(BOB, "INFO").first("Content-Type") == "application/octet-stream"
    end(bench, ok)


@pytest.mark.parametrize("knows", [False, True])
def test_an_answer_that_may_be_lost_is_said_again_in_the_2xx(knows: bool):
    bench = Bench()
    invite(bench, reliable=knows)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 183, sdp("192.0.2.20"), extra=RELIABLE.format(7))
    early = bench.response(ALICE, 183)
    if knows:
        bench.send(within("PRACK", early, 2, "p1") + "\nRAck: 1 1 INVITE", ALICE)
    bench.send(reply(bench.request(BOB, "PRACK"), 200), BOB)
    bench.sent.clear()
    answer(bench, out, 180)
    bench.sent.clear()
    answer(bench, out, 200)
    (ok,) = finals(bench)
    assert ok.body == (b"" if knows else early.body)


def test_each_branch_keeps_its_answer():
    bench = Bench()
    invite(bench, reliable=False)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answers = []
    for number, tag in enumerate(("b1", "b2"), start=1):
        body = sdp("192.0.2.20", 4000 + 100 * number, direction="sendonly" if tag == "b2" else "sendrecv")
        answer(bench, out, 183, body, tag, RELIABLE.format(number))
        answers.append(bench.response(ALICE, 183).body)
        bench.send(reply(bench.request(BOB, "PRACK"), 200, tag=tag), BOB)
    assert answers[0] != answers[1]
    told(bench)
    answer(bench, out, 200, tag="b1")
    (ok,) = finals(bench)
    assert ok.body == answers[0]
    assert told(bench) == [(2, "192.0.2.20", 4100, "SENDRECV")]
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.sent.clear()
    bench.send(within("INVITE", ok, 2, "r1") + SDP, ALICE, sdp("192.0.2.10", direction="sendonly"))
    assert b"sendonly" in bench.request(BOB, "INVITE").body, "the next offer may come"


@pytest.mark.parametrize("allow", ["", "Allow: INVITE, ACK, CANCEL, BYE", "Allow: INVITE, ACK, CANCEL, BYE, UPDATE"])
def test_an_early_offer_waits_for_the_answer_to_the_callers_own(allow: str):
    bench = Bench()
    invite(bench, reliable=False, extra=allow)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 183, sdp("192.0.2.20"), extra=RELIABLE.format(3))
    bench.send(reply(bench.request(BOB, "PRACK"), 200), BOB)
    bench.sent.clear()
    bench.send(from_bob("UPDATE", out, 2, "u1") + BOBS, BOB, sdp("192.0.2.20", 4200))
    (refused,) = finals(bench, BOB)
    assert refused.status == 500
    assert refused.first("Retry-After") is not None
    assert not bench.take(ALICE)
    answer(bench, out, 200)
    assert finals(bench)[0].body, "the first answer is the answer"


@pytest.mark.parametrize(("allow", "method"), [("INVITE, ACK, BYE", "INVITE"), ("INVITE, update", "UPDATE")])
def test_in_a_call_a_peer_without_update_is_asked_by_re_invite(allow: str, method: str):
    bench = Bench()
    out, ok = establish(bench, caller=f"Allow: {allow}")
    bench.forget_updates()
    bench.send(from_bob("UPDATE", out, 2, "u1") + BOBS, BOB, sdp("192.0.2.20", direction="sendonly"))
    asked = bench.request(ALICE, method)
    body = sdp("192.0.2.10", direction="recvonly")
    bench.send(reply(asked, 200, body).replace("1008@192.0.2.20", "1004@192.0.2.10"), ALICE, body)
    done = finals(bench, BOB)
    assert [(message.status, message.cseq_method) for message in done] == [(200, "UPDATE")]
    assert [message.method for message in bench.take(ALICE)] == (["ACK"] if method == "INVITE" else [])
    assert (1, "192.0.2.10", 4000, "RECVONLY") in told(bench)
    bench.send(from_bob("INVITE", out, 3, "r3") + BOBS, BOB, sdp("192.0.2.20"))
    assert bench.request(ALICE, "INVITE"), "nothing of it stands in the way of the next"
    end(bench, ok)


def test_a_re_invite_that_changes_nothing_is_told_to_the_relay():
    bench = Bench()
    _, ok = establish(bench)
    bench.forget_updates()
    bench.send(within("INVITE", ok, 2, "r1") + SDP, ALICE, sdp("192.0.2.10"))
    bench.take(ALICE)
    answer(bench, bench.request(BOB, "INVITE"), 200, sdp("192.0.2.20"))
    assert told(bench) == [(2, "192.0.2.20", 4000, "SENDRECV"), (1, "192.0.2.10", 4000, "SENDRECV")]
    bench.send(within("ACK", ok, 2, "k2"), ALICE)
    end(bench, ok)


@pytest.mark.parametrize(
    "body", [b"v=0\r\no=- 1 2 IN IP4 192.0.2.20\r\ns=-\r\nt=0 0\r\nm=audio 4300 RTP/AVP 0\r\n", sdp("127.0.0.53")]
)
def test_an_answer_that_cannot_be_read_is_a_refusal_for_who_offered(body: bytes):
    bench = Bench()
    _, ok = establish(bench)
    bench.forget_updates()
    bench.send(within("INVITE", ok, 2, "r1") + SDP, ALICE, sdp("192.0.2.10", 4200, direction="sendonly"))
    bench.take(ALICE)
    answer(bench, bench.request(BOB, "INVITE"), 200, body)
    assert [message.status for message in finals(bench)] == [488]
    assert bench.request(BOB, "ACK")
    assert told(bench) == []
    assert holds(bench) == []
    bench.send(within("ACK", ok, 2, "r1"), ALICE)
    bench.send(within("INVITE", ok, 3, "r3") + SDP, ALICE, sdp("192.0.2.10"))
    assert bench.request(BOB, "INVITE")
    end(bench, ok)


def modify(bench: Bench, ok: Response, out: Request, by: object, cseq: int, offer: str, reply_with: str) -> None:
    """A re-INVITE of a side, answered and confirmed."""
    branch = f"m{cseq}"
    if by is ALICE:
        bench.send(within("INVITE", ok, cseq, branch) + SDP, ALICE, sdp("192.0.2.10", direction=offer))
        bench.take(ALICE)
        answer(bench, bench.request(BOB, "INVITE"), 200, sdp("192.0.2.20", direction=reply_with))
        bench.send(within("ACK", ok, cseq, f"k{branch}"), ALICE)
    else:
        bench.send(from_bob("INVITE", out, cseq, branch) + BOBS, BOB, sdp("192.0.2.20", direction=offer))
        bench.take(BOB)
        body = sdp("192.0.2.10", direction=reply_with)
        bench.send(reply(bench.request(ALICE, "INVITE"), 200, body), ALICE, body)
        bench.send(from_bob("ACK", out, cseq, f"k{branch}"), BOB)
    bench.sent.clear()


BOTH = [
    (ALICE, "sendonly", "recvonly", ["HELD"]),
    (BOB, "inactive", "inactive", ["HELD", "HELD"]),
    (ALICE, "recvonly", "sendonly", ["HELD", "HELD", "RESUMED"]),
    (BOB, "sendrecv", "sendrecv", ["HELD", "HELD", "RESUMED", "RESUMED"]),
]


def test_both_sides_hold_and_take_back_their_own():
    bench = Bench()
    out, ok = establish(bench)
    for cseq, (by, offer, reply_with, so_far) in enumerate(BOTH, start=2):
        modify(bench, ok, out, by, cseq, offer, reply_with)
        assert holds(bench) == so_far
    end(bench, ok)


@pytest.mark.parametrize("offer", ["sendonly", "inactive"])
def test_a_hold_that_is_said_again_is_one(offer: str):
    bench = Bench()
    out, ok = establish(bench)
    for cseq in (2, 3):
        modify(bench, ok, out, ALICE, cseq, offer, "recvonly" if offer == "sendonly" else "inactive")
    assert holds(bench) == ["HELD"]
    modify(bench, ok, out, BOB, 4, "sendrecv", "sendrecv")
    assert holds(bench) == ["HELD", "RESUMED"], "she takes all that she is offered"
    modify(bench, ok, out, ALICE, 5, "sendrecv", "sendonly")
    assert holds(bench) == ["HELD", "RESUMED", "HELD"], "and he does not"
    end(bench, ok)


def test_digits_in_info_are_told_of_and_cross():
    bench = Bench()
    out, ok = establish(bench)
    kind = "\nContent-Type: application/dtmf-relay"
    bench.send(within("INFO", ok, 2, "n1") + kind, ALICE, b"Signal=3\r\nDuration=200\r\n")
    bench.send(reply(bench.request(BOB, "INFO"), 200), BOB)
    bench.sent.clear()
    bench.send(from_bob("INFO", out, 2, "n2") + "\nContent-Type: application/dtmf", BOB, b"#")
    bench.send(reply(bench.request(ALICE, "INFO"), 200), ALICE)
    bench.sent.clear()
    bench.send(within("INFO", ok, 3, "n3") + kind, ALICE, b"Signal=hookflash\r\n")
    assert bench.request(BOB, "INFO")
    assert bench.names().count("DTMF") == 2
    end(bench, ok)
