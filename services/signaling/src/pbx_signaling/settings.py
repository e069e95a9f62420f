"""Settings of the signaling service (ARCHITECTURE.md, "Settings")."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from pbx_runtime.address import Listen
from pbx_runtime.media_address import Barred
from pbx_runtime.settings import CommaList, ServiceSettings
from pbx_signaling.call.header_policy import HeaderPolicy
from pbx_signaling.call.trust import Trust
from pbx_sip.auth.digest import HASHES, QOPS, STRONGEST_FIRST


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
    """The addresses written into Via and Contact, at most one per family (or one name); needed for a wildcard."""
    domain: str = Field(default="pbx.local", min_length=1, max_length=255)
    """The SIP domain and digest realm."""
    nonce_key: SecretStr | None = None
    """Hex, 32 octets; the registrar's own. Needed unless `authenticate` is off."""
    authenticate: bool = True
    """Whether INVITE and REGISTER need a digest."""
    registrar_address: str = "127.0.0.1:9101"
    relays: CommaList = ()
    """gRPC addresses of relays; empty: found by their leases."""
    calls_max: int = Field(default=20_000, gt=0)
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
    """Offered in challenges, in this order: `SHA-512-256`, `SHA-256`, `MD5`."""
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
    sip_redirects: int = Field(default=5, ge=0, le=20)
    """Times that a call follows a callee's 3xx to another user of our domain; 0: never."""
    no_answer_s: float = Field(default=120.0, gt=0)
    session_expires_s: int = Field(default=1800, ge=0, le=86_400)
    """Session timer asked of each phone (RFC 4028); 0: none. Below `session_min_se_s` it means that."""
    session_min_se_s: int = Field(default=90, ge=90, le=86_400)
    """The shortest session timer that a phone may ask for; beyond, 422."""
    longest_call_s: float = Field(default=14_400.0, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.sip_listen:
            raise ValueError("PBX_SIP_LISTEN names no address")
        for listen in (*self.sip_listen, *self.sip_tls_listen, *self.sip_ws_listen, *self.sip_wss_listen):
            self.advertised_for(listen)
        self.barred()
        self._complete_tls()
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

    def barred(self) -> Barred:
        """The addresses that session descriptions may not name. Raises ValueError."""
        listens = (*self.sip_listen, *self.sip_tls_listen, *self.sip_ws_listen, *self.sip_wss_listen)
        hosts = [listen.host for listen in listens if not listen.is_wildcard]
        try:
            return Barred(self.internal_networks, [*hosts, *self.advertise])
        except ValueError as error:
            raise ValueError(f"PBX_INTERNAL_NETWORKS: {error}") from None

    def advertised_for(self, listen: Listen) -> str:
        """The address that phones are told for a listener: one of its family. Raises ValueError without one."""
        is_ipv6 = ":" in listen.host
        for address in self.advertise:
            if not _is_literal(address) or (":" in address) == is_ipv6:
                return address
        if listen.is_wildcard:
            family = "IPv6" if is_ipv6 else "IPv4"
            raise ValueError(f"PBX_ADVERTISE is needed for {listen}: name an {family} address of this host")
        return listen.host


def _is_literal(address: str) -> bool:
    return ":" in address or address.replace(".", "").isdigit()
