"""A self-signed certificate in the data directory, for a first try of TLS. Nobody trusts it but who is told to.

Made by the openssl program; not by a library of ours, for this is its only use.
"""

from __future__ import annotations

import ipaddress
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from pbx_cli.errors import CliError

DAYS = 365
RENEW_S = 300 * 86_400
"""Made anew when it is that old: before a phone sees it end."""
OPENSSL_S = 30


def self_signed(data: Path, names: Iterable[str]) -> tuple[Path, Path]:
    """Certificate and key for these names and addresses; made once, and again before they end. Raises CliError."""
    directory = data / "tls"
    certificate, key, of = directory / "cert.pem", directory / "key.pem", directory / "names"
    wanted = ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in dict.fromkeys(names))
    kept = all(path.exists() for path in (certificate, key, of)) and of.read_text(encoding="utf-8") == wanted
    if kept and time.time() - certificate.stat().st_mtime < RENEW_S:
        return certificate, key
    directory.mkdir(mode=0o700, exist_ok=True)
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", str(DAYS), "-subj", "/CN=sip-pbx", "-addext", f"subjectAltName={wanted}"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    key.chmod(0o600)
    of.write_text(wanted, encoding="utf-8")
    return certificate, key


def _openssl(*arguments: str) -> None:
    try:
        program = ["openssl", *arguments]  # whichever is on the PATH; names were checked as addresses or a domain
        subprocess.run(program, check=True, capture_output=True, timeout=OPENSSL_S)  # noqa: S603
    except FileNotFoundError:
        raise CliError(
            "--tls-self-signed needs the openssl program: install it, or give --tls-cert and --tls-key"
        ) from None
    except subprocess.CalledProcessError as error:
        detail = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise CliError(f"--tls-self-signed: openssl failed: {''.join(detail)}") from None
    except subprocess.TimeoutExpired:
        raise CliError(f"--tls-self-signed: openssl took longer than {OPENSSL_S} s") from None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
