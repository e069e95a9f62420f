"""TLS around another pipe, and the certificate that it shows (RFC 3261 section 26.3, RFC 8996: 1.2 and above).

TLS runs over memory (`ssl.MemoryBIO`), not in the event loop's own transport: limits apply before a handshake costs
anything, a failed handshake is counted, and each connection takes the certificate that is current when it comes, so
that a renewed one needs no restart and touches no live connection.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pbx_signaling.transport.pipe import Failure, Pipe

READ_MAX: Final = 65_536
"""Octets of plain text taken at once."""
UNSENT_EARLY_MAX: Final = 64
"""Messages that wait for the handshake of a connection of ours."""

ClientCertificates = Literal["no", "optional", "required"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificate lies, and what is asked of peers."""

    certificate: Path
    """PEM: our own, then the intermediate ones."""
    key: Path
    client_ca: Path | None = None
    """PEM: who may sign the certificates of clients."""
    client_certificates: ClientCertificates = "no"
    trust: Path | None = None
    """PEM: whom we trust when we connect; None: whom the system trusts."""


class Certificates:
    """The contexts in force. `reload` replaces them together, or not at all."""

    def __init__(self, files: TlsFiles) -> None:
        """Reads the files. Raises OSError (ssl.SSLError is one) where they cannot be used."""
        self.reloads = 0
        self.not_after = 0.0
        """When our certificate ends, in seconds since the Unix epoch; 0 where unknown."""
        self._files = files
        self._stamp = self._stamps()
        self._load()

    def reload_if_changed(self) -> bool:
        """Reads the files again where they changed; whether new ones are in force. Raises OSError, and keeps the old.

        A certificate without its key (half of a change) fails here and is tried again at the next call.
        """
        stamp = self._stamps()
        if stamp == self._stamp:
            return False
        self._load()
        self._stamp = stamp
        self.reloads += 1
        return True

    def server(self) -> ssl.SSLContext:
        """For a connection that was accepted."""
        return self._server

    def client(self) -> ssl.SSLContext:
        """For a connection of ours."""
        return self._client

    def _stamps(self) -> list[tuple[int, int, int]]:
        """What tells a changed file: Kubernetes swaps a link, others write in place."""
        files = self._files
        paths = [path for path in (files.certificate, files.key, files.client_ca, files.trust) if path is not None]
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in (path.stat() for path in paths)]

    def _load(self) -> None:
        server, client = self._make_server(), self._make_client()
        self._server, self._client = server, client
        self.not_after = _not_after(self._files)

    def _make_server(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context)
        context.load_cert_chain(files.certificate, files.key)
        if files.client_certificates != "no":
            optional = files.client_certificates == "optional"
            context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
            context.load_verify_locations(files.client_ca)
        return context

    def _make_client(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=None if self._files.trust is None else str(self._files.trust))
        _harden(context)
        # Shown to trunks that ask for one.
        context.load_cert_chain(self._files.certificate, self._files.key)
        return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A peer that renegotiates without end costs us a handshake each time, for one packet of its own.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE


def _not_after(files: TlsFiles) -> float:
    """When our certificate ends, for a metric; 0 where it cannot be told (it has ended, for one).

    The standard library reads the fields of a peer's certificate alone, so we show it to ourselves.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(files.certificate, files.key)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted, whoever signed it
    client.load_verify_locations(files.certificate)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(there, back, server_side=True)
    theirs = client.wrap_bio(back, there)
    try:
        for side in (theirs, ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        return float(ssl.cert_time_to_seconds(str((theirs.getpeercert() or {})["notAfter"])))
    except (ssl.SSLError, ValueError, KeyError):
        return 0.0


class TlsPipe:
    """TLS around `inner`."""

    __slots__ = ("_begun", "_in", "_inner", "_out", "_shaken", "_tls", "_waiting", "detail", "ended", "failure")

    def __init__(self, inner: Pipe, context: ssl.SSLContext, server_name: str | None = None) -> None:
        """`server_name`: whose certificate is to be shown, for a connection of ours; None: we are the server."""
        self.failure: Failure | None = None
        self.detail = ""
        self.ended = False
        self._inner = inner
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server_name is None, server_hostname=server_name)
        self._shaken = False
        self._begun = False
        """Whether octets came that gave no plain text yet: a record has begun."""
        self._waiting: list[bytes] = []
        if server_name is not None:
            self._shake()

    @property
    def established(self) -> bool:
        """See Pipe."""
        return self._shaken and self._inner.established

    @property
    def pending(self) -> bool:
        """See Pipe."""
        return not self._shaken or self._begun or self._inner.pending

    @property
    def completed(self) -> int:
        """See Pipe."""
        return self._shaken + self._inner.completed

    @property
    def version(self) -> str:
        """The version agreed upon, "TLSv1.3"; empty before."""
        return self._tls.version() or ""

    def receive(self, data: bytes) -> list[bytes]:
        """See Pipe."""
        if self.failure is not None:
            return []
        self._in.write(data)
        if not self._shaken and not self._shake():
            return []
        messages: list[bytes] = []
        self._begun = True
        while plain := self._read():
            self._begun = False
            messages += self._inner.receive(plain)
        self._pump()
        if self._inner.failure is not None:
            self.failure, self.detail = self._inner.failure, self._inner.detail
        return messages

    def send(self, message: bytes) -> None:
        """See Pipe; what comes before the handshake is done waits for it."""
        if self._shaken:
            self._inner.send(message)
            self._pump()
        elif len(self._waiting) < UNSENT_EARLY_MAX:
            self._waiting.append(message)

    def close(self) -> None:
        """See Pipe: close_notify, without waiting for the peer's."""
        if self._shaken and self.failure is None:
            self._inner.close()
            self._pump()
            try:
                self._tls.unwrap()
            except (ssl.SSLError, OSError):
                return  # it wants the peer's close_notify, which nobody waits for

    def outgoing(self) -> bytes:
        """See Pipe."""
        return self._out.read()

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLError, ssl.CertificateError, OSError) as error:
            self.failure, self.detail = Failure.HANDSHAKE, getattr(error, "reason", None) or str(error)
            return False
        self._shaken = True
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._inner.send(message)
        self._pump()
        return True

    def _read(self) -> bytes:
        try:
            plain = self._tls.read(READ_MAX)
        except ssl.SSLWantReadError:
            return b""
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
            return b""
        except (ssl.SSLError, OSError) as error:
            self.failure, self.detail = Failure.FRAMING, getattr(error, "reason", None) or str(error)
            return b""
        self.ended = self.ended or not plain
        return plain

    def _pump(self) -> None:
        """Encrypts what the inner pipe has to say."""
        self.ended = self.ended or self._inner.ended
        plain = self._inner.outgoing()
        if plain and self.failure is None:
            try:
                self._tls.write(plain)
            except (ssl.SSLError, OSError) as error:
                self.failure, self.detail = Failure.FRAMING, str(error)
