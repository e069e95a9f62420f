"""`core_instructions_per_call`: machine instructions of the SIP core alone for one call, counted by callgrind.

A call is INVITE, challenge, INVITE with digest, 180, 200, ACK, BYE. What a core is given for some hundred of them, one
a second on a virtual clock so that the transactions of those before end meanwhile, is recorded once from phones around
it (`record`); then it is given to a fresh core with the same clock and entropy, without phones, without a look at what
it says (`replay`). Two replays of different length are counted, and their difference divided by the calls more: what
Python takes to start, and the first calls, which are dearer, are not in it.

Events and snapshots are not put into bytes: that was outside of the core once, and commits are compared.

Counts hardly differ from run to run, whatever else the machine does. They say nothing of waiting for memory.

Another checkout is counted with its own code and by this file. It must have `support.bench_core.Bench`, and its core
the verbs of `VERBS`.
"""

from __future__ import annotations

import gc
import hashlib
import io
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

VERBS: Final = ("receive", "signal", "handle_timeout", "drain")
"""What a core is told by whoever drives it."""
CALLS: Final = (50, 150)
"""Of the two replays. 32 s after the first call the transactions of as many begin as end."""
FIGURE: Final = "core_instructions_per_call"
_COLLECTED: Final = re.compile(r"Collected\s*:\s*(\d+)")
_FIELD: Final = re.compile(r'(\w+)="?([^",]+)"?')
USER: Final = "1004"
PASSWORD: Final = "secret-1004"  # a test's
CNONCE: Final = "0a4f113b"
TARGET: Final = "sip:1008@192.0.2.1"

Input = tuple[str, tuple[Any, ...]]
"""A verb and what it was given."""
Told = tuple[list[list[bytes]], list[str]]
"""What a core was told during each call, each input as it was then; and the fingerprint of what it sent."""


def instructions(report: str) -> int:
    """What callgrind collected, out of what it writes at the end. Raises ValueError where it does not say."""
    found = _COLLECTED.search(report)
    if found is None:
        raise ValueError(f"callgrind tells no count: {report[-400:]!r}")
    return int(found[1])


def per_call(counts: dict[int, int]) -> int:
    """Instructions for one call, out of the counts of replays by their number of calls."""
    fewer, more = sorted(counts)
    return round((counts[more] - counts[fewer]) / (more - fewer))


def answer(challenge: str, method: str, uri: str) -> str:
    """A Proxy-Authorization value for a challenge (RFC 7616), without any code of the product."""
    asked = dict(_FIELD.findall(challenge))
    algorithm = asked.get("algorithm", "MD5")
    make = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256, "SHA-512-256": lambda data: hashlib.new("sha512_256", data)}

    def hashed(*parts: str) -> str:
        return str(make[algorithm](":".join(parts).encode()).hexdigest())

    secret, what = hashed(USER, asked["realm"], PASSWORD), hashed(method, uri)
    response = hashed(secret, asked["nonce"], "00000001", CNONCE, "auth", what)
    return (
        f'Digest username="{USER}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", uri="{uri}", '
        f'response="{response}", algorithm={algorithm}, cnonce="{CNONCE}", qop=auth, nc=00000001'
    )


class Phones:
    """The two phones of a call, written out: they use the core's own messages as little as can be."""

    def __init__(self, bench: Any) -> None:
        from support.bench_core import ALICE, BOB, sdp

        self._bench = bench
        self._alice, self._bob, self._sdp = ALICE, BOB, sdp

    def call(self, number: int) -> None:
        """One call, from the INVITE to the 200 for its BYE."""
        bench = self._bench
        self._invite(number, 1, "")
        challenge = self._last(self._alice)
        assert challenge.status == 407, "no digest was asked for"
        self._alice_sends("ACK", TARGET, number, 1, challenge.first("To"), branch=f"{number}INVITE1")
        credentials = answer(challenge.first("Proxy-Authenticate"), "INVITE", TARGET)
        self._invite(number, 2, f"\r\nProxy-Authorization: {credentials}")
        dialled = self._last(self._bob)
        for status, body in ((180, b""), (200, self._sdp(self._bob.host))):
            self._bob_answers(dialled, status, f"b{number}", body)
        answered = self._last(self._alice)
        contact = answered.first("Contact").strip("<>")
        cseq = int(answered.first("CSeq").split()[0])
        self._alice_sends("ACK", contact, number, cseq, answered.first("To"))
        self._alice_sends("BYE", contact, number, cseq + 1, answered.first("To"))
        self._bob_answers(self._last(self._bob), 200, "", b"")
        assert self._last(self._alice).status == 200, "the call did not end as it should"
        bench.sent.clear()
        bench.advance(1.0)

    def _last(self, to: Any) -> Any:
        return next(message for message, remote in reversed(self._bench.sent) if remote == to)

    def _invite(self, number: int, cseq: int, credentials: str) -> None:
        more = (
            f"\r\nContact: <sip:1004@192.0.2.10:5060>\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK"
            f"\r\nSupported: replaces, timer\r\nContent-Type: application/sdp{credentials}"
        )
        self._alice_sends("INVITE", TARGET, number, cseq, f"<{TARGET}>", more, self._sdp(self._alice.host))

    def _alice_sends(
        self,
        method: str,
        uri: str,
        number: int,
        cseq: int,
        to: str,
        more: str = "",
        body: bytes = b"",
        branch: str = "",
    ) -> None:
        head = (
            f"{method} {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{branch or f'{number}{method}{cseq}'};rport\r\n"
            f"Max-Forwards: 70\r\n"
            f'From: "Alice" <sip:1004@192.0.2.1>;tag=a{number}\r\n'
            f"To: {to}\r\n"
            f"Call-ID: call-{number}@192.0.2.10\r\n"
            f"CSeq: {cseq} {method}\r\n"
            f"User-Agent: phone 1.0{more}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._bench.raw(head.encode() + body, self._alice)

    def _bob_answers(self, request: Any, status: int, tag: str, body: bytes) -> None:
        to = request.first("To")
        lines = [
            f"SIP/2.0 {status} {'OK' if status == 200 else 'Ringing'}",
            *(f"{name}: {request.first(name)}" for name in ("Via", "From")),
            f"To: {to};tag={tag}" if tag else f"To: {to}",
            *(f"{name}: {request.first(name)}" for name in ("Call-ID", "CSeq")),
            "Contact: <sip:1008@192.0.2.20:5060>",
            "User-Agent: phone 1.0",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self._bench.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body, self._bob)


def new_bench() -> Any:
    """A core that asks for digests, with its surroundings; of whichever checkout is on the path."""
    from support.bench_core import Bench

    os.urandom = random.Random(0).randbytes  # ids of calls and events are made from it
    bench = Bench(authenticate=True)
    if hasattr(bench.core, "steps"):
        bench.core.steps._encoder = Unwritten()
    return bench


class Unwritten:
    """Makes no bytes of events and snapshots: older checkouts did so outside of their core, and are compared."""

    def encode(self, entry: Any, records: list[Any]) -> tuple[tuple[bytes, ...], bytes]:
        """As many events, and a snapshot."""
        return (b"",) * len(records), b"-"


def spoken_to(core: Any) -> Any:
    """Who has the verbs: the core's router, or in older checkouts the core itself."""
    return getattr(core, "router", core)


class Writer(pickle.Pickler):
    """Writes what a core is given; a part of the core's own by its name."""

    def __init__(self, file: io.BytesIO, core: Any) -> None:
        super().__init__(file)
        self._names = {id(part): name for name, part in vars(core).items() if hasattr(part, "__dict__")}

    def persistent_id(self, given: Any) -> str | None:
        """The name, where it is one."""
        return self._names.get(id(given))


class Reader(pickle.Unpickler):
    """Reads it for another core."""

    def __init__(self, file: io.BytesIO, core: Any) -> None:
        super().__init__(file)
        self._core = core

    def persistent_load(self, name: str) -> Any:
        """That core's part of the name."""
        return getattr(self._core, name)


def fingerprint(given_back: list[Any]) -> str:
    """Of all that left in the steps which the verbs gave back during a call."""
    steps = [step for outputs in given_back if isinstance(outputs, list) for step in outputs]
    sent = [data for step in steps for data, _ in getattr(step, "transmits", ())]
    assert sent, "nothing was sent during a call"
    return hashlib.sha256(b"".join(sent)).hexdigest()


def record(calls: int) -> Told:
    """Plays so many calls, and writes down what the core is told."""
    bench = new_bench()
    speaker = spoken_to(bench.core)
    told: list[list[bytes]] = []
    prints: list[str] = []
    given_back: list[Any] = []
    inside = False

    def listening(verb: str) -> Any:
        act = getattr(speaker, verb)

        def wrapped(*given: Any) -> Any:
            nonlocal inside
            if inside:
                return act(*given)
            Writer(file := io.BytesIO(), bench.core).dump((verb, given))
            told[-1].append(file.getvalue())
            inside = True
            try:
                back = act(*given)
            finally:
                inside = False
            given_back.append(back)
            return back

        return wrapped

    for verb in VERBS:
        if hasattr(speaker, verb):
            setattr(speaker, verb, listening(verb))
    phones = Phones(bench)
    for number in range(calls):
        told.append([])
        phones.call(number)
        prints.append(fingerprint(given_back))
        given_back.clear()
    return told, prints


def inputs_of(core: Any, told: list[list[bytes]]) -> list[list[tuple[Any, tuple[Any, ...]]]]:
    """The verbs of a core with what they are given, by call."""
    read: list[list[Input]] = [[Reader(io.BytesIO(data), core).load() for data in of_call] for of_call in told]
    speaker = spoken_to(core)
    return [[(getattr(speaker, verb), given) for verb, given in of_call] for of_call in read]


def check(told: Told) -> None:
    """A core that is told the same says the same. Raises AssertionError."""
    inputs, prints = told
    for number, of_call in enumerate(inputs_of(new_bench().core, inputs)):
        said = fingerprint([act(*given) for act, given in of_call])
        assert said == prints[number], f"the replay of call {number} took another way than its record"


def replay(told: Told, calls: int) -> None:
    """Tells a fresh core the same, for the first so many calls."""
    inputs = inputs_of(new_bench().core, told[0])  # all are read, whatever is used: that costs the same each time
    gc.collect()
    gc.disable()  # the product's collector hardly ever runs either, and how often it did here would be chance
    for of_call in inputs[:calls]:
        for act, given in of_call:
            act(*given)


def count(tree: Path, python: str = sys.executable) -> int:
    """Instructions for a call of the code in a checkout. Raises CalledProcessError, ValueError."""
    sources = sorted([*tree.glob("libs/*/src"), *tree.glob("services/*/src")])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, [tree / "tests", *sources, tree / "proto/gen"])),
        "PYTHONHASHSEED": "0",
    }
    with tempfile.TemporaryDirectory() as directory:
        told = str(Path(directory, "told"))
        script = [python, str(Path(__file__).resolve())]
        run = {"env": environment, "cwd": directory, "check": True, "capture_output": True, "text": True}
        subprocess.run([*script, "record", told], **run)  # type: ignore[call-overload]
        subprocess.run([*script, "check", told], **run)  # type: ignore[call-overload]
        counts = {}
        for calls in CALLS:
            valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
            ended = subprocess.run([*valgrind, *script, "replay", told, str(calls)], **run)  # type: ignore[call-overload]
            counts[calls] = instructions(ended.stderr)
    return per_call(counts)


def figure() -> int | None:
    """Instructions for a call of this checkout; None where callgrind is not installed."""
    return count(Path(__file__).resolve().parents[2]) if shutil.which("valgrind") else None


def main(arguments: list[str]) -> int:
    """A part of the count in a process of its own: `record FILE`, `check FILE`, `replay FILE CALLS`."""
    part, path = arguments[0], Path(arguments[1])
    if part == "record":
        path.write_bytes(pickle.dumps(record(max(CALLS))))
        return 0
    told: Told = pickle.loads(path.read_bytes())
    if part == "check":
        check(told)
    else:
        replay(told, int(arguments[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
