"""Offer/answer stories in a few words a line, played on a `MediaSession`, and what came of them in the same words.

A description is streams with `|` between: `audio:4000`, `video:4002:RTP/SAVP sendonly mux`. After kind and port (and
transport, RTP/AVP where none is given) come, as they are needed: a direction, `mux`, `ice`, `crypto`, `c=ADDRESS`,
`rtcp=PORT[@ADDRESS]`, `fmt=0,8` (`fmt=` for none), `mid=NAME`. In front, between brackets, stand words of the session:
`[sendonly c=0.0.0.0]`. `-` is a description without streams.

What a side gets reads alike; ports there are `A`, `V` (the relay's for audio and video towards this side), `0`, or `?`
where they are anybody else's; a family stands in front where it is not IPv4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pbx_runtime.media_address import Barred
from pbx_signaling.calls.signals import Side
from pbx_signaling.media.endpoint import SessionRefused
from pbx_signaling.media.session import MediaSession
from pbx_signaling.media.stream import Media, Slot, StreamEndpoint
from pbx_sip.sdp.model import SessionDescription

HOSTS = {Side.CALLER: "192.0.2.10", Side.CALLEE: "192.0.2.20"}
NAMES = {"alice": Side.CALLER, "bob": Side.CALLEE}
HOST4, HOST6 = "203.0.113.5", "2001:db8::5"
PORTS = {(1, 1): (30000, 30001), (1, 2): (30002, 30003), (2, 1): (30004, 30005), (2, 2): (30006, 30007)}
LETTERS = {Media.AUDIO: "A", Media.VIDEO: "V"}
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
INTERNAL = "10.96.0.0/16"


@dataclass
class Story:
    """One case of the table."""

    name: str
    steps: list[tuple[str, str, str]] = field(default_factory=list)
    """Who, does what, with which words."""

    def __str__(self) -> str:
        return self.name


def stories(path: Path) -> list[Story]:
    """The table of a file: a title, then steps, indented; `#` begins a remark."""
    found: list[Story] = []
    for line in path.read_text("ascii").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            found.append(Story(line.strip()))
            continue
        who, verb, *words = line.split(maxsplit=2)
        found[-1].steps.append((who, verb, words[0] if words else ""))
    return found


def written(words: str, host: str) -> bytes:
    """A description in SDP."""
    session, streams = "", words
    if words.startswith("["):
        session, _, streams = words[1:].partition("]")
    lines = ["v=0", f"o=- 7 1 IN {_family(host)} {host}", "s=-"]
    named = _value(session, "c")
    address = host if named is None else named
    lines += [f"c=IN {_family(address)} {address}", "t=0 0"]
    lines += [f"a={word}" for word in session.split() if word in DIRECTIONS]
    for stream in streams.split("|"):
        if stream.strip() != "-":
            lines += _stream(stream.split())
    return ("\r\n".join(lines) + "\r\n").encode()


def _stream(words: list[str]) -> Iterator[str]:
    kind, port, *proto = words[0].split(":", 2)
    transport = proto[0] if proto else "RTP/AVP"
    formats = _value(" ".join(words), "fmt")
    if formats is None:
        formats = {"audio": "0,8", "video": "96", "image": "t38"}.get(kind, "*")
    yield " ".join(["m=" + kind, port, transport, *formats.split(",")]).strip()
    for word in words[1:]:
        name, _, value = word.partition("=")
        match name:
            case "c":
                yield f"c=IN {_family(value)} {value}"
            case "mux":
                yield "a=rtcp-mux"
            case "rtcp":
                number, _, address = value.partition("@")
                yield f"a=rtcp:{number}" + (f" IN {_family(address)} {address}" if address else "")
            case "ice":
                yield from (
                    "a=ice-ufrag:ab",
                    "a=ice-pwd:0123456789012345678901",
                    "a=candidate:1 1 UDP 1 192.0.2.99 9 typ host",
                )
            case "crypto":
                yield "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40
            case "mid":
                yield f"a=mid:{value}"
            case "fmt":
                pass
            case _:
                yield f"a={word}"


def _value(words: str, name: str) -> str | None:
    return next((word[len(name) + 1 :] for word in words.split() if word.startswith(f"{name}=")), None)


def _family(host: str) -> str:
    return "IP6" if ":" in host else "IP4"


def read(data: bytes, side: Side) -> str:
    """What a side got, in words."""
    description = SessionDescription.parse(data)
    host = description.connection
    assert host in (HOST4, HOST6), data
    ours = {pair[0]: LETTERS[Media(media)] for (to, media), pair in PORTS.items() if to == side}
    found = []
    for stream in description.media:
        words = [f"{stream.kind}:{'0' if not stream.port else ours.get(stream.port, '?')}"]
        if stream.proto != "RTP/AVP":
            words[0] += f":{stream.proto}"
        if stream.port:
            words += [stream.direction] * (stream.direction != "sendrecv") + ["mux"] * stream.rtcp_mux
            rtcp = stream.attribute("rtcp")
            if rtcp is not None:
                words.append(
                    {stream.port: "rtcp=same", stream.port + 1: "rtcp=next"}.get(int(rtcp.split()[0]), "rtcp=?")
                )
        found.append(" ".join(words))
    return ("6 " if host == HOST6 else "") + (" | ".join(found) or "-")


def endpoints(told: list[StreamEndpoint]) -> str:
    """What the relay is told, in words."""
    return ", ".join(map(_endpoint, sorted(told, key=lambda one: (one.side, one.media)))) or "nothing"


def _endpoint(endpoint: StreamEndpoint) -> str:
    name = f"{'alice' if endpoint.side == 1 else 'bob'}.{LETTERS[Media(endpoint.media)]}"
    if not endpoint.port:
        return f"{name} off"
    words = [f"{name} {endpoint.host}:{endpoint.port}", endpoint.direction.name.lower()]
    if not endpoint.rtcp_port:
        words.append("no-rtcp")
    elif endpoint.rtcp_mux:
        words.append("mux")
    elif (endpoint.rtcp_host, endpoint.rtcp_port) != (endpoint.host, endpoint.port + 1):
        words.append(f"rtcp={endpoint.rtcp_host}:{endpoint.rtcp_port}")
    return " ".join(words)


class Player:
    """Plays a story and answers it with what came of each step."""

    def __init__(self) -> None:
        self.barred = Barred([INTERNAL], [HOST4, HOST6, "203.0.113.1"])
        self.media = MediaSession(7, Slot("r1", 3750, HOST4, HOST6, PORTS))
        self.hosts = dict(HOSTS)
        for side, host in HOSTS.items():
            self.media.place(side, host)
        self.got: dict[Side, bytes] = {}
        self.told: list[StreamEndpoint] = []
        self.begun = self.answered = False
        self.invited_without_offer = False

    def play(self, story: Story) -> Story:
        """The same story as it went."""
        went = Story(story.name)
        for who, verb, words in story.steps:
            went.steps.append((who, verb, self._step(who, verb, words)))
        return went

    def _step(self, who: str, verb: str, words: str) -> str:
        name, _, fork = who.partition("/")
        if name == "relay":
            told, self.told = self.told, []
            return endpoints(told)
        side = NAMES[name]
        if verb == "gets":
            return read(self.got.pop(side), side) if side in self.got else "nothing"
        if verb == "at":
            self.media.place(side, words)
            self.hosts[side] = words
            return words
        plain, _, _ = words.partition(" -> ")
        try:
            self._act(side, verb, fork, written(plain, self.hosts[side]) if plain else b"")
        except SessionRefused as error:
            return f"{plain} -> {error.status}".strip()
        return plain

    def _act(self, side: Side, verb: str, fork: str, data: bytes) -> None:
        media, barred = self.media, self.barred
        match verb:
            case "offers" if not self.begun and side is Side.CALLER:
                self.told = media.first_offer(data, barred)
                self.got[side.other] = media.forward_offer(side, data, barred)
                self.begun = True
            case "offers" if self.answered:
                self.got[side.other] = media.offer(side, data, barred)
            case "invites":
                self.begun = self.invited_without_offer = True
            case "offers":
                self._carry(side, data)
            case "early":
                self._carry(side, data, provisional=True, may_offer=self.invited_without_offer, fork=fork)
            case "answers":
                self._carry(side, data, may_offer=False, fork=fork)
                self.answered = True
            case "accepts":
                self.told = media.settle(fork)
                self.answered = True
            case "repeats":
                self._carry(side, data, may_offer=False)
            case "refuses":
                media.rollback(side.other)
            case _:
                raise ValueError(verb)

    def _carry(self, side: Side, data: bytes, **how: object) -> None:
        self.got[side.other], self.told = self.media.carry(side, data, self.barred, **how)  # type: ignore[arg-type]


def lines_of(story: Story) -> str:
    """A story as the table has it."""
    return "\n".join([story.name, *(f"  {who:7} {verb:8} {words}".rstrip() for who, verb, words in story.steps)])


SESSION = re.compile(
    r"v=0\r\no=\S+ \d+ \d+ IN IP[46] [0-9a-f.:]+\r\ns=.+\r\n(?:[iuep]=.+\r\n)*c=IN IP[46] [0-9a-f.:]+\r\n"
    r"(?:b=\S+\r\n)*(?:t=\d+ \d+\r\n(?:r=.+\r\n)*)+(?:z=.+\r\n)?(?:k=.+\r\n)?(?:a=[^\x00\r\n]+\r\n)*"
)
STREAM = re.compile(
    r"m=[a-z]+ \d+ [A-Z0-9/]+(?: \S+)+\r\n(?:i=.+\r\n)?(?:b=\S+\r\n)*(?:k=.+\r\n)?(?:a=[^\x00\r\n]+\r\n)*"
)


def is_lawful(data: bytes) -> bool:
    """Whether a description is one by the grammar of RFC 8866, in the order of its lines."""
    text = data.decode("utf-8", "surrogateescape")
    session = SESSION.match(text)
    at = session.end() if session else -1
    while session and 0 <= at < len(text):
        stream = STREAM.match(text, at)
        at = stream.end() if stream else -1
    return session is not None and at == len(text)
