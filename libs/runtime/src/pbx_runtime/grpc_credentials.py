"""Mutual TLS between services from one shared key: whoever holds the key is one of us, nobody else gets a connection.

Theory of operation. Every process derives the same certificate authority from the key (HKDF, P-256), signs a
certificate of its own with it, and accepts only peers whose certificate that authority signed. Certificates live in
memory and for as long as the process: there is nothing to issue, to mount or to renew. They all carry one name, which
clients ask for whatever address they found the peer at: a lease holds an address, and no certificate could know it.

Rotation: the key may be a list. The first signs, all are trusted. A key that stands in a file is read again when the
file changes; connections made from then on use it, those that stand go on.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from pbx_runtime import logs
from pbx_runtime.grpc_key import parse_keys

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from pbx_runtime.settings import ServiceSettings

NAME: Final = "sip-pbx.internal"
"""The one name of every certificate."""
RELOAD_S: Final = 5.0
"""How often the key's file is looked at, when connections are made."""
FILE_BYTES_MAX: Final = 4096
_PURPOSE: Final = b"sip-pbx gRPC certificate authority, version 1"
_ORDER_P256: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# Fixed, so that clocks that differ between nodes do not matter: whoever may connect is decided by the key alone.
_NOT_BEFORE: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)

_log = logs.get_logger("grpc")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process shows, and whom it believes. PEM."""

    key: bytes
    chain: bytes
    roots: bytes


def identity_of(keys: Sequence[str]) -> Identity:
    """A fresh certificate signed with the first key, and the authorities of all of them."""
    # Imported here: a machine whose services speak over unix sockets needs none of it.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authorities = [_authority(key) for key in keys]
    signer, authority = authorities[0]
    own = ec.generate_private_key(ec.SECP256R1())
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_subject(NAME))
        .issuer_name(authority.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Identity(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(pem),
        b"".join(root.public_bytes(pem) for _, root in authorities),
    )


def _authority(key: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The authority that everybody derives from this key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    # 48 octets, so that the remainder is even over the field (FIPS 186-5, A.2.1: extra random bits).
    octets = HKDF(hashes.SHA256(), 48, salt=None, info=_PURPOSE).derive(key.encode())
    private = ec.derive_private_key(int.from_bytes(octets, "big") % (_ORDER_P256 - 1) + 1, ec.SECP256R1())
    public = private.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    # Authorities of different keys must have different names, or a peer would look for a signer among the wrong ones.
    subject = _subject(f"sip-pbx {identifier.digest.hex()[:16]}")
    usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(private, hashes.SHA256())
    )
    return private, certificate


def _subject(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class GrpcCredentials:
    """The identity of this process, made anew when the key's file changes. Safe to use from gRPC's own threads."""

    def __init__(self, key: str, file: Path | None = None, now: Callable[[], float] = time.monotonic) -> None:
        """`file`: where `key` was read from. Raises ValueError for a key that is none."""
        self._file = file
        self._now = now
        self._lock = threading.Lock()
        self._looked_at = now()
        self._digest = _digest_of(key)
        self._identity = identity_of(parse_keys(key))
        self._generation = 0

    def current(self) -> tuple[int, Identity]:
        """The identity, and a number that changes with it."""
        with self._lock:
            if self._file is not None and self._now() - self._looked_at >= RELOAD_S:
                self._looked_at = self._now()
                self._look(self._file)
            return self._generation, self._identity

    def _look(self, file: Path) -> None:
        """Take over what the file holds now. One that cannot be used is told of, and the former key stays."""
        try:
            with file.open(encoding="utf-8") as opened:
                text = opened.read(FILE_BYTES_MAX).strip()
            digest = _digest_of(text)
            if digest == self._digest:
                return
            self._digest = digest  # told of once, not at every connection
            self._identity = identity_of(parse_keys(text))
        except (OSError, ValueError) as error:
            _log.warning("the gRPC key cannot be read again; the former one stays in use", reason=str(error)[:200])
            return
        self._generation += 1
        _log.info("the gRPC key has changed", generation=self._generation)

    def for_server(self) -> grpc.ServerCredentials:
        """Credentials of a server that follows the key; peers must show a certificate."""
        given, identity = self.current()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            generation, identity = self.current()
            if generation == given:
                return None
            given = generation
            return _configuration(identity)

        # None (no change) is allowed by grpc's documentation, and missing in its types.
        return grpc.dynamic_ssl_server_credentials(
            _configuration(identity),
            fetch,  # type: ignore[arg-type]
            require_client_authentication=True,
        )


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(identity.key, identity.chain)], identity.roots)


def _digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def credentials_of(settings: ServiceSettings) -> GrpcCredentials | None:
    """What the settings say; None where services speak over unix sockets, or without protection."""
    if settings.grpc_key is None:
        return None
    return GrpcCredentials(settings.grpc_key.get_secret_value(), settings.grpc_key_file)


def credentials_of_environment() -> GrpcCredentials | None:
    """The same for a tool that has no settings. Raises ValueError, OSError."""
    key, file = os.environ.get("PBX_GRPC_KEY"), os.environ.get("PBX_GRPC_KEY_FILE")
    if not key and file:
        with open(file, encoding="utf-8") as opened:
            key = opened.read(FILE_BYTES_MAX).strip()
    return GrpcCredentials(key) if key else None
