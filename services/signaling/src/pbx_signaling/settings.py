"""Settings of the signaling service (ARCHITECTURE.md, "Settings")."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from pbx_runtime.address import Listen
from pbx_runtime.media_address import Barred
from pbx_runtime.settings import CommaList, ServiceSettings
from pbx_signaling.border.headers import HeaderPolicy
from pbx_signaling.border.trust import Trust
from pbx_signaling.calls.hunt import HuntPolicy, Ringing
from pbx_signaling.calls.state import CallPolicy
from pbx_signaling.config import CoreConfig, QuotaPolicy
from pbx_signaling.directory.directory import Limits
from pbx_signaling.domains import ALIASES_MAX
from pbx_signaling.transport.inherited import Inherited
from pbx_sip.auth.digest import HASHES, QOPS, STRONGEST_FIRST
from pbx_sip.auth.proof import Offer
from pbx_sip.dialog.session_timer import SessionPolicy


def _listens(value: object) -> object:
    if isinstance(value, Listen):
        return (value,)
    if isinstance(value, str):
        return tuple(Listen.parse(part) for part in value.split(",") if part.strip())
    return value


ListenList = Annotated[tuple[Listen, ...], BeforeValidator(_listens)]
"""host:port, comma-separated: one of each address family makes a dual stack."""


class SignalingSettings(ServiceSettings):
    """What an instance is told."""

    service: ClassVar[str] = "signaling"

    sip_listen: ListenList = (Listen("0.0.0.0", 5060),)  # noqa: S104  # phones come from everywhere
    """Where SIP is served over UDP and TCP."""
    sip_sockets: CommaList = ()
    """Sockets of these addresses that `sip-pbx up` opened for this process: `udp/127.0.0.1:5060=7`, the descriptor
    behind the sign; others are opened here."""
    sip_siblings: CommaList = ()
    """The processes that share these addresses, this one among them: instance id, `=`, path of the datagram socket at
    which it takes what belongs to it."""
    sip_board: int | None = Field(default=None, ge=3)
    """Descriptor of the memory that they share: who has which transaction, and how many calls of an account."""
    sip_tls_listen: ListenList = ()
    """Where SIP is served over TLS; usually port 5061. Needs `sip_tls_cert` and `sip_tls_key`."""
    sip_ws_listen: ListenList = ()
    """Where SIP is served over WebSocket."""
    sip_wss_listen: ListenList = ()
    """Where SIP is served over WebSocket with TLS. Needs `sip_tls_cert` and `sip_tls_key`."""
    sip_ws_origins: CommaList = ()
    """Web pages that may connect (`https://example.org`); none: all."""
    sip_tls_cert: Path | None = None
    """PEM: certificate, then intermediate ones. Read again when it changes."""
    sip_tls_key: Path | None = None
    """PEM: its key."""
    sip_tls_client_ca: Path | None = None
    """PEM: who may sign certificates of clients."""
    sip_tls_client_certs: Literal["no", "optional", "required"] = "no"
    """Whether phones and trunks must show a certificate."""
    sip_tls_trust: Path | None = None
    """PEM: whom we trust where we connect by TLS; unset: whom the system trusts."""
    sip_connections_max: int = Field(default=10_000, gt=0)
    """Connections (TCP, TLS, WebSocket) at once."""
    sip_connections_per_source: int = Field(default=500, gt=0)
    """Of one address at once (IPv6: one /64)."""
    sip_idle_s: float = Field(default=900.0, gt=0)
    """Seconds without an octet after which a connection that carries no registration is closed."""
    advertise: CommaList = ()
    """The addresses written into Via and Contact: one per family (or one name), or one for each address of
    `sip_listen` in its order; needed for a wildcard."""
    domain: str = Field(default="pbx.local", min_length=1, max_length=255)
    """The SIP domain and digest realm."""
    domain_aliases: CommaList = ()
    """Other host names by which phones know the domain: what they were told as their registrar."""
    nonce_key: SecretStr | None = None
    """Hex, 32 octets; the registrar's own. Needed unless `authenticate` is off."""
    authenticate: bool = True
    """Whether INVITE and REGISTER need a digest."""
    registrar_address: str = "127.0.0.1:9101"
    """Where the registrar serves gRPC: host:port, or unix:///path."""
    relays: CommaList = ()
    """gRPC addresses of relays; empty: found by their leases."""
    directory_users: int = Field(default=20_000, ge=100, le=200_000)
    """Users whose credentials and bindings are kept at hand, about 3 KB each."""
    directory_doubt_s: float = Field(default=3_600.0, ge=0, le=86_400)
    """How long what is known of a user serves while the registrar cannot be asked; 0: not at all."""
    calls_max: int = Field(default=20_000, gt=0)
    """Live calls of one instance; beyond: 503."""
    account_calls: int = Field(default=10, ge=0)
    """Calls that an account without a limit of its own makes at once; 0: no limit. Beyond: 486."""
    account_calls_per_s: float = Field(default=30.0, ge=0)
    """Calls and messages of one account per second, three times as many at once; 0: no limit. Beyond: 503."""
    source_calls: int = Field(default=1_000, ge=0)
    """Calls of one address (IPv6: one /64) at once; peers of `sip_trusted` excepted; 0: no limit. Beyond: 486."""
    source_calls_per_s: float = Field(default=300.0, ge=0)
    """Calls and messages of one address per second; the same exception; 0: no limit. Beyond: 503."""
    callee_ringing: int = Field(default=30, ge=0)
    """Calls that ring at one account at once; 0: no limit. Beyond: 486."""
    calls_per_s: float = Field(default=2_500.0, ge=0)
    """Call attempts with credentials taken per second; 0: no limit. Beyond: 503."""
    source_requests_per_s: float = Field(default=200.0, ge=0)
    """Requests outside of calls that prove no user, per second and source address and port (five times that per
    address); 0: no limit."""
    source_burst: float = Field(default=2_000.0, ge=1)
    """How many of them at once."""
    dialog_requests_per_s: float = Field(default=20.0, ge=0)
    """Requests inside one dialog per second, five times as many at once; 0: no limit. Beyond: 503."""
    digest_algorithms: CommaList = STRONGEST_FIRST
    """Taken, and offered in challenges in this order to phones that are known to bear it: `SHA-512-256`, `SHA-256`,
    `MD5`. All others are offered MD5 alone, where it is among them."""
    digest_force: bool = False
    """Whether every phone is offered all of `digest_algorithms`, whatever it is known to bear."""
    digest_qop: CommaList = ("auth",)
    """Offered in challenges: `auth`, `auth-int`. `none`: credentials without any are taken too."""
    sip_headers: CommaList = ()
    """Which header fields cross from one leg to the other: `Name=pass`, `strip` or `rewrite`; `X-*`, `*` for many."""
    sip_trusted: CommaList = ()
    """Networks and addresses of peers with whom caller identities are exchanged (RFC 3325)."""
    sip_proxies: CommaList = ()
    """Networks and addresses of proxies in front: their Path, Record-Route and Contacts say where requests go."""
    sip_reachable: CommaList = ()
    """Private networks into which those proxies may send requests, beside their own."""
    internal_networks: CommaList = ()
    """Networks of services that phones must not reach through us: their addresses are refused in session descriptions,
    but for those of a phone that is there itself."""
    transactions_max: int = Field(default=200_000, gt=0)
    """SIP transactions of one instance at once; requests beyond are dropped."""
    sip_keepalive_s: float = Field(default=30.0, ge=0, le=600)
    """How often a phone on UDP behind a NAT is sent an OPTIONS, so that it stays reachable; 0: never."""
    sip_keepalive_all: bool = False
    """Whether phones on UDP that are not behind a NAT are asked, too, so that it is known whether they are there."""
    sip_redirects: int = Field(default=5, ge=0, le=20)
    """Times that a call follows a callee's 3xx to another user of our domain; 0: never."""
    ringing: Ringing = Ringing.PARALLEL
    """How several phones of a user are found: `parallel`: those of equal preference (q) ring together, less preferred
    ones after them; `serial`: one after the other."""
    call_branches: int = Field(default=10, ge=1, le=50)
    """Phones that are invited at the same time for one call; others wait until one of them is out."""
    branch_s: float = Field(default=20.0, gt=0)
    """Seconds that a phone rings while less preferred ones wait."""
    no_answer_s: float = Field(default=120.0, gt=0)
    """Seconds of ringing in all."""
    session_expires_s: int = Field(default=1800, ge=0, le=86_400)
    """Session timer asked of each phone (RFC 4028); 0: none. Below `session_min_se_s` it means that."""
    session_min_se_s: int = Field(default=90, ge=90, le=86_400)
    """The shortest session timer that a phone may ask for; beyond, 422."""
    longest_call_s: float = Field(default=14_400.0, gt=0)
    """Seconds after which an answered call is ended."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.sip_listen:
            raise ValueError("PBX_SIP_LISTEN names no address")
        for listen in (*self.sip_listen, *self.sip_tls_listen, *self.sip_ws_listen, *self.sip_wss_listen):
            self.advertised_for(listen)
        self.barred()
        self._complete_tls()
        self._complete_names()
        self._check_family()
        if not self.digest_algorithms or not HASHES.keys() >= set(self.digest_algorithms):
            raise ValueError(f"PBX_DIGEST_ALGORITHMS: some of {', '.join(HASHES)}")
        if not set(self.digest_qop) - {"none"} or not set(QOPS) >= set(self.digest_qop):
            raise ValueError("PBX_DIGEST_QOP: auth, auth-int or both, and none where phones cannot do either")
        self._check_rules()
        if self.authenticate and self.nonce_key is None:
            raise ValueError("PBX_NONCE_KEY is needed: 32 random octets in hex, the same for registrar and signaling")
        if self.nonce_key is not None:
            try:
                bytes.fromhex(self.nonce_key.get_secret_value())
            except ValueError:
                raise ValueError("PBX_NONCE_KEY is not hex") from None
        return self

    def _complete_names(self) -> None:
        if len(self.domain_aliases) > ALIASES_MAX or not all(map(_is_name, self.domain_aliases)):
            raise ValueError(f"PBX_DOMAIN_ALIASES: up to {ALIASES_MAX} host names")

    def _check_family(self) -> None:
        try:
            Inherited.parse(self.sip_sockets)
        except ValueError as error:
            raise ValueError(f"PBX_SIP_SOCKETS: {error}") from None
        siblings = self.siblings
        if siblings and (self.instance_id not in siblings or len(siblings) != len(self.sip_siblings)):
            raise ValueError("PBX_SIP_SIBLINGS: INSTANCE=/PATH each once, PBX_INSTANCE_ID among them")
        if not all(path.startswith("/") for path in siblings.values()):
            raise ValueError("PBX_SIP_SIBLINGS: each is INSTANCE=/PATH")

    @property
    def siblings(self) -> dict[str, str]:
        """The processes that share our addresses: instance id to the path of its datagram socket."""
        return {name: path for name, _, path in (text.partition("=") for text in self.sip_siblings)}

    def _check_rules(self) -> None:
        try:
            HeaderPolicy(self.sip_headers)
        except ValueError as error:
            raise ValueError(f"PBX_SIP_HEADERS: {error}") from None
        for name in ("sip_trusted", "sip_proxies", "sip_reachable"):
            try:
                Trust(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"PBX_{name.upper()}: {error}") from None

    def _complete_tls(self) -> None:
        has_both = self.sip_tls_cert is not None and self.sip_tls_key is not None
        if (self.sip_tls_listen or self.sip_wss_listen) and not has_both:
            raise ValueError("PBX_SIP_TLS_CERT and PBX_SIP_TLS_KEY are needed where SIP is served over TLS")
        if self.sip_tls_client_certs != "no" and self.sip_tls_client_ca is None:
            raise ValueError("PBX_SIP_TLS_CLIENT_CA is needed where PBX_SIP_TLS_CLIENT_CERTS asks for certificates")

    @property
    def offer(self) -> Offer:
        """What challenges offer, and credentials may use."""
        return Offer(self.digest_algorithms, self.digest_qop)

    @property
    def known(self) -> Limits:
        """How much is known of users, and how long it serves."""
        return Limits(self.directory_users, self.directory_doubt_s)

    def barred(self) -> Barred:
        """The addresses that session descriptions may not name. Raises ValueError."""
        listens = (*self.sip_listen, *self.sip_tls_listen, *self.sip_ws_listen, *self.sip_wss_listen)
        hosts = [listen.host for listen in listens if not listen.is_wildcard]
        try:
            return Barred(self.internal_networks, [*hosts, *self.advertise])
        except ValueError as error:
            raise ValueError(f"PBX_INTERNAL_NETWORKS: {error}") from None

    @property
    def aliases(self) -> frozenset[str]:
        """Names that stand for the domain: those given, and those that are advertised."""
        return frozenset(name.lower().rstrip(".") for name in (*self.domain_aliases, *self.advertise))

    def advertised_for(self, listen: Listen) -> str:
        """The address that phones are told for a listener: one of its family. Raises ValueError without one.

        Where several addresses of a family are listened on, and several are advertised, they belong together in order;
        one alone is that of all of them.
        """
        is_ipv6 = ":" in listen.host
        own = [address for address in self.advertise if not _is_literal(address) or (":" in address) == is_ipv6]
        if not own:
            if listen.is_wildcard:
                family = "IPv6" if is_ipv6 else "IPv4"
                raise ValueError(f"PBX_ADVERTISE is needed for {listen}: name an {family} address of this host")
            return listen.host
        hosts = self._hosts_of(is_ipv6)
        if len(own) == 1 or len(hosts) <= 1:
            return own[0]
        if len(own) < len(hosts):
            raise ValueError(f"PBX_ADVERTISE: one address, or one for each of the {len(hosts)} that are listened on")
        return own[hosts.index(listen.host)]

    def _hosts_of(self, is_ipv6: bool) -> list[str]:
        """The addresses of a family that are listened on, in order, each once."""
        listens = (*self.sip_listen, *self.sip_tls_listen, *self.sip_ws_listen, *self.sip_wss_listen)
        return list(dict.fromkeys(listen.host for listen in listens if (":" in listen.host) == is_ipv6))


def _is_name(alias: str) -> bool:
    return alias.isascii() and 0 < len(alias) <= 253 and all(char.isalnum() or char in "-._" for char in alias)


def _is_literal(address: str) -> bool:
    return ":" in address or address.replace(".", "").isdigit()


def core_config(settings: SignalingSettings) -> CoreConfig:
    """What the pure core needs to know of the settings."""
    return CoreConfig(
        domain=settings.domain,
        aliases=settings.aliases,
        calls=CallPolicy(
            no_answer_s=settings.no_answer_s,
            longest_s=settings.longest_call_s,
            branch_s=settings.branch_s,
            hunt=HuntPolicy(settings.ringing, settings.call_branches, settings.sip_redirects),
            barred=settings.barred(),
        ),
        sessions=SessionPolicy(settings.session_expires_s, settings.session_min_se_s),
        headers=HeaderPolicy(settings.sip_headers),
        trusted=Trust(settings.sip_trusted),
        proxies=Trust(settings.sip_proxies),
        reachable=Trust(settings.sip_reachable),
        calls_max=settings.calls_max,
        transactions_max=settings.transactions_max,
        quotas=QuotaPolicy(
            account_calls=settings.account_calls,
            account_calls_per_s=settings.account_calls_per_s,
            source_calls=settings.source_calls,
            source_calls_per_s=settings.source_calls_per_s,
            callee_ringing=settings.callee_ringing,
        ),
        calls_per_s=settings.calls_per_s,
        source_requests_per_s=settings.source_requests_per_s,
        source_burst=settings.source_burst,
        dialog_requests_per_s=settings.dialog_requests_per_s,
        algorithms=settings.digest_algorithms,
        force_algorithms=settings.digest_force,
        qop=settings.digest_qop,
        authenticate=settings.authenticate,
    )


def own_addresses(settings: SignalingSettings) -> list[tuple[str, int]]:
    """Where this instance and the services that it knows listen, beside the SIP ports."""
    listens = [settings.http_listen]
    for text in (str(settings.grpc_listen), settings.registrar_address, *settings.relays):
        with contextlib.suppress(ValueError):  # a name without a port, or a socket's path
            listens.append(Listen.parse(text))
    found = [(listen.host, listen.port) for listen in listens]
    redis = urlsplit(settings.redis_url)
    with contextlib.suppress(ValueError):  # several hosts: sentinels
        if redis.hostname and redis.port:
            found.append((redis.hostname, redis.port))
    return found
