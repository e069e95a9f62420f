"""The only place that turns what happens into metrics and log lines. Names: pbx_signaling_*; labels from enums."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pbx_runtime import logs
from pbx_runtime.logs import Pii
from pbx_signaling.calls.commands import Emit, Record
from pbx_signaling.calls.ending import Outcome
from pbx_signaling.calls.state import State
from pbx_signaling.users.keepalive import BUCKETS_S
from pbx_signaling.users.quota import LIMITS

if TYPE_CHECKING:
    from pbx_runtime.metrics import Registry
    from pbx_signaling.clients.relay import Relays
    from pbx_signaling.core import Core
    from pbx_signaling.effects.write_ahead import Journal
    from pbx_signaling.users.entry import Entry
    from pbx_signaling.users.keepalive import KeepAlive

SETUP_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""From the INVITE to ringing or to the answer: machines first, people after."""

_log = logs.get_logger("call")


class Observer:
    """Sees every record of every call."""

    def __init__(self, registry: Registry) -> None:
        ended = Counter("pbx_signaling_calls_ended", "Calls by outcome", ["outcome"], registry=registry)
        self._ended = {outcome: ended.labels(outcome.name.lower()) for outcome in Outcome}
        self._ringing = Histogram(
            "pbx_signaling_ringing_seconds", "INVITE to ringing", registry=registry, buckets=SETUP_BUCKETS_S
        )
        self._answer = Histogram(
            "pbx_signaling_answer_seconds", "INVITE to answer", registry=registry, buckets=SETUP_BUCKETS_S
        )

    def recorded(self, entry: Entry, emit: Emit) -> None:
        """A record of a call is about to be written."""
        call = entry.call
        if emit.record is Record.DIALING:
            _log.info(
                "call dialing",
                call_id=call.call_id,
                relay=call.media.slot.relay if call.media.slot else None,
                **_sip_call_ids(entry, emit.leg),
            )
        elif emit.record is Record.RINGING:
            if emit.leg == call.hunt.rang:  # the first phone: that is when the caller hears it
                self._ringing.observe(emit.at - call.started)
        elif emit.record is Record.ANSWERED:
            self._answer.observe(emit.at - call.started)
        elif emit.record is Record.ENDED and call.ending is not None:
            self._ended[call.ending.outcome].inc()
            answered = call.answered
            _log.info(
                "call ended",
                call_id=call.call_id,
                caller=Pii(call.caller or call.claimed),
                callee=Pii(call.dialled),
                outcome=call.ending.outcome.name.lower(),
                status=call.ending.sip_status,
                cause=call.ending.word,
                talked_s=0 if answered is None or call.ended is None else round(call.ended - answered, 3),
                **_sip_call_ids(entry),
            )


def _sip_call_ids(entry: Entry, callee: int = 0) -> dict[str, str]:
    """The Call-ID of each leg: by these a call is found in the logs of phones, proxies and captures.

    `callee`: the leg of one phone; else that which stands for the callee.
    """
    leg = entry.leg(callee) if callee else entry.callee
    legs = {"caller_sip_call_id": entry.caller, "callee_sip_call_id": leg}
    return {name: leg.call_id for name, leg in legs.items() if leg is not None}


class KeepAliveCollector(Collector):
    """What is known of phones behind NATs."""

    def __init__(self, keepalive: KeepAlive) -> None:
        self._keepalive = keepalive

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """All of them."""
        keepalive, tally = self._keepalive, self._keepalive.tally
        states = GaugeMetricFamily("pbx_signaling_keepalive_flows", "Flows kept open by state", labels=["state"])
        for state, count in keepalive.states().items():
            states.add_metric([state], count)
        yield states
        yield CounterMetricFamily("pbx_signaling_keepalive_pings", "OPTIONS sent to keep NATs open", tally.pings)
        yield CounterMetricFamily("pbx_signaling_keepalive_refused", "Flows beyond the limit of them", tally.refused)
        totals = list(itertools.accumulate(tally.round_trips))
        buckets = [(str(most), totals[at]) for at, most in enumerate(BUCKETS_S)] + [("+Inf", totals[-1])]
        yield HistogramMetricFamily(
            "pbx_signaling_keepalive_round_trip_seconds",
            "To a phone and back",
            buckets=buckets,
            sum_value=tally.round_trip_sum_s,
        )


class CoreCollector(Collector):
    """Reads the core's own counters when Prometheus asks; nothing is counted twice on the way of a call."""

    def __init__(self, core: Core, journal: Journal, relays: Relays) -> None:
        self._core = core
        self._journal = journal
        self._relays = relays

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All of them."""
        core, counters = self._core, self._core.counters
        yield GaugeMetricFamily("pbx_signaling_calls_active", "Live calls", len(core.calls.table))
        states = GaugeMetricFamily("pbx_signaling_calls_state", "Live calls by state", labels=["state"])
        by_state = dict.fromkeys(State, 0)
        for entry in core.calls.table.values():
            by_state[entry.call.state] += 1
        for state, count in by_state.items():
            states.add_metric([state.name.lower()], count)
        yield states
        ringing = sum(entry.call.hunt.invited for entry in core.calls.table.values())
        yield GaugeMetricFamily("pbx_signaling_branches_active", "Phones that are invited and may answer", ringing)
        yield GaugeMetricFamily("pbx_signaling_legs_active", "Dialogs that requests find", len(core.dialogs))
        yield GaugeMetricFamily("pbx_signaling_transactions", "Transactions, lingering ones too", core.layer.active)
        yield GaugeMetricFamily("pbx_signaling_journal_backlog", "Batches waiting for Redis", self._journal.backlog)
        yield GaugeMetricFamily("pbx_signaling_relays", "Relays that take calls", self._usable())
        yield GaugeMetricFamily("pbx_signaling_calls_waiting", "INVITEs that wait for Redis", len(core.waiting))
        pending = core.registrations.pending
        yield GaugeMetricFamily("pbx_signaling_registers_pending", "REGISTERs waiting for the registrar", pending)
        ahead = sum(len(link.ahead) for link in self._relays.links.values())
        yield GaugeMetricFamily("pbx_signaling_slots_ahead", "Relays' slots held ahead of calls", ahead)
        slots = CounterMetricFamily(
            "pbx_signaling_slots", "Slots granted ahead of calls, and what became of them", labels=["fate"]
        )
        tally = self._relays.tally
        for fate, count in (
            ("granted", tally.granted),
            ("used", tally.used),
            ("returned", tally.returned),
            ("refused", tally.refused),
        ):
            slots.add_metric([fate], count)
        yield slots
        for name, text, value in (
            ("calls", "Call attempts that passed admission", counters.calls),
            ("branches", "Phones invited: several for a call that rings on several", counters.branches),
            ("calls_refused", "INVITEs refused by limit, drain or a dead Redis", counters.calls_refused),
            ("attempts_uncounted", "Attempts with wrong credentials without a CDR", counters.attempts_uncounted),
            ("requests_limited", "Requests refused with 503: too many of one source", counters.requests_limited),
            ("paths_ignored", "REGISTERs whose Path was ignored: not of a listed proxy", counters.paths_ignored),
            ("messages_unread", "Messages of such sources dropped unread", counters.messages_unread),
            ("challenges", "401 and 407 sent without state", counters.challenges),
            ("messages", "SIP messages received", counters.messages_in),
            ("messages_rejected", "SIP messages that could not be accepted", counters.messages_rejected),
            ("retransmissions", "SIP messages sent again", core.layer.retransmissions),
            (
                "transactions_refused",
                "Requests beyond the transaction limit",
                core.layer.refused + counters.crowded_out,
            ),
            ("events_dropped", "Batches of events lost because Redis stayed away", self._journal.backlog_dropped),
            ("relay_failures", "Relay commands that failed", self._relays.failures),
        ):
            yield CounterMetricFamily(f"pbx_signaling_{name}", text, value)
        requests = CounterMetricFamily("pbx_signaling_requests", "SIP requests by method", labels=["method"])
        for method, count in counters.requests.items():
            requests.add_metric([method], count)
        yield requests
        limited = CounterMetricFamily(
            "pbx_signaling_quota_refusals",
            "Calls and messages refused by a limit of account or source",
            labels=["limit"],
        )
        for limit in LIMITS:
            limited.add_metric([limit], core.quotas.refused.get(limit, 0))
        yield limited
        busiest = core.quotas.busiest
        yield GaugeMetricFamily("pbx_signaling_account_calls_max", "Calls of the account that has most", busiest)
        registers = CounterMetricFamily("pbx_signaling_registers", "REGISTERs by answer", labels=["status"])
        for status, count in core.registrations.results.items():
            registers.add_metric([str(status)], count)
        yield registers

    def _usable(self) -> int:
        return sum(link.takes_calls for link in self._relays.links.values())
