"""The edges: proto to domain and back, settings, the choice of a datapath, the lease in Redis, metrics."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError

from pbx.events.v1 import events_pb2
from pbx.media.v1 import media_pb2
from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay import events
from pbx_media_relay.api import convert
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.counters import StreamReport
from pbx_media_relay.datapath import select as selection
from pbx_media_relay.datapath.base import Counters
from pbx_media_relay.datapath.null import NullDatapath
from pbx_media_relay.datapath.python import PythonDatapath
from pbx_media_relay.datapath.select import UnsupportedError, Wanted, select
from pbx_media_relay.endpoint import Endpoint, canonical_host, received_from
from pbx_media_relay.errors import InvalidStreamError, NoFreeSlotError
from pbx_media_relay.forward import Medium, Side
from pbx_media_relay.identity import Identity
from pbx_media_relay.observe import Observer
from pbx_media_relay.order import Order
from pbx_media_relay.outbox import Announcer
from pbx_media_relay.ports import Shard, SlotPool
from pbx_media_relay.recording.messages import Stored
from pbx_media_relay.relay import Relay
from pbx_media_relay.settings import RelaySettings
from pbx_media_relay.stream import Direction, PayloadType, Stream
from pbx_runtime import errors

CIVIL = CivilTime(lambda: 5_000_000_000, lambda: 1_700_000_000_000_000_000)
PCMU = PayloadType(0, "PCMU", 8000, 1, 20)


@pytest.mark.parametrize(
    ("text", "host"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1"), ("::1", "::1")],
)
def test_one_spelling_per_address(text: str, host: str) -> None:
    assert canonical_host(text) == host


@pytest.mark.parametrize(
    "text", ["", "example.com", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "fe80::1%eth0", "192.0.2"]
)
def test_no_media_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_host(text)


def test_what_a_socket_tells() -> None:
    assert received_from(("192.0.2.1", 5)) == Endpoint("192.0.2.1", 5)
    assert received_from(("::ffff:192.0.2.1", 5, 0, 0)) == Endpoint("192.0.2.1", 5)
    assert received_from(("fe80::1%lo", 5, 0, 1)) == Endpoint("fe80::1", 5)
    assert str(Endpoint("fe80::1", 5)) == "[fe80::1]:5"


def test_an_endpoint_message_becomes_a_stream() -> None:
    message = pb.StreamEndpoint(
        side=pb.SIDE_B,
        media=pb.MEDIA_VIDEO,
        rtp=pb.Address(host="192.0.2.1", port=4000),
        rtcp=pb.Address(host="192.0.2.9", port=4009),
        direction=pb.DIRECTION_RECVONLY,
        rtcp_mux=True,
        payload_types=[pb.PayloadType(number=96, encoding="VP8", clock_rate_hz=90000)],
        relatch=True,
        signaling_host="::ffff:198.51.100.1",
    )
    assert convert.stream_of(message) == Stream(
        Side.B,
        Medium.VIDEO,
        Endpoint("192.0.2.1", 4000),
        Endpoint("192.0.2.9", 4009),
        Direction.RECVONLY,
        True,
        (PayloadType(96, "VP8", 90000),),
        True,
        "198.51.100.1",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"side": 0},
        {"media": 7},
        {"rtp": pb.Address(host="phone.example", port=4000)},
        {"rtp": pb.Address(host="192.0.2.1", port=70000)},
        {"rtp": pb.Address(host="224.0.0.5", port=4000)},
        {"payload_types": [pb.PayloadType(number=128)]},
        {"payload_types": [pb.PayloadType()] * 129},
        {"signaling_host": "nat.example"},
    ],
)
def test_what_is_no_stream(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidStreamError):
        convert.stream_of(pb.StreamEndpoint(**{"side": pb.SIDE_A, "media": pb.MEDIA_AUDIO, **change}))


def test_nothing_measured_is_nothing_set() -> None:
    message = convert.statistics(StreamReport(Stream(Side.A, Medium.AUDIO), Counters()), CIVIL)
    assert message == media_pb2.StreamStatistics(side=media_pb2.SIDE_CALLER, media=media_pb2.MEDIUM_AUDIO)
    for name in ("packets_lost", "jitter_ms", "mos", "rtt_ms", "gap_max_ms", "first_packet_at_ms", "payload_type"):
        assert not message.HasField(name)  # type: ignore[arg-type]


def test_what_was_measured() -> None:
    counters = Counters(
        packets=99, bytes=9900, lost=1, jitter_q4=160, jitter_measured=True, first_packet_ns=4_000_000_000,
        last_packet_ns=5_000_000_000, payload_type=0, rtt_ns=30_000_000, source=Endpoint("192.0.2.1", 7),
        drops=(3, 0, 2, 0, 0, 0),
    )  # fmt: skip
    message = convert.statistics(StreamReport(Stream(Side.A, Medium.AUDIO, payload_types=(PCMU,)), counters), CIVIL)
    assert message.jitter_ms == pytest.approx(10 / 8)
    assert message.first_packet_at_ms == 1_700_000_000_000 - 1000
    assert (message.dropped_source, message.dropped_other) == (3, 2)
    assert dict(message.dropped) == {"source": 3, "direction": 2}
    assert 4.0 < message.mos < 4.4
    assert message.rtt_ms == 30


def test_events_that_concern_nobody_outside_have_no_message() -> None:
    assert convert.event_message(events.SlotBroken(1, 2), CIVIL) is None
    draining = convert.event_message(events.Draining(5_000_000_000, 15_000_000_000), CIVIL)
    assert draining is not None
    assert draining.draining.deadline_ms == 1_700_000_010_000


@pytest.mark.parametrize(
    ("bind", "advertise", "hosts"),
    [
        (("192.0.2.1",), (), ("192.0.2.1",)),
        (("0.0.0.0", "::"), ("192.0.2.1", "2001:db8::1"), ("192.0.2.1", "2001:db8::1")),
        (("0.0.0.0",), ("192.0.2.1",), ("192.0.2.1",)),
    ],
)
def test_hosts_to_announce(bind: tuple[str, ...], advertise: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    assert RelaySettings(relay_bind=bind, relay_advertise=advertise).hosts == hosts


@pytest.mark.parametrize(
    "wrong",
    [
        {"relay_bind": ("0.0.0.0",)},
        {"relay_bind": ("0.0.0.0",), "relay_advertise": ("::1",)},
        {"relay_bind": ("192.0.2.1", "192.0.2.2")},
        {"relay_bind": ("0.0.0.0",), "relay_advertise": ("192.0.2.1", "192.0.2.2")},
        {"relay_bind": ("::1",), "relay_ports": "80-90"},
        {"relay_bind": ()},
    ],
)
def test_settings_that_do_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RelaySettings(**wrong)


def test_the_next_best_datapath_is_taken_and_the_reason_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(wanted: Wanted) -> NullDatapath:
        raise UnsupportedError("no CAP_BPF")

    wanted = Wanted(("127.0.0.1",), Shard(30000, 30799))
    monkeypatch.setitem(selection.FACTORIES, "ebpf", missing)
    monkeypatch.setitem(selection.FACTORIES, "native", lambda wanted: NullDatapath())
    for asked, reason in (("ebpf", "ebpf: no CAP_BPF"), ("auto", "best"), ("native", "asked for")):
        chosen = select(asked, wanted)
        assert (type(chosen.datapath), chosen.reason) == (NullDatapath, reason)
    monkeypatch.setitem(selection.FACTORIES, "native", missing)
    for asked in ("auto", "native", "ebpf"):
        assert isinstance(select(asked, wanted).datapath, PythonDatapath)
    monkeypatch.setitem(selection.FACTORIES, "python", missing)
    with pytest.raises(UnsupportedError, match=r"native: no CAP_BPF; python: no CAP_BPF"):
        select("auto", wanted)


class FakeRedis:
    def __init__(self) -> None:
        self.sent: list[list[tuple[Any, ...]]] = []
        self.error: errors.ServiceError | None = None

    def transaction(self, commands: list[tuple[Any, ...]], callback: Callable[[object, Any], None]) -> None:
        self.sent.append(commands)
        callback(None, self.error)


def test_the_lease_and_each_change_of_state_once() -> None:
    store = FakeRedis()
    announcer = Announcer(store, Identity("r1", ("192.0.2.1",), "null", "node-a"), "media-relay/r1")
    announcer.grpc_address = "192.0.2.1:9103"
    ready = pb.RelayStatus(relay_id="r1", state=pb.RELAY_STATE_READY, slots_free=3)
    store.error = errors.Unavailable("down")
    announcer.announce(ready, 0, 1000)
    store.error = None
    announcer.announce(ready, 0, 1000)
    announcer.announce(ready, 0, 2000)
    announcer.announce(pb.RelayStatus(state=pb.RELAY_STATE_DRAINING), 2, 3000)
    announcer.withdraw(1, 4000)
    announcer.withdraw(1, 4000)
    verbs = [[command[0] for command in commands] for commands in store.sent]
    assert verbs == [
        ["SET", "ZADD", "XADD"],
        ["SET", "ZADD", "XADD"],
        ["SET", "ZADD"],
        ["SET", "ZADD", "XADD"],
        ["DEL", "ZREM", "XADD"],
    ]
    _, key, data, _, ttl = store.sent[0][0]
    lease = pb.RelayLease.FromString(data)
    assert (key, ttl, lease.grpc_address, lease.node) == ("relay:lease:r1", 5, "192.0.2.1:9103", "node-a")
    assert store.sent[0][1] == ("ZADD", "relay:index", 6000, "r1")
    told = [events_pb2.Event.FromString(commands[-1][-1]) for commands in store.sent if commands[-1][0] == "XADD"]
    assert [event.relay_state_changed.state for event in told] == ["ready", "ready", "draining", "gone"]
    assert len({event.id for event in told}) == 4


class FakeReports:
    """Some written, some not."""

    written, dropped = 7, 1

    def __len__(self) -> int:
        return 2


def test_figures_are_read_when_scraped() -> None:
    registry, datapath = CollectorRegistry(), NullDatapath(busy_ports=[30000])
    observer = Observer(registry)
    relay = Relay(SlotPool(Shard(30000, 30031), _First()), datapath, media_timeout_s=60, tell=observer.tell)  # type: ignore[arg-type]
    observer.watch(relay, FakeReports(), "null")  # type: ignore[arg-type]
    relay.start()
    stream = Stream(Side.A, Medium.AUDIO, Endpoint("192.0.2.1", 4000))
    slot = relay.allocate(Order("c1", "s1", (stream,)), 0).slot
    datapath.played[slot * 4] = Counters(packets=10, bytes=1720, lost=2, reordered=1, drops=(1, 0, 0, 0, 0, 0))
    relay.allocate(Order("c2", "s1", (stream,)), 0)
    relay.release("c2", 1)
    observer.stored("c1", Stored(1, "/x.wav", 20, 684))
    text = generate_latest(registry).decode()
    for wanted in (
        'pbx_relay_slots{state="used"} 1.0',
        'pbx_relay_slots{state="broken"} 1.0',
        'pbx_relay_slots{state="quarantined"} 1.0',
        "pbx_relay_ports_in_use_total 1.0",
        'pbx_relay_packets_total{kind="rtp"} 10.0',
        "pbx_relay_packets_missing_total 3.0",
        "pbx_relay_packets_late_total 1.0",
        'pbx_relay_packets_dropped_total{reason="source"} 1.0',
        'pbx_relay_datapath_info{name="null"} 1.0',
        "pbx_relay_recorded_bytes_total 684.0",
    ):
        assert wanted in text


class _First:
    """Randomness that is none: the first slot."""

    def randrange(self, stop: int) -> int:
        return 0


def test_without_descriptors_there_is_no_free_slot() -> None:
    class Starved(NullDatapath):
        def bind(self, slot_port: int) -> None:
            raise OSError(errno.EMFILE, "too many open files")

    relay = Relay(SlotPool(Shard(30000, 30031), _First()), Starved(), media_timeout_s=60, tell=lambda event: None)  # type: ignore[arg-type]
    relay.start()
    with pytest.raises(NoFreeSlotError):
        relay.allocate(Order("c1", "s1"), 0)
    assert relay.status.slots.taken == 0
