"""The registrar's logs and metrics: the only place that makes either of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pbx_registrar.authenticate import Attempt, Judgement, Verdict
from pbx_registrar.bindings import Change, ChangeKind
from pbx_registrar.followers import Followers
from pbx_registrar.notices import Notices
from pbx_registrar.storage.base import Refusals
from pbx_runtime import logs
from pbx_runtime.logs import Pii
from pbx_runtime.metrics import Children, Counter, Gauge, Registry

STATUSES: Final = (200, 400, 401, 403, 404, 423, 500)
RESULTS: Final = ("found", "not_registered", "unknown", "error")
_log = logs.get_logger("registrar")


class FollowCollector(Collector):
    """Who follows, read when scraped."""

    def __init__(self, followers: Followers, notices: Notices) -> None:
        self._followers = followers
        self._notices = notices

    def collect(self) -> Iterator[Metric]:
        """Figures of now."""
        followers = self._followers
        yield GaugeMetricFamily("pbx_registrar_followers", "Signaling instances that follow users", len(followers))
        yield GaugeMetricFamily("pbx_registrar_followed_users", "Users that they follow", followers.followed)
        yield GaugeMetricFamily(
            "pbx_registrar_notices_standing", "1 where changes of all replicas are heard", followers.is_standing
        )
        yield CounterMetricFamily("pbx_registrar_notices_missed", "Gaps in the numbers of changes", self._notices.gaps)
        yield CounterMetricFamily("pbx_registrar_follow_updates", "Users told to followers", followers.updates)


class Observer:
    """Figures of one replica."""

    def __init__(self, registry: Registry) -> None:
        registers = Counter("pbx_registrar_registers", "REGISTER requests answered", ["status"], registry=registry)
        self._registers = {status: registers.labels(str(status)) for status in STATUSES}
        self._failed = registers.labels("error")
        verdicts = Counter("pbx_registrar_authentications", "Digest responses", ["verdict"], registry=registry)
        self._verdicts = {verdict: verdicts.labels(verdict.name.lower()) for verdict in Verdict}
        changes = Counter("pbx_registrar_binding_changes", "Changes of bindings", ["change"], registry=registry)
        self._changes = {kind: changes.labels(kind.name.lower()) for kind in ChangeKind}
        lookups = Counter("pbx_registrar_lookups", "Look-ups by result", ["result"], registry=registry)
        self.lookups: Children[Counter] = Children(lookups, RESULTS)
        self.registrations = Gauge(
            "pbx_registrar_registrations", "Addresses-of-record with bindings, in all replicas", registry=registry
        )
        self._accounts = Gauge("pbx_registrar_accounts_cached", "Accounts in the cache", registry=registry)

    def watch_accounts(self, count: Callable[[], float]) -> None:
        """Read the number of cached accounts when scraped."""
        self._accounts.set_function(count)

    def registered(self, status: int | None) -> None:
        """A REGISTER was answered; None: it could not be."""
        (self._registers.get(status, self._failed) if status is not None else self._failed).inc()

    def judged(self, attempt: Attempt, judgement: Judgement) -> None:
        """A digest response was judged."""
        self._verdicts[judgement.verdict].inc()
        if judgement.verdict is not Verdict.ACCEPTED:
            _log.debug(
                "credentials refused",
                verdict=judgement.verdict.name.lower(),
                method=attempt.method,
                aor=Pii(attempt.aor),
                source=Pii(attempt.source_host),
            )

    def changed(self, changes: Sequence[Change]) -> None:
        """Bindings changed."""
        for change in changes:
            self._changes[change.kind].inc()
            binding = change.binding
            if change.kind is ChangeKind.REPORTED and not binding.unreachable_since_ms:
                continue
            if change.kind is not ChangeKind.REFRESHED:
                is_report = change.kind is ChangeKind.REPORTED
                _log.info(
                    "binding does not answer" if is_report else f"binding {change.kind.name.lower()}",
                    aor=Pii(binding.aor),
                    contact=Pii(binding.uri),
                    source=Pii(binding.flow.host),
                    call_id=binding.call_id,
                )

    def refused(self, refusals: Refusals) -> None:
        """Failures of one source over a period."""
        _log.warning(
            "authentication failed",
            source=Pii(refusals.source),
            count=refusals.count,
            user=Pii(refusals.user),
            method=refusals.method,
        )

    def account_put(self, aor: str, created: bool) -> None:
        """An account was created or replaced."""
        _log.info("account created" if created else "account replaced", aor=Pii(aor))

    def account_deleted(self, aor: str) -> None:
        """An account was removed."""
        _log.info("account deleted", aor=Pii(aor))
