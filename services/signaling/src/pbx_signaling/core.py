"""The pure core of one instance, assembled: which user takes which method is a row here. Constructs, and nothing else.

`app.py` puts sockets, clients and the journal around it; tests put fakes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbx_signaling.border.border import Border
from pbx_signaling.border.challenge import Challenges
from pbx_signaling.counters import Counters
from pbx_signaling.domains import Domains
from pbx_signaling.router.admission import Admission
from pbx_signaling.router.dialogs import Dialogs
from pbx_signaling.router.outgoing import Outgoing
from pbx_signaling.router.router import Router
from pbx_signaling.router.sources import Sources
from pbx_signaling.users.attempt import Attempts
from pbx_signaling.users.calls import Calls
from pbx_signaling.users.keepalive import Finding, KeepAlive
from pbx_signaling.users.messages import Messages, MessagesNeed
from pbx_signaling.users.options import Options
from pbx_signaling.users.performing import CallsNeed
from pbx_signaling.users.quota import Quotas
from pbx_signaling.users.registrations import Registrations, RegistrationsNeed
from pbx_signaling.users.step import Steps
from pbx_signaling.users.user import User, by_method
from pbx_signaling.users.waiting import Waiting
from pbx_sip.transaction.layer import TransactionLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pbx_signaling.config import CoreConfig
    from pbx_signaling.identity import Identity
    from pbx_signaling.replicas.peering import Peering
    from pbx_signaling.router.addressing import Addressing
    from pbx_signaling.users.quota import Counts
    from pbx_signaling.users.step import Encoder
    from pbx_sip.address import Flow
    from pbx_sip.auth.nonce import NonceMinter


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the core cannot make itself."""

    config: CoreConfig
    addressing: Addressing
    identity: Identity
    nonces: NonceMinter
    encoder: Encoder
    unregister: Callable[[str, Flow], None] = lambda aor, flow: None
    """Removes the bindings of an address-of-record that came over a flow."""
    report: Callable[[Finding], None] = lambda finding: None
    """Tells the registrar what a keep-alive found out."""
    peering: Peering | None = None
    """Where there may be other replicas."""
    counts: Counts | None = None
    """What other processes at the same address count."""
    keepalive_s: float = 0.0
    """How often phones behind NATs get an OPTIONS; 0: never."""
    keepalive_all: bool = False
    others: Sequence[Callable[[Outgoing], User]] = ()
    """Further rows: makers of users of other methods."""


class Core:
    """Router, users and what they share. Everything is made here once, in the order in which it is needed."""

    def __init__(self, around: Surroundings) -> None:
        config, addressing, identity = around.config, around.addressing, around.identity
        self.config = config
        addressing.hops.proxies, addressing.hops.reachable = config.proxies, config.reachable
        self.counters = Counters()
        self.border = Border(config.domain, config.headers, config.trusted, addressing.hops.means_us)
        self.challenges = Challenges(config, around.nonces)
        self.sources = Sources(config.source_requests_per_s, config.source_burst)
        self.quotas = Quotas(config.quotas, shared=around.counts)
        self.steps = Steps(around.encoder)
        self.dialogs = Dialogs(config.dialog_requests_per_s)
        self.layer = TransactionLayer(config.timers, config.transactions_max, tells_ends=False)
        domains = Domains(config.domain, config.aliases)
        attempts = Attempts(self.challenges, domains, self.border, identity, addressing.hops.means_us)
        sip = self.outgoing = Outgoing(self.layer, addressing, identity)

        self.keepalive = KeepAlive(
            sip,
            config.domain,
            around.report,
            identity.chance,
            instance=identity.instance,
            interval_s=around.keepalive_s,
            everybody=around.keepalive_all,
        )
        self.registrations = Registrations(
            RegistrationsNeed(
                config=config,
                sip=sip,
                steps=self.steps,
                challenges=self.challenges,
                domains=domains,
                counters=self.counters,
                proved=self.sources.proved,
                unregister=around.unregister,
                keepalive=self.keepalive,
            )
        )
        self.calls = Calls(
            CallsNeed(
                config=config,
                sip=sip,
                dialogs=self.dialogs,
                steps=self.steps,
                border=self.border,
                challenges=self.challenges,
                attempts=attempts,
                domains=domains,
                identity=identity,
                quotas=self.quotas,
                counters=self.counters,
                proved=self.sources.proved,
                unreachable=around.unregister,
            )
        )
        about_users = MessagesNeed(
            config=config,
            sip=sip,
            steps=self.steps,
            border=self.border,
            challenges=self.challenges,
            attempts=attempts,
            domains=domains,
            quotas=self.quotas,
            proved=self.sources.proved,
            unreachable=around.unregister,
            is_full=lambda: self.calls.is_full,
        )
        self.waiting = Waiting(self.calls, sip, self.counters)
        self.messages = Messages(about_users)
        self.options = Options(about_users, identity.instance)

        rows: tuple[User, ...] = (  # one a method; calls have INVITE by `waiting`
            self.waiting,
            self.registrations,
            self.messages,
            self.options,
            *[make(sip) for make in around.others],
        )
        methods = by_method(rows)
        users = (*rows, self.calls, self.keepalive)
        self.admission = Admission(
            methods,
            frozenset(method for user in users for method in user.within),
            self.challenges,
            self.sources,
            self.border,
            self.counters,
        )
        self.router = Router(
            users, methods, self.admission, self.dialogs, sip, self.steps, self.counters, around.peering
        )
