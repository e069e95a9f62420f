"""Relay events and figures as logs and metrics: the only place that makes either of them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from pbx_media_relay import events
from pbx_media_relay.forward import DropReason
from pbx_media_relay.recording.messages import Stored
from pbx_media_relay.relay import Relay
from pbx_media_relay.reports import Reports
from pbx_runtime import logs
from pbx_runtime.metrics import Counter, Gauge, Registry

_log = logs.get_logger("relay")


class _Figures(Collector):
    """Read when scraped: the datapath's counters are never copied in between."""

    def __init__(self, relay: Relay, reports: Reports, datapath: str) -> None:
        self._relay = relay
        self._reports = reports
        self._datapath = datapath

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily]:
        """All figures of now."""
        relay, status = self._relay, self._relay.status
        slots = GaugeMetricFamily("pbx_relay_slots", "Slots by state", labels=["state"])
        for state, count in (
            ("total", status.slots.total),
            ("used", status.slots.taken - status.granted),
            ("granted", status.granted),
            ("free", status.slots.free),
            ("quarantined", status.slots.quarantined),
            ("broken", status.slots.broken),
        ):
            slots.add_metric([state], count)
        yield slots
        yield GaugeMetricFamily("pbx_relay_calls", "Calls that hold a slot", len(relay.calls))
        yield GaugeMetricFamily("pbx_relay_draining", "1 while no new calls are taken", int(status.draining))
        yield GaugeMetricFamily("pbx_relay_instances", "Signaling instances with a stream", relay.leases.connected())
        yield InfoMetricFamily("pbx_relay_datapath", "Datapath in use", {"name": self._datapath})
        written, given_up = self._reports.written, self._reports.dropped
        yield CounterMetricFamily("pbx_relay_reports", "Calls whose media figures are in the outbox", written)
        yield CounterMetricFamily("pbx_relay_reports_dropped", "Calls whose media figures were given up", given_up)
        yield GaugeMetricFamily("pbx_relay_reports_waiting", "Calls whose media figures wait", len(self._reports))
        yield from self._traffic()

    def _traffic(self) -> Iterator[CounterMetricFamily]:
        totals = self._relay.totals()
        packets = CounterMetricFamily("pbx_relay_packets", "Packets accepted", labels=["kind"])
        packets.add_metric(["rtp"], totals.packets)
        packets.add_metric(["rtcp"], totals.rtcp_packets)
        yield packets
        yield CounterMetricFamily("pbx_relay_bytes", "Payload bytes accepted", totals.bytes)
        # Two counters: a packet that comes late was missing before, and a sum of the lost would fall by it.
        missing = "RTP packets that were not there when their successor came"
        yield CounterMetricFamily("pbx_relay_packets_missing", missing, totals.missing)
        late = "Of the missing packets, such as came later; the others are lost"
        yield CounterMetricFamily("pbx_relay_packets_late", late, totals.late)
        drops = CounterMetricFamily("pbx_relay_packets_dropped", "Packets not relayed", labels=["reason"])
        for reason in DropReason:
            drops.add_metric([reason.name.lower()], totals.drops[reason])
        yield drops


class Observer:
    """Told every relay event."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._timeouts = Counter("pbx_relay_media_timeouts", "Media timeouts reported", registry=registry)
        self._expired = Counter("pbx_relay_leases_expired", "Calls whose instance vanished", registry=registry)
        self._busy = Counter("pbx_relay_ports_in_use", "Slots taken out for a busy port", registry=registry)

        self._ephemeral = Gauge(
            "pbx_relay_ephemeral_ports", "Ports that the kernel may give to others", registry=registry
        )

        self._recordings = Counter("pbx_relay_recordings", "Recordings stored", registry=registry)
        self._recorded = Counter("pbx_relay_recorded_bytes", "Bytes of recordings stored", registry=registry)
        self._cut = Counter(
            "pbx_relay_recordings_cut", "Recordings that ended early: no room, or the disk refused", registry=registry
        )

    def stored(self, call_id: str, file: Stored) -> None:
        """A recording's file was closed."""
        if file.bytes:
            self._recordings.inc()
            self._recorded.inc(file.bytes)
        if file.error:
            self._cut.inc()
        tell = _log.error if file.error else _log.info
        tell("recording stored", call_id=call_id, path=file.path, duration_ms=file.duration_ms, error=file.error)

    def ephemeral(self, count: int) -> None:
        """How many ports of the shard lie in the host's ephemeral range, unreserved."""
        self._ephemeral.set(count)

    def watch(self, relay: Relay, reports: Reports, datapath: str) -> None:
        """Serve the relay's figures."""
        self._registry.register(_Figures(relay, reports, datapath))

    def tell(self, event: events.RelayEvent) -> None:
        """Log and count."""
        match event:
            case events.FirstPacket():
                source = logs.Pii(event.source)
                _log.debug("first packet", call_id=event.call_id, side=event.side.name, source=source)
            case events.MediaTimeout():
                self._timeouts.inc()
                _log.info("media timeout", call_id=event.call_id, silent_s=event.silent_ns // 1_000_000_000)
            case events.LeaseExpired():
                self._expired.inc()
                _log.warning("instance vanished, slot taken back", call_id=event.call_id, owner=event.instance_id)
            case events.SlotBroken():
                self._busy.inc()
                _log.warning("port in use by another process", port=event.port)
            case events.CallLost():
                _log.error("call not taken up after the restart", call_id=event.call_id, error=event.reason)
            case events.Draining():
                _log.info("draining")
