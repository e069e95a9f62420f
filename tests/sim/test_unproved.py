"""Who has proved nothing: answered without state, once, with no more than three times the question; never counted."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from pbx_signaling.border.trust import Trust
from pbx_signaling.config import QuotaPolicy
from pbx_signaling.replicas.peering import Peering
from pbx_signaling.router.admission import GAIN_MAX, PROVED_SHARE
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.digest import Challenge, Credentials
from pbx_sip.message.message import Response
from pbx_sip.message.parse import parse
from support.bench_core import ALICE, BOB, Bench
from support.ladder import establish, within

OFFICE = HostPort("198.51.100.7", 40_000)
COMPACT = """{method} sip:1008@h SIP/2.0
v:SIP/2.0/UDP h;branch=z9hG4bK{branch}
f:<sip:a@h>;tag=1
t:<sip:1008@h>{tag}
i:{branch}
CSeq:1 {method}
{extra}"""


def bench_of(**config: Any) -> Bench:
    """A core that wants credentials."""
    return Bench(authenticate=config.pop("authenticate", True), limits=config)


def message(method: str = "INVITE", extra: str = "", *, tag: str = "", branch: str = "b1") -> bytes:
    text = COMPACT.format(method=method, extra=extra, tag=tag and f";tag={tag}", branch=branch).strip()
    return ("\r\n".join(text.splitlines()) + "\r\n\r\n").encode()


def sent(bench: Bench, data: bytes, source: HostPort = OFFICE, *, after_s: float = 40.0) -> list[bytes]:
    """What goes back to the source of a datagram within the time; nobody is asked, and nothing is written."""
    flow = Flow(Transport.UDP, source, "udp4")
    asked, records, seen = len(bench.asked), len(bench.records), len(bench.harness.wire)
    bench.receive(data, flow)
    bench.advance(after_s)
    assert len(bench.asked) == asked, "a question to the world"
    assert len(bench.records) == records
    return [octets for octets, to in bench.harness.wire[seen:] if to == flow]


def credentials(nonce: str, *, algorithm: str = "SHA-256", qop: str = "auth", name: str = "Proxy-Authorization") -> str:
    """Credentials with a response that may be right or wrong: nobody here can tell."""
    more = {"cnonce": "c", "qop": qop, "nc": "00000001"} if qop else {}
    return f"{name}: {Credentials('1004', 'pbx.local', nonce, 'sip:1008@h', '0' * 64, algorithm=algorithm, **more)}"


REFUSED = [
    ("OPTIONS", "", "", 407),  # about a user
    ("REGISTER", "", "", 401),
    ("INVITE", "", "", 407),
    ("MESSAGE", "", "", 407),
    ("SUBSCRIBE", "Event: dialog", "", 405),
    ("PUBLISH", "", "", 405),
    ("NOTIFY", "", "", 405),
    ("REFER", "", "", 405),
    ("FROBNICATE", "", "", 501),
    ("BYE", "", "", 481),
    ("PRACK", "", "", 481),
    ("UPDATE", "", "", 481),
    ("INFO", "", "", 481),
    ("CANCEL", "", "", 481),
    ("BYE", "", "nobody", 481),
    ("INVITE", "", "nobody", 481),
    ("SUBSCRIBE", "", "nobody", 481),
    ("INVITE", "Max-Forwards: 0", "", 483),
    ("SUBSCRIBE", "Max-Forwards: 0", "", 483),
    ("MESSAGE", "Max-Forwards: 0", "", 483),
    ("INVITE", "Require: teleport", "", 420),
    ("REGISTER", "Require: teleport, gruu", "", 420),
    ("OPTIONS", "Require: teleport", "", 420),
    ("INVITE", "Privacy: critical;teleport", "", 500),
    ("MESSAGE", "Privacy: critical;teleport", "", 500),
    ("INVITE", "Proxy-Authorization: Basic eDp5", "", 407),
    ("INVITE", 'Proxy-Authorization: Digest realm="pbx.local"', "", 407),
    ("INVITE", credentials("forged"), "", 407),
    ("REGISTER", credentials("f" * 56, name="Authorization"), "", 401),
    ("MESSAGE", credentials("0" * 56), "", 407),
    ("INVITE", "Content-Type: text/plain\nContent-Length: 0", "", 407),
    ("INVITE", "Session-Expires: 1", "", 407),
    ("INVITE", "Max-Forwards: 300", "", 400),
]


@pytest.mark.parametrize(("method", "extra", "tag", "status"), REFUSED)
def test_a_stranger_gets_one_answer_of_three_times_its_question_and_no_state(
    method: str, extra: str, tag: str, status: int
):
    bench = bench_of()
    data = message(method, extra, tag=tag)
    (octets,) = sent(bench, data)
    answer = parse(octets)
    assert isinstance(answer, Response)
    assert answer.status == status
    assert answer.to_tag
    assert len(octets) <= GAIN_MAX * len(data)
    assert bench.core.layer.active == 0
    assert not bench.calls
    assert bench.core.router.next_timeout is None


@pytest.mark.parametrize("copies", [1, 30, 200])
@pytest.mark.parametrize("line", ["v:SIP/2.0/UDP h", "Record-Route:<sip:h;lr>", "v:SIP/2.0/UDP h;rport;received=1"])
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE", "SUBSCRIBE", "REGISTER"])
def test_no_field_that_is_copied_makes_an_answer_grow_beyond_that(method: str, line: str, copies: int):
    data = message(method, "\n".join([line] * copies))
    for octets in sent(bench_of(), data):
        assert len(octets) <= GAIN_MAX * len(data)


def test_what_would_be_too_long_goes_without_its_weakest_challenges_then_not_at_all():
    long = bench_of(domain="d" * 40 + ".example")
    (octets,) = sent(long, message("INVITE", "User-Agent: baresip v2.0.0"))
    values = parse(octets).headers.all("Proxy-Authenticate")
    assert [Challenge.parse(value).algorithm for value in values] == ["SHA-256"], "the strongest that it is offered"
    assert sent(bench_of(domain="d" * 250), message()) == []
    (octets,) = sent(long, message("INVITE", "User-Agent: PJSUA v2.14 " + "x" * 200))
    assert len(parse(octets).headers.all("Proxy-Authenticate")) == 3


@pytest.mark.parametrize("method", ["INVITE", "REGISTER", "MESSAGE"])
@pytest.mark.parametrize("kind", ["made up", "of another source", "too old", "of another key", "not hex", "empty"])
def test_a_nonce_that_was_not_sent_here_is_a_challenge_again_and_nobody_is_asked(method: str, kind: str):
    bench = bench_of()
    wall = bench.now + 1_700_000_000.0
    gate = bench.core.challenges
    nonce = {
        "of another source": bench.nonce(HostPort("198.51.100.8", OFFICE.port)),
        "too old": gate.nonces.mint(wall - gate.nonces.lifetime_s - 1, OFFICE.host),
        "of another key": Bench().nonce(OFFICE)[:24] + "0" * 32,
        "not hex": "z" * 56,
        "empty": "",
    }.get(kind, "f" * 56)
    name = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
    (octets,) = sent(bench, message(method, credentials(nonce, name=name)))
    answer = parse(octets)
    assert answer.status == (401 if method == "REGISTER" else 407)
    header = "WWW-Authenticate" if method == "REGISTER" else "Proxy-Authenticate"
    challenges = [Challenge.parse(value) for value in answer.headers.all(header)]
    # Its user is not to be asked for another password. Without a nonce nothing was tried (3GPP TS 24.229 5.1.1.2).
    assert all(challenge.stale is (kind != "empty") for challenge in challenges)
    assert gate.nonces.check(challenges[0].nonce, wall, OFFICE.host) == 0
    assert bench.core.layer.active == 0


@pytest.mark.parametrize("weaker", [{"algorithm": "MD5"}, {"qop": ""}, {"qop": "auth-int"}, {"algorithm": "SHA-1"}])
def test_what_is_weaker_than_offered_is_met_with_the_challenge(weaker: dict[str, str]):
    bench = bench_of(algorithms=("SHA-256",))
    (octets,) = sent(bench, message("INVITE", credentials(bench.nonce(OFFICE), **weaker)))
    values = [Challenge.parse(value) for value in parse(octets).headers.all("Proxy-Authenticate")]
    assert [(value.algorithm, value.stale) for value in values] == [("SHA-256", False)]


def test_without_qop_is_taken_where_none_is_among_the_settings_and_never_offered():
    bench = bench_of(qop=("auth", "none"))
    bench.raw(message("INVITE", credentials(bench.nonce(OFFICE), qop="")), OFFICE)
    assert len(bench.calls) == 1
    (octets,) = sent(bench, message(branch="b2"), HostPort("192.0.2.99", 5060), after_s=0)
    assert Challenge.parse(parse(octets).headers.all("Proxy-Authenticate")[0]).qop == ("auth",)


def test_a_nonce_inside_something_else_is_none():
    bench = bench_of()
    good = bench.nonce(OFFICE)
    for value in (credentials("x").replace('cnonce="c"', f'cnonce="{good}"'), credentials("x") + f', y="nonce={good}"'):
        assert parse(sent(bench, message("INVITE", value))[0]).status == 407
    assert not bench.calls


@pytest.mark.parametrize("method", ["INVITE", "REGISTER", "MESSAGE"])
def test_a_nonce_that_was_sent_here_goes_on(method: str):
    bench = bench_of()
    name = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
    bench.raw(message(method, credentials(bench.nonce(OFFICE), name=name)), OFFICE)
    assert bench.asked


def test_proxies_that_are_trusted_share_their_nonces():
    one, other = HostPort("192.0.2.101", 5060), HostPort("192.0.2.102", 5060)
    bench = Bench(authenticate=True, trusted=("192.0.2.100/30",))
    bench.raw(message("INVITE", credentials(bench.nonce(one))), other)
    assert len(bench.calls) == 1
    assert Trust(("192.0.2.100/30",)).covers(other.host)
    bench.raw(message("INVITE", credentials(bench.nonce(one)), branch="b2"), OFFICE)
    assert len(bench.calls) == 1


def test_who_proved_nobody_leaves_a_part_of_the_table_to_others():
    bench = bench_of(transactions_max=8)
    bench.core.layer.limit = 8
    statuses = []
    for number in range(10):
        source = HostPort(f"203.0.113.{number}", 5060)
        bench.answer_registrar = False
        bench.raw(message("INVITE", credentials(bench.nonce(source)), branch=f"t{number}"), source)
        statuses += [m.status for m in bench.take(source) if isinstance(m, Response)]
    kept = int(8 * PROVED_SHARE)
    assert statuses.count(100) == 8 - kept
    assert statuses.count(503) == 10 - 8 + kept
    bench.core.sources.proved(OFFICE, bench.now)
    bench.raw(message("INVITE", credentials(bench.nonce(OFFICE)), branch="known"), OFFICE)
    assert [m.status for m in bench.take(OFFICE) if isinstance(m, Response)] == [100]


def test_a_muted_source_is_read_where_it_holds_a_nonce_that_was_sent_to_it():
    """Its address and port may be forged in what muted it."""
    bench = bench_of(source_requests_per_s=1.0, source_burst=2.0)
    for number in range(60):
        bench.raw(message("OPTIONS", branch=f"f{number}"), OFFICE)
    bench.take(OFFICE)
    assert bench.core.counters.messages_unread
    bench.raw(message("INVITE", branch="plain"), OFFICE)
    assert bench.take(OFFICE) == []
    bench.raw(message("INVITE", credentials(bench.nonce(OFFICE)), branch="mine"), OFFICE)
    assert len(bench.calls) == 1


def test_call_attempts_are_counted_after_the_proof():
    bench = bench_of(calls_per_s=1.0, source_burst=10_000.0)
    bench.now += 10
    for number in range(50):
        bench.raw(message("INVITE", credentials("f" * 56), branch=f"n{number}"), OFFICE)
    bench.take(OFFICE)
    bench.raw(message("INVITE", credentials(bench.nonce(OFFICE)), branch="first"), OFFICE)
    assert [m.status for m in bench.take(OFFICE) if isinstance(m, Response)] == [100]
    bench.raw(message("INVITE", credentials(bench.nonce(OFFICE)), branch="next"), OFFICE)
    refused = [m for m in bench.take(OFFICE) if isinstance(m, Response)][-1]
    assert (refused.status, refused.first("Retry-After")) == (503, "5")


@pytest.mark.parametrize("method", ["OPTIONS", "INFO", "MESSAGE", "INVITE", "UPDATE"])
def test_a_dialog_has_a_budget_of_its_own_and_ends_in_spite_of_it(method: str):
    bench = Bench()
    bench.core.dialogs.requests_per_s = 2.0
    _, ok = establish(bench)
    statuses: list[int] = []
    for cseq in range(2, 202):
        bench.now += 0.001
        bench.send(within(method, ok, cseq, f"o{cseq}"), ALICE)
        statuses += [m.status for m in bench.take(ALICE) if isinstance(m, Response) and m.cseq_number == cseq]
    limited = bench.core.counters.requests_limited
    assert limited >= 185
    assert 0 < statuses.count(503) < 40, "then silence"
    assert bench.core.layer.active < 60
    bench.send(within("BYE", ok, 300, "y1"), ALICE)
    bench.take(ALICE)
    bench.advance(60)
    assert not bench.calls
    bench.sent.clear()


def test_the_other_side_of_the_call_has_its_own_budget():
    bench = Bench()
    bench.core.dialogs.requests_per_s = 1.0
    out, ok = establish(bench)
    for cseq in range(2, 30):
        bench.send(within("OPTIONS", ok, cseq, f"o{cseq}"), ALICE)
    bench.sent.clear()
    tag, callee = out.from_tag, "b1"
    text = f"""OPTIONS sip:s1@192.0.2.1 SIP/2.0
        Via: SIP/2.0/UDP {BOB};branch=z9hG4bKbo1
        Max-Forwards: 70
        From: <sip:1008@pbx.local>;tag={callee}
        To: <sip:1004@pbx.local>;tag={tag}
        Call-ID: {out.call_id}
        CSeq: 1 OPTIONS"""
    bench.send(text, BOB)
    assert bench.response(BOB, 200)


def test_messages_that_name_another_replica_are_carried_within_a_budget():
    carried: list[bytes] = []
    carrier: Any = SimpleNamespace(carry=lambda instance, carriage, data, flow: carried.append(data))
    bench = Bench(around={"peering": Peering("s1", carrier, frozenset({"s2"}))})
    bench.core.sources.rate, bench.core.sources.burst = 2.0, 4.0
    for number in range(200):
        bench.raw(message("BYE", tag="s2.1", branch=f"c{number}"), OFFICE)
        bench.raw(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKs2.1\r\n\r\n", OFFICE)
    assert len(carried) == 20
    assert bench.take(OFFICE) == []


def test_an_account_meets_its_limit_of_calls_and_hears_that_it_is_busy():
    bench = bench_of(quotas=QuotaPolicy(account_calls=2))
    for number in range(3):
        bench.raw(message("INVITE", credentials(bench.nonce(OFFICE)), branch=f"q{number}"), OFFICE)
    refused = [m for m in bench.take(OFFICE) if isinstance(m, Response)][-1]
    assert refused.status == 486
    assert "2 calls" in (refused.first("Warning") or "")
    assert len(bench.calls) == 2
    assert [record.name for call, record in bench.records if call not in bench.calls] == ["INITIATED", "ENDED"]
    bench.advance(200)
    bench.sent.clear()
    bench.assert_clean()
    assert len(bench.core.quotas) == 0


def test_a_call_that_its_caller_cancelled_counts_no_longer_whatever_its_callee_does():
    bench = bench_of(quotas=QuotaPolicy(account_calls=1))
    for number in range(3):
        bench.raw(message("INVITE", credentials(bench.nonce(OFFICE)), branch=f"k{number}"), OFFICE)
        assert [m.status for m in bench.take(OFFICE) if isinstance(m, Response)] == [100]
        bench.raw(message("CANCEL", branch=f"k{number}"), OFFICE)
        assert 487 in [m.status for m in bench.take(OFFICE) if isinstance(m, Response)]
    assert bench.calls, "Bob never answered"


def test_a_callee_that_too_many_calls_ring_at_is_busy_and_no_slot_is_taken():
    bench = bench_of(quotas=QuotaPolicy(account_calls=0, callee_ringing=1), authenticate=False)
    for number in range(2):
        bench.raw(message("INVITE", branch=f"r{number}"), OFFICE)
    assert [m.status for m in bench.take(OFFICE) if isinstance(m, Response)] == [100, 100, 486]
    assert len(bench.slots) == 1
    bench.advance(200)
    bench.sent.clear()
    bench.assert_clean()
    assert len(bench.core.quotas) == 0


def test_a_burst_of_one_accounts_attempts_is_refused_with_a_time_and_floods_leave_few_records():
    bench = bench_of(quotas=QuotaPolicy(account_calls=0, account_calls_per_s=1.0), source_burst=10_000.0)
    for number in range(100):
        bench.raw(message("INVITE", credentials(bench.nonce(OFFICE)), branch=f"s{number}"), OFFICE)
    finals = [m for m in bench.take(OFFICE) if isinstance(m, Response) and m.status >= 200]
    assert {m.status for m in finals} == {503}
    assert all(m.first("Retry-After") == "1" for m in finals)
    ended = [call for call, record in bench.records if record.name == "ENDED"]
    assert 0 < len(ended) <= 20
    assert sorted(ended) == sorted(call for call, r in bench.records if r.name == "INITIATED" if call in ended)


def test_the_quota_of_a_call_ends_with_it():
    bench = Bench()
    _, ok = establish(bench)
    assert len(bench.core.quotas) == 0, "nobody proved a user, and it does not ring any more"
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.sent.clear()


PLAIN = """{method} sip:1008@pbx.local SIP/2.0
Via: SIP/2.0/UDP {via};branch=z9hG4bKg{number};rport
Max-Forwards: {hops}
From: "Al" <sip:1004@pbx.local>;tag=g{number}
To: <sip:1008@pbx.local>{tag}
Call-ID: g{number}@x
CSeq: 1 {method}
User-Agent: {agent}
{extra}
Content-Length: 0"""


EXTRAS = ("X: y", "Require: a", "Privacy: id", "Session-Expires: 1")
HOPS_TAG_AGENT = ((70, "", "Phone"), (0, "", "baresip v1.0"), (1, ";tag=x", ""), (5, "", "sipp"))


@pytest.mark.parametrize("limits", [{}, {"source_requests_per_s": 1.0, "source_burst": 5.0}, {"calls_max": 0}])
@pytest.mark.parametrize("drains", [False, True])
def test_the_cheap_look_answers_as_the_whole_reading_does(limits: dict[str, Any], drains: bool):
    """The same octets, the same counters, for requests of every kind; only the way to them differs."""

    def outcome(glanced: tuple[bytes, ...]) -> tuple[list[bytes], Any, int]:
        bench = bench_of(**limits)
        bench.core.admission.glanced = glanced
        bench.core.router.draining = drains
        out: list[bytes] = []
        number = 0
        for method in ("INVITE", "REGISTER", "MESSAGE", "OPTIONS"):
            for extra in (
                "X: y",
                credentials("f" * 56),
                credentials("0", name="Authorization"),
                "Require: a",
                "Privacy: id",
            ):
                for hops, tag, agent in (
                    (70, "", "Phone"),
                    (0, "", "baresip v1.0"),
                    (1, ";tag=x", ""),
                    (5, "", "sipp"),
                ):
                    number += 1
                    text = PLAIN.format(
                        method=method, via=OFFICE, number=number, hops=hops, tag=tag, agent=agent, extra=extra
                    )
                    data = ("\r\n".join(text.splitlines()) + "\r\n\r\n").encode()
                    out += sent(bench, data, after_s=0.01)
        return out, dataclasses.asdict(bench.core.counters), len(bench.core.sources._strangers)

    whole = outcome(())
    assert outcome((b"INVITE ", b"REGISTER ", b"MESSAGE ")) == whole
    assert len(whole[0]) > 20


def test_the_cheap_look_leaves_alone_what_belongs_to_a_transaction():
    bench = bench_of()
    text = (
        "\r\n".join(
            PLAIN.format(
                method="INVITE",
                via=OFFICE,
                number=1,
                hops=70,
                tag="",
                agent="Phone",
                extra=credentials(bench.nonce(OFFICE)),
            ).splitlines()
        )
        + "\r\n\r\n"
    )
    bench.raw(text.encode(), OFFICE)
    bench.take(OFFICE)
    gate = bench.core.challenges
    bench.now += gate.nonces.lifetime_s + 1.0  # by now its nonce is too old, and its caller says it again
    again = text.encode()
    bench.raw(again, OFFICE)
    assert 407 not in [m.status for m in bench.take(OFFICE) if isinstance(m, Response)]
