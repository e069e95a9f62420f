"""Prove an installation: register two users, place a call, send RTP both ways through a relay, hang up.

`python -m pbx_cli.smoke HOST:PORT DOMAIN USER:PASSWORD USER:PASSWORD` (passwords as `@FILE` are read from files). The
`helm test` job runs it. A phone of a few lines on the standard library: it repeats requests until they are answered and
knows nothing beyond this one call.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PACKETS: Final = 50
"""One second of G.711 in packets of 20 ms."""
PACKET_S: Final = 0.02
REPEAT_S: Final = 1.0
PATIENCE_S: Final = 15.0
ALGORITHMS: Final = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_LARGEST: Final = 65_535


class SmokeError(Exception):
    """What did not work, for a person."""


def header(message: str, name: str) -> str:
    """The first value of a header; empty: none."""
    found = re.search(rf"(?im)^{name}\s*:\s*(.*?)\r?$", message)
    return found[1] if found else ""


def status(message: str) -> int:
    """Of a response; 0 for a request."""
    found = re.match(r"SIP/2\.0 (\d{3}) ", message)
    return int(found[1]) if found else 0


def media(message: str) -> tuple[str, int]:
    """Where an SDP wants its audio. Raises SmokeError."""
    host, port = re.search(r"(?m)^c=IN IP[46] (\S+)", message), re.search(r"(?m)^m=audio (\d+)", message)
    if not host or not port:
        raise SmokeError("an SDP without audio came")
    return host[1], int(port[1])


def digest(challenge: str, user: str, password: str, method: str, uri: str) -> str:
    """The credentials for a challenge (RFC 8760). Raises SmokeError for an algorithm not known."""
    fields = {key: quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', challenge)}
    algorithm = fields.get("algorithm", "MD5")
    if algorithm.upper() not in ALGORITHMS:
        raise SmokeError(f"the challenge wants {algorithm}")

    def hashed(text: str) -> str:
        return hashlib.new(ALGORITHMS[algorithm.upper()], text.encode()).hexdigest()

    first = hashed(f"{user}:{fields['realm']}:{password}")
    second = hashed(f"{method}:{uri}")
    cnonce = os.urandom(8).hex()
    middle = f"{fields['nonce']}:00000001:{cnonce}:auth" if "qop" in fields else fields["nonce"]
    parts = {"username": user, "realm": fields["realm"], "nonce": fields["nonce"], "uri": uri}
    parts["response"] = hashed(f"{first}:{middle}:{second}")
    text = ", ".join(f'{key}="{value}"' for key, value in parts.items()) + f", algorithm={algorithm}"
    if "opaque" in fields:
        text += f', opaque="{fields["opaque"]}"'
    return f'Digest {text}, qop=auth, nc=00000001, cnonce="{cnonce}"' if "qop" in fields else f"Digest {text}"


@dataclass(slots=True)
class Phone:
    """One user on one UDP socket, with another one for its audio."""

    server: tuple[str, int]
    domain: str
    user: str
    password: str = field(repr=False)
    sip: socket.socket = field(init=False)
    rtp: socket.socket = field(init=False)
    host: str = field(init=False)
    tag: str = field(init=False)
    cseq: int = 0

    def __post_init__(self) -> None:
        """Open the sockets; our address is the one from which the server is reached."""
        family = socket.AF_INET6 if ":" in self.server[0] else socket.AF_INET
        self.sip, self.rtp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
        self.sip.connect(self.server)
        self.host = self.sip.getsockname()[0]
        self.rtp.bind((self.host, 0))
        self.tag = os.urandom(6).hex()

    def close(self) -> None:
        """Close the sockets."""
        self.sip.close()
        self.rtp.close()

    @property
    def contact(self) -> str:
        """Our address."""
        return f"<sip:{self.user}@{self.host}:{self.sip.getsockname()[1]}>"

    @property
    def sdp(self) -> str:
        """One G.711 stream."""
        lines = ("v=0", f"o=- 1 1 IN IP4 {self.host}", "s=-", f"c=IN IP4 {self.host}", "t=0 0")
        audio = (f"m=audio {self.rtp.getsockname()[1]} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=sendrecv")
        return "\r\n".join((*lines, *audio)) + "\r\n"

    def render(self, start: str, headers: list[tuple[str, str]], body: str = "") -> str:
        """A message."""
        kind = [("Content-Type", "application/sdp")] if body else []
        lines = [f"{name}: {value}" for name, value in (*headers, *kind, ("Content-Length", str(len(body.encode()))))]
        return "\r\n".join((start, *lines)) + f"\r\n\r\n{body}"

    def request(
        self, method: str, uri: str, call_id: str, to: str, extra: list[tuple[str, str]], body: str = ""
    ) -> str:
        """A request with a CSeq and a branch of its own."""
        if method != "ACK":
            self.cseq += 1
        here = f"{self.host}:{self.sip.getsockname()[1]}"
        headers = [
            ("Via", f"SIP/2.0/UDP {here};rport;branch=z9hG4bK{os.urandom(8).hex()}"),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{self.user}@{self.domain}>;tag={self.tag}"),
            ("To", to),
            ("Call-ID", call_id),
            ("CSeq", f"{self.cseq} {method}"),
            ("Contact", self.contact),
            *extra,
        ]
        return self.render(f"{method} {uri} SIP/2.0", headers, body)

    def receive(self, until: float) -> str:
        """The next message; empty: none until then."""
        self.sip.settimeout(max(0.01, until - time.monotonic()))
        try:
            return self.sip.recv(_LARGEST).decode("utf-8", "replace")
        except TimeoutError:
            return ""
        except ConnectionRefusedError:
            raise SmokeError(f"{self.server[0]}:{self.server[1]} refuses: nothing listens there") from None

    def expect(self, what: str, cseq: int, *, repeat: str = "") -> str:
        """The final response to a request (`repeat` is sent again meanwhile). Raises SmokeError."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if repeat:
                self.sip.send(repeat.encode())
            until = time.monotonic() + REPEAT_S
            while message := self.receive(until):
                if status(message) >= 200 and header(message, "CSeq").split(" ")[0] == str(cseq):
                    return message
        raise SmokeError(f"no answer to {what} in {PATIENCE_S:g} s")

    def register(self) -> None:
        """With digest. Raises SmokeError."""
        call_id, to, uri = os.urandom(8).hex(), f"<sip:{self.user}@{self.domain}>", f"sip:{self.domain}"
        first = self.request("REGISTER", uri, call_id, to, [("Expires", "120")])
        answer = self.expect("REGISTER", self.cseq, repeat=first)
        if status(answer) == 401:
            credentials = digest(header(answer, "WWW-Authenticate"), self.user, self.password, "REGISTER", uri)
            again = self.request("REGISTER", uri, call_id, to, [("Expires", "120"), ("Authorization", credentials)])
            answer = self.expect("REGISTER", self.cseq, repeat=again)
        if status(answer) != 200:
            raise SmokeError(f"REGISTER of {self.user}: {answer.splitlines()[0]}")

    def invite(self, callee: str, extra: list[tuple[str, str]], call_id: str) -> str:
        """Send an INVITE; the request as sent."""
        uri = f"sip:{callee}@{self.domain}"
        sent = self.request("INVITE", uri, call_id, f"<{uri}>", extra, self.sdp)
        self.sip.send(sent.encode())
        return sent

    def answer(self, invite: str, code: str, body: str = "") -> None:
        """A response to a request."""
        names = ("From", "Call-ID", "CSeq")
        vias = [("Via", value) for value in re.findall(r"(?im)^Via\s*:\s*(.*?)\r?$", invite)]
        to = header(invite, "To")
        to = to if ";tag=" in to else f"{to};tag={self.tag}"
        kept = [(name, header(invite, name)) for name in names]
        self.sip.send(
            self.render(f"SIP/2.0 {code}", [*vias, *kept, ("To", to), ("Contact", self.contact)], body).encode()
        )

    def await_request(self, method: str) -> str:
        """The next request of a method. Raises SmokeError."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            message = self.receive(end)
            if message.startswith(f"{method} "):
                return message
        raise SmokeError(f"no {method} reached {self.user}")


def acknowledge(caller: Phone, sent: str, answer: str) -> None:
    """ACK of a final answer; for a failure on the INVITE's own transaction."""
    if status(answer) < 300:
        target = re.search(r"<?(sip:[^>;\s]+)", header(answer, "Contact"))
        uri = target[1] if target else sent.split(" ")[1]
        caller.sip.send(caller.request("ACK", uri, header(sent, "Call-ID"), header(answer, "To"), []).encode())
        return
    names = ("Via", "Max-Forwards", "From", "Call-ID")
    kept = [(name, header(sent, name)) for name in names]
    cseq = header(sent, "CSeq").split(" ")[0]
    extra = [("To", header(answer, "To")), ("CSeq", f"{cseq} ACK")]
    caller.sip.send(caller.render(f"ACK {sent.split(' ')[1]} SIP/2.0", [*kept, *extra]).encode())


def call(caller: Phone, callee: Phone) -> tuple[str, tuple[str, int], tuple[str, int]]:
    """Set a call up. The answer to the INVITE, and where each side is to send its audio. Raises SmokeError."""
    call_id = os.urandom(8).hex()
    sent = caller.invite(callee.user, [], call_id)
    answer = caller.expect("INVITE", caller.cseq)
    if status(answer) in (401, 407):
        acknowledge(caller, sent, answer)
        proxy = status(answer) == 407
        challenge = header(answer, "Proxy-Authenticate" if proxy else "WWW-Authenticate")
        uri = f"sip:{callee.user}@{caller.domain}"
        credentials = digest(challenge, caller.user, caller.password, "INVITE", uri)
        sent = caller.invite(callee.user, [("Proxy-Authorization" if proxy else "Authorization", credentials)], call_id)
    else:
        raise SmokeError(f"INVITE was not challenged: {answer.splitlines()[0]}")
    offer = callee.await_request("INVITE")
    callee.answer(offer, "180 Ringing")
    callee.answer(offer, "200 OK", callee.sdp)
    answer = caller.expect("INVITE", caller.cseq)
    if status(answer) != 200:
        raise SmokeError(f"INVITE: {answer.splitlines()[0]}")
    acknowledge(caller, sent, answer)
    callee.await_request("ACK")
    return answer, media(answer), media(offer)


def talk(caller: Phone, callee: Phone, of_caller: tuple[str, int], of_callee: tuple[str, int]) -> None:
    """A second of audio both ways through the relay. Raises SmokeError where most of it does not arrive."""
    heard = {caller.user: 0, callee.user: 0}
    for number in range(PACKETS):
        packet = (
            bytes([0x80, 0]) + number.to_bytes(2, "big") + (number * 160).to_bytes(4, "big") + b"pbx!" + b"\xff" * 160
        )
        caller.rtp.sendto(packet, of_caller)
        callee.rtp.sendto(packet, of_callee)
        time.sleep(PACKET_S)
        for phone in (caller, callee):
            heard[phone.user] += drained(phone.rtp)
    for user, count in heard.items():
        if count < PACKETS * 0.8:
            raise SmokeError(f"{user} heard {count} of {PACKETS} packets: no media through {of_caller[0]}")


def drained(sock: socket.socket) -> int:
    """How many packets have come."""
    sock.setblocking(False)
    count = 0
    while count < PACKETS:
        try:
            sock.recv(_LARGEST)
        except BlockingIOError:
            break
        count += 1
    return count


def hang_up(caller: Phone, callee: Phone, answer: str) -> None:
    """BYE from the caller. Raises SmokeError."""
    target = re.search(r"<?(sip:[^>;\s]+)", header(answer, "Contact"))
    bye = caller.request("BYE", target[1] if target else "", header(answer, "Call-ID"), header(answer, "To"), [])
    caller.sip.send(bye.encode())
    callee.answer(callee.await_request("BYE"), "200 OK")
    if status(caller.expect("BYE", caller.cseq, repeat=bye)) != 200:
        raise SmokeError("BYE was refused")


def prove(caller: Phone, callee: Phone) -> None:
    """All of it. Raises SmokeError that names the step."""
    for phone in (caller, callee):
        phone.register()
        sys.stdout.write(f"{phone.user} is registered\n")
    answer, of_caller, of_callee = call(caller, callee)
    sys.stdout.write(f"{caller.user} calls {callee.user}: answered; media through {of_caller[0]}\n")
    talk(caller, callee, of_caller, of_callee)
    sys.stdout.write("both hear the other\n")
    hang_up(caller, callee, answer)
    sys.stdout.write("hung up: the installation works\n")


def _phone(server: tuple[str, int], domain: str, account: str) -> Phone:
    user, _, password = account.partition(":")
    if password.startswith("@"):
        password = Path(password[1:]).read_text(encoding="utf-8").strip()
    return Phone(server, domain, user, password)


def main(arguments: list[str]) -> int:
    """Prove, and say how it went. The exit code."""
    place, domain, *accounts = arguments
    host, _, port = place.rpartition(":")
    phones = [_phone((host.strip("[]"), int(port)), domain, account) for account in accounts]
    try:
        prove(*phones)
    except SmokeError as error:
        sys.stderr.write(f"smoke test failed: {error}\n")
        return 1
    finally:
        for phone in phones:
            phone.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
