"""Two SIP stations that place calls while the server is killed under them, and keep account of what they were told.

One UDP socket for all callers, one for the called party. Requests are repeated as RFC 3261 wants (T1 0.5 s), a 200
until its ACK. Nothing here knows the product; what a call must have left behind follows from what its caller was told.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

from support.wire import Credentials, Message, audio_sdp, render, token

T1_S: Final = 0.5
PATIENCE_S: Final = 8.0
"""How long a station waits for an answer; a killed server is back within two seconds."""
REGISTER_EVERY_S: Final = 15.0
RINGING_S: Final = (0.02, 0.3)
HOLD_S: Final = (0.3, 4.0)
CERTAIN: Final = frozenset({404, 408, 480, 486, 487, 488})
"""Final responses that only a call attempt on the record gets."""


@dataclass(slots=True)
class Placed:
    """One call as its caller saw it."""

    call_id: str
    status: int = 0
    """The highest response to the INVITE with credentials; 0 for none."""
    ended: bool = False
    """The BYE was answered 200."""

    @property
    def is_certain(self) -> bool:
        """Whether the server took it up: it must have a CDR. Else it may have one."""
        return 180 <= self.status < 300 or self.status in CERTAIN


class Station(asyncio.DatagramProtocol):
    """A socket; messages go to the queue of their Call-ID, those of none to `requests`."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self.queues: dict[str, asyncio.Queue[Message]] = {}
        self.requests: asyncio.Queue[Message] = asyncio.Queue()
        self.address = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]  # what makes datagrams is one
        self.address = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A message came."""
        message = Message.parse(data)
        self.queues.get(message.get("call-id"), self.requests).put_nowait(message)

    def error_received(self, exc: Exception) -> None:
        """The server is away: what is not answered is repeated."""

    def send(self, data: bytes) -> None:
        """To the server."""
        self._transport.sendto(data, self._server)

    def close(self) -> None:
        """No more."""
        self._transport.close()

    def via(self) -> str:
        """A Via with a fresh branch."""
        return f"SIP/2.0/UDP {self.address[0]}:{self.address[1]};branch=z9hG4bK{token()};rport"

    async def ask(self, data: bytes, queue: asyncio.Queue[Message], cseq: str, *, patience_s: float) -> Message | None:
        """Sends a request and repeats it; its first response beyond 100 (an INVITE: a provisional one too)."""
        loop = asyncio.get_running_loop()
        deadline, wait_s, heard = loop.time() + patience_s, T1_S, False
        self.send(data)
        while (left := deadline - loop.time()) > 0:
            try:
                message = await asyncio.wait_for(queue.get(), left if heard else min(wait_s, left))
            except TimeoutError:
                if not heard:
                    self.send(data)
                    wait_s = min(wait_s * 2, 4.0)
                continue
            if message.status and message.get("cseq") == cseq:
                if message.status > 100:
                    return message
                heard = True
        return None


@dataclass(slots=True)
class Caller:
    """Places calls from one account to another, each of them once."""

    station: Station
    credentials: Credentials
    target: str
    domain: str
    placed: list[Placed] = field(default_factory=list)

    async def call(self) -> None:
        """One call from INVITE to BYE, as far as the server lets it come."""
        placed = Placed(f"{token()}@chaos")
        self.placed.append(placed)
        queue = self.station.queues[placed.call_id] = asyncio.Queue()
        try:
            await self._call(placed, queue)
        finally:
            del self.station.queues[placed.call_id]

    async def _call(self, placed: Placed, queue: asyncio.Queue[Message]) -> None:
        tag = token()
        invite = self._invite(placed, tag, 1, "")
        answer = await self.station.ask(invite, queue, "1 INVITE", patience_s=PATIENCE_S)
        if answer is None:
            return
        self._acknowledge(answer, placed, tag, 1)
        if answer.status != 407:
            return
        proof = self.credentials.answer(answer.get("proxy-authenticate"), "INVITE", self._uri, count=1)
        invite = self._invite(placed, tag, 2, proof)
        answer = await self.station.ask(invite, queue, "2 INVITE", patience_s=PATIENCE_S)
        while answer is not None:
            placed.status = max(placed.status, answer.status)
            if answer.status >= 200:
                break
            answer = await self._next(queue, "2 INVITE")
        if answer is None:
            return
        self._acknowledge(answer, placed, tag, 2)
        if answer.status < 300:
            await self._talk(placed, queue, answer, tag)

    async def _next(self, queue: asyncio.Queue[Message], cseq: str) -> Message | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    message = await queue.get()
                    if message.status and message.get("cseq") == cseq:
                        return message
        except TimeoutError:
            return None

    async def _talk(self, placed: Placed, queue: asyncio.Queue[Message], answer: Message, tag: str) -> None:
        try:
            async with asyncio.timeout(random.uniform(*HOLD_S)):
                while True:
                    message = await queue.get()
                    if message.status == 200:
                        self._acknowledge(message, placed, tag, 2)  # our ACK was lost
                    elif message.method == "BYE":
                        self.station.send(response(message, 200))
                        placed.ended = True
                        return
        except TimeoutError:
            pass
        bye = self._within("BYE", answer, placed, tag, 3)
        final = await self.station.ask(bye, queue, "3 BYE", patience_s=PATIENCE_S)
        placed.ended = final is not None and final.status == 200

    @property
    def _uri(self) -> str:
        return f"sip:{self.target}@{self.domain}"

    def _invite(self, placed: Placed, tag: str, cseq: int, proof: str) -> bytes:
        host, port = self.station.address
        headers = [
            ("Via", self.station.via()),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{self.credentials.user}@{self.domain}>;tag={tag}"),
            ("To", f"<{self._uri}>"),
            ("Call-ID", placed.call_id),
            ("CSeq", f"{cseq} INVITE"),
            ("Contact", f"<sip:{self.credentials.user}@{host}:{port}>"),
            ("Content-Type", "application/sdp"),
        ]
        if proof:
            headers.append(("Proxy-Authorization", proof))
        return render(f"INVITE {self._uri} SIP/2.0", headers, audio_sdp(4000))

    def _acknowledge(self, answer: Message, placed: Placed, tag: str, cseq: int) -> None:
        if answer.status >= 200:
            self.station.send(self._within("ACK", answer, placed, tag, cseq))

    def _within(self, method: str, answer: Message, placed: Placed, tag: str, cseq: int) -> bytes:
        # The ACK for a failure belongs to the transaction of its INVITE and has its branch (RFC 3261 17.1.1.3).
        failed = answer.status >= 300
        target = self._uri if failed else answer.uri("contact")
        headers = [
            ("Via", answer.get("via") if failed else self.station.via()),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{self.credentials.user}@{self.domain}>;tag={tag}"),
            ("To", answer.get("to")),
            ("Call-ID", placed.call_id),
            ("CSeq", f"{cseq} {method}"),
        ]
        return render(f"{method} {target} SIP/2.0", headers)


def response(
    request: Message, status: int, tag: str = "", extra: tuple[tuple[str, str], ...] = (), body: str = ""
) -> bytes:
    """A response with what must be copied from its request."""
    to = request.get("to")
    if tag and ";tag=" not in to:
        to = f"{to};tag={tag}"
    headers = [("Via", value) for value in request.all("via")]
    headers += [("From", request.get("from")), ("To", to), ("Call-ID", request.get("call-id"))]
    headers += [("CSeq", request.get("cseq")), *extra]
    return render(f"SIP/2.0 {status} {'OK' if status == 200 else 'Ringing'}", headers, body)


class Called:
    """Answers every call; registered again and again, so that a killed server finds it."""

    def __init__(self, station: Station, credentials: Credentials, domain: str) -> None:
        self._station = station
        self._credentials = credentials
        self._domain = domain
        self._answers: dict[str, bytes] = {}
        """Call-ID to the last response to its INVITE."""
        self._confirmed: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cseq = 0
        self._call_id = f"{token()}@chaos"

    async def run(self) -> None:
        """Until cancelled."""
        registering = asyncio.ensure_future(self._keep_registered())
        try:
            while True:
                self._received(await self._station.requests.get())
        finally:
            registering.cancel()
            for task in self._tasks:
                task.cancel()

    async def register(self) -> bool:
        """One REGISTER with digest; whether it was accepted."""
        queue: asyncio.Queue[Message] = asyncio.Queue()
        self._station.queues[self._call_id] = queue
        uri, proof = f"sip:{self._domain}", ""
        for _ in range(2):
            self._cseq += 1
            answer = await self._station.ask(
                self._register(uri, proof), queue, f"{self._cseq} REGISTER", patience_s=4.0
            )
            if answer is None or answer.status != 401:
                return answer is not None and answer.status == 200
            proof = self._credentials.answer(answer.get("www-authenticate"), "REGISTER", uri)
        return False

    async def _keep_registered(self) -> None:
        while True:
            await asyncio.sleep(REGISTER_EVERY_S if await self.register() else 1.0)

    def _register(self, uri: str, proof: str) -> bytes:
        host, port = self._station.address
        user = f"<sip:{self._credentials.user}@{self._domain}>"
        headers = [
            ("Via", self._station.via()),
            ("Max-Forwards", "70"),
            ("From", f"{user};tag={token()}"),
            ("To", user),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self._cseq} REGISTER"),
            ("Contact", f"<sip:{self._credentials.user}@{host}:{port}>"),
            ("Expires", "120"),
        ]
        if proof:
            headers.append(("Authorization", proof))
        return render(f"REGISTER {uri} SIP/2.0", headers)

    def _received(self, message: Message) -> None:
        call_id = message.get("call-id")
        if message.status:
            return
        if message.method == "INVITE":
            if call_id in self._answers:
                self._station.send(self._answers[call_id])
                return
            task = asyncio.ensure_future(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif message.method == "ACK":
            self._confirmed.add(call_id)
        else:
            self._station.send(response(message, 200))
            self._confirmed.add(call_id)

    async def _answer(self, invite: Message) -> None:
        call_id, tag = invite.get("call-id"), token()
        host, port = self._station.address
        contact = ("Contact", f"<sip:{self._credentials.user}@{host}:{port}>")
        self._answers[call_id] = response(invite, 180, tag, (contact,))
        self._station.send(self._answers[call_id])
        await asyncio.sleep(random.uniform(*RINGING_S))
        final = response(invite, 200, tag, (contact, ("Content-Type", "application/sdp")), audio_sdp(4002))
        self._answers[call_id] = final
        wait_s = T1_S
        while wait_s < 8.0 and call_id not in self._confirmed:
            self._station.send(final)
            await asyncio.sleep(wait_s)
            wait_s *= 2
