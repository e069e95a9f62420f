"""Metrics of the transports: read from the listeners' own counters when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pbx_signaling.transport.stream import Closed, StreamListener

if TYPE_CHECKING:
    from pbx_signaling.clients.peers import Peers
    from pbx_signaling.replicas.peering import Peering
    from pbx_signaling.replicas.switch import Switch
    from pbx_signaling.transport.listeners import Listeners
    from pbx_signaling.users.flows import RegisteredFlows


class TransportCollector(Collector):
    """Per listener ("udp4", "tls6"); reasons are those of `Closed`."""

    def __init__(
        self,
        listeners: Listeners,
        flows: RegisteredFlows,
        peering: Peering | None = None,
        peers: Peers | None = None,
        switch: Switch | None = None,
    ) -> None:
        self._listeners = listeners
        self._flows = flows
        self._peering = peering
        self._peers = peers
        self._switch = switch

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All of them."""
        listeners, flows = self._listeners, self._flows
        yield from self._streams()
        yield self._udp("dropped_out", "Datagrams that the kernel did not take")
        yield self._udp("keepalives", "Keep-alive packets over UDP: empty datagrams and STUN")
        yield GaugeMetricFamily("pbx_signaling_registered_flows", "Connections that carry a registration", len(flows))
        if self._peering is not None:
            yield GaugeMetricFamily("pbx_signaling_peers", "Other replicas that live", len(self._peering.alive))
        if self._peers is not None:
            yield CounterMetricFamily("pbx_signaling_peer_carried", "Messages for another replica", self._peers.carried)
            yield CounterMetricFamily(
                "pbx_signaling_peer_dropped", "Of these, such as reached none", self._peers.dropped
            )
        if self._switch is not None:
            yield CounterMetricFamily(
                "pbx_signaling_misdirected",
                "Messages that came to this process and belong to another one of the same address",
                self._switch.misdirected,
            )
        certificates = listeners.certificates
        if certificates is not None:
            yield GaugeMetricFamily(
                "pbx_signaling_certificate_not_after_seconds",
                "End of the TLS certificate, seconds since the Unix epoch",
                certificates.not_after,
            )
            reloads = CounterMetricFamily(
                "pbx_signaling_certificate_reloads", "Changed certificates by result", labels=["result"]
            )
            reloads.add_metric(["ok"], certificates.reloads)
            reloads.add_metric(["failed"], listeners.reload_failures)
            yield reloads

    def _streams(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        open_now = GaugeMetricFamily("pbx_signaling_connections", "Open connections", labels=["listener"])
        accepted = CounterMetricFamily(
            "pbx_signaling_connections_accepted", "Connections that came", labels=["listener"]
        )
        failed = CounterMetricFamily(
            "pbx_signaling_connect_failures", "Connections of ours that could not be made", labels=["listener"]
        )
        closed = CounterMetricFamily(
            "pbx_signaling_connections_closed",
            "Connections that we ended: handshake and framing errors, limits of time, number and buffer",
            labels=["listener", "reason"],
        )
        for name, listener in self._listeners.by_name.items():
            if not isinstance(listener, StreamListener):
                continue
            open_now.add_metric([name], listener.connections)
            accepted.add_metric([name], listener.accepted)
            failed.add_metric([name], listener.connect_failures)
            for reason in Closed:
                closed.add_metric([name, reason.value], listener.closed[reason])
        yield from (open_now, accepted, failed, closed)

    def _udp(self, name: str, text: str) -> CounterMetricFamily:
        family = CounterMetricFamily(f"pbx_signaling_udp_{name}", text, labels=["listener"])
        for listener in self._listeners.by_name.values():
            if not isinstance(listener, StreamListener):
                family.add_metric([listener.name], getattr(listener, name))
        return family
