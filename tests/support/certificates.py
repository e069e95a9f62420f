"""Certificates for tests: an authority, and certificates that it signed, made by the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

ADDRESSES = "DNS:localhost,DNS:pbx.local,IP:127.0.0.1,IP:::1"


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate and its key."""

    certificate: Path
    key: Path


def authority(directory: Path, name: str = "ca") -> Pem:
    """A new authority."""
    pem = Pem(directory / f"{name}.pem", directory / f"{name}.key")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
        *("-subj", f"/CN={name}", "-keyout", str(pem.key), "-out", str(pem.certificate)),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    return pem


def signed(by: Pem, directory: Path, name: str = "server", *, days: int = 1) -> Pem:
    """A new certificate for loopback, signed by an authority."""
    pem = Pem(directory / f"{name}.pem", directory / f"{name}.key")
    request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
    extensions.write_text(f"subjectAltName={ADDRESSES}\n", encoding="ascii")
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", str(pem.key), "-out", str(request)),
    )
    _openssl(
        *("x509", "-req", "-in", str(request), "-CA", str(by.certificate), "-CAkey", str(by.key), "-CAcreateserial"),
        *("-days", str(days), "-extfile", str(extensions), "-out", str(pem.certificate)),
    )
    return pem


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=20)
