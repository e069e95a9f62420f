"""Phones that say what they may, must not or have forgotten, in any order: the call ends once, nothing is left.

One calls a user who has one to four, each with a preference of its own, some not thought to be there. Each seed is a
script of their messages and of the time between them. `SIM_EXAMPLES=20000` looks at that many seeds
beyond those of each run.
"""

from __future__ import annotations

import os
import random

import pytest

from pbx_signaling.calls import signals as e
from pbx_signaling.calls.hunt import HuntPolicy, Ringing
from pbx_signaling.calls.state import CallPolicy
from pbx_sip.address import HostPort
from pbx_sip.message.message import Message, Request, Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import INVITE, from_bob, invite, reply, within

SEEDS = 600
MORE = int(os.environ.get("SIM_EXAMPLES", "0"))
GROUPS = 6
TYPE = "Content-Type: application/sdp"
CANCEL = INVITE.format(branch="i1").replace("INVITE", "CANCEL").replace(f"\n{TYPE}", "")
OF_INVITE = (
    "",
    "Require: 100rel",
    *(f"Session-Expires: {wish}\nSupported: timer" for wish in (1800, "90;refresher=uas")),
)
OF_200 = ("1800;refresher=uac", "120;refresher=uas\nAllow: UPDATE", "100;refresher=uac\nAllow: UPDATE")
STATUSES = (100, 180, 183, 200, 200, 200, 302, 404, 408, 422, 481, 486, 488, 491, 503, 603)
LONGEST_S = 5 * 3600
PHONES = [BOB, *(HostPort(f"192.0.2.{number}", 5060) for number in (21, 22, 23))]
PREFERENCES = (1000, 1000, 1000, 500, 0)


class Script:
    """One call of phones that follow no rule."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        hunt = HuntPolicy(self.chance.choice(list(Ringing)), self.chance.choice((1, 2, 10)))
        policy = CallPolicy(branch_s=self.chance.choice((3.0, 20.0)), hunt=hunt)
        self.bench = Bench(limits={"calls": policy})
        self.alice: list[Message] = []
        self.phones: dict[HostPort, list[Message]] = {}
        """What each has got so far."""
        self.cseq, self.bobs_cseq, self.rseq, self.step = 1, 0, 1, 0
        targets = [self.target(phone) for phone in PHONES[: self.chance.choice((1, 1, 1, 2, 3, 4))]]
        if self.chance.random() < 0.1:
            targets *= 2
        self.bench.found = e.Found(True, targets)

    def target(self, phone: HostPort) -> e.Target:
        return e.Target(
            uri=f"sip:1008@{phone}",
            aor="1008@pbx.local",
            path=(),
            transport=1,
            host=phone.host,
            port=phone.port,
            listener="udp4",
            connection=0,
            instance="s1",
            unreachable=self.chance.random() < 0.1,
            q_thousandths=self.chance.choice(PREFERENCES),
        )

    def play(self) -> None:
        """The whole call, and what must be true after it."""
        chance = self.chance
        invite(self.bench, self.body("192.0.2.10"), extra=chance.choice(OF_INVITE), reliable=chance.random() < 0.6)
        self.look()
        acts = (self.bob_responds, self.alice_asks, self.alice_responds, self.bob_asks, self.alice_cancels, self.wait)
        for self.step in range(chance.randrange(4, 30)):
            chance.choices(acts, (45, 15, 12, 12, 4, 12))[0]()
            self.look()
        self.bench.advance(LONGEST_S)
        self.bench.sent.clear()
        self.bench.assert_clean()
        assert self.bench.names().count("ENDED") == 1

    def look(self) -> None:
        self.alice += self.bench.take(ALICE)
        for phone in PHONES:
            got = self.bench.take(phone)
            if got:
                self.phones.setdefault(phone, []).extend(got)

    def phone(self) -> HostPort:
        """One of those that were invited."""
        return self.chance.choice(list(self.phones) or [BOB])

    def body(self, host: str) -> bytes:
        kind = self.chance.random()
        if kind < 0.35:
            return b""
        if kind < 0.4:
            return b"garbage"
        direction = self.chance.choice(("sendrecv", "sendonly", "recvonly", "inactive"))
        video = b"m=video 6000 RTP/AVP 34\r\n" if kind < 0.5 else b""
        return sdp(host, self.chance.choice((4000, 4002, 0)), direction=direction) + video

    def bob_responds(self) -> None:
        phone = self.phone()
        request = self.one_of(self.phones.get(phone, []), 4)
        if request is None:
            return
        status, extra = self.chance.choice(STATUSES), ""
        if status < 200 and self.chance.random() < 0.5:
            extra = f"Require: 100rel\nRSeq: {self.rseq}"
            self.rseq += self.chance.choice((0, 1, 1, 1, 2))
        elif status == 200 and self.chance.random() < 0.4:
            extra = f"Session-Expires: {self.chance.choice(OF_200)}"
        elif status == 422:
            extra = f"Min-SE: {self.chance.choice((90, 2000, 3000))}"
        elif status == 302:
            extra = "Contact: <sip:1009@pbx.local>"
        body = self.body(phone.host) if status < 300 else b""
        tag = self.chance.choice(("b1", "b1", "b1", "b2", ""))
        text = reply(request, status, body, tag=tag or "b1", extra=extra)
        text = text.replace(BOB.host, phone.host)
        self.bench.send(text if tag else text.replace(";tag=b1", ""), phone, body)

    def alice_responds(self) -> None:
        request = self.one_of(self.alice, 3)
        if request is not None:
            status = self.chance.choice((180, 200, 200, 200, 481, 488, 491))
            body = self.body("192.0.2.10") if status < 300 else b""
            self.bench.send(reply(request, status, body).replace("1008@192.0.2.20", "1004@192.0.2.10"), ALICE, body)

    def one_of(self, got: list[Message], last: int) -> Request | None:
        requests = [each for each in got if isinstance(each, Request) and each.method != "ACK"]
        return self.chance.choice(requests[-last:]) if requests else None

    def alice_asks(self) -> None:
        responses = [each for each in self.alice if isinstance(each, Response) and each.cseq_method == "INVITE"]
        tagged = [each for each in responses if each.to_tag]
        if not tagged:
            return
        response = self.chance.choice(tagged[-3:])
        method = self.chance.choice(("ACK", "ACK", "ACK", "PRACK", "UPDATE", "INVITE", "INFO", "BYE"))
        self.cseq += method != "ACK"
        text = within(method, response, response.cseq_number if method == "ACK" else self.cseq, f"a{self.step}")
        if method == "PRACK":
            text += f"\nRAck: {response.first('RSeq') or 1} {response.cseq_number} INVITE"
        self.say(text, method, ALICE)

    def bob_asks(self) -> None:
        phone = self.phone()
        got = self.phones.get(phone, [])
        invited = next((each for each in got if isinstance(each, Request) and each.method == "INVITE"), None)
        if invited is not None:
            method = self.chance.choice(("UPDATE", "INVITE", "INFO", "BYE", "ACK", "PRACK"))
            self.bobs_cseq += 1
            tag = self.chance.choice(("b1", "b1", "b2"))
            text = from_bob(method, invited, self.bobs_cseq, f"b{self.step}", tag=tag).replace(BOB.host, phone.host)
            self.say(text, method, phone)

    def say(self, text: str, method: str, phone: HostPort) -> None:
        user = "1004" if phone == ALICE else "1008"
        body = self.body(phone.host) if method in ("ACK", "PRACK", "UPDATE", "INVITE") else b""
        text += f"\nContact: <sip:{user}@{phone}>" + (f"\n{TYPE}" if body else "")
        self.bench.send(text, phone, body)

    def alice_cancels(self) -> None:
        self.bench.send(CANCEL, ALICE)

    def wait(self) -> None:
        self.bench.advance(self.chance.choice((0.1, 0.6, 5, 33)))


@pytest.mark.parametrize("group", range(GROUPS))
def test_whatever_phones_say_the_call_ends_once_and_nothing_is_left(group: int):
    for seed in range(group, SEEDS + MORE, GROUPS):
        try:
            Script(seed).play()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
