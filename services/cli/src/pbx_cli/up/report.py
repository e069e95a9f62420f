"""What `up` says once all is ready: for people on stdout, or one JSON object."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pbx_cli.up.child import Child
from pbx_cli.up.options import AccountWish, UpOptions


def document(
    options: UpOptions, advertise: str, accounts: Sequence[AccountWish], children: Sequence[Child]
) -> dict[str, Any]:
    """Every address and pid; the accounts with their passwords."""
    return {
        "pid": os.getpid(),
        "domain": options.domain,
        "advertise": advertise,
        "sip": [str(options.sip)],
        "http": f"http://{options.http}",
        "data": str(options.data.absolute()),
        "accounts": [{"user": account.user, "password": account.password} for account in accounts],
        "processes": [
            {"name": child.plan.name, "pid": child.pid, "addresses": dict(child.plan.addresses)} for child in children
        ],
    }


OTHERS_SHOWN = 8
"""Accounts from before that are named; of more the number is told."""


def text(options: UpOptions, advertise: str, accounts: Sequence[AccountWish], others: Sequence[str] = ()) -> str:
    """Where to point a phone, with which account, and where the API is."""
    hosts = advertise.split(",")
    servers = [f"{_bracketed(host)}:{options.sip.port}" for host in hosts]
    lines = [
        "",
        "sip-pbx is up",
        "",
        f"  SIP server   {' or '.join(servers)}  (UDP, TCP)",
        f"  domain       {options.domain}",
    ]
    prefixes = {"tls": "sips:", "ws": "ws://", "wss": "wss://"}
    for kind, listen in {kind: at for _, kind, at in options.more.listens() if kind in prefixes}.items():
        lines.append(f"  {kind.upper():<13}{prefixes[kind]}{_bracketed(hosts[0])}:{listen.port}")
    if options.more.needs_certificate and options.more.certificate is None:
        lines.append(f"  certificate  {options.data.absolute() / 'tls' / 'cert.pem'}  (self-signed)")
    given = {account.user for account in options.accounts if account.password}
    lines += [
        f"  account      {account.user}, password {'as given' if account.user in given else account.password}"
        for account in accounts
    ]
    if others:
        more = f" and {len(others) - OTHERS_SHOWN} more" if len(others) > OTHERS_SHOWN else ""
        lines.append(f"  from before  {', '.join(others[:OTHERS_SHOWN])}{more}  (`sip-pbx account remove` ends one)")
    lines += [
        f"  HTTP API     http://{options.http}/docs",
        f"  data         {options.data.absolute()}",
        "",
        "Ctrl-C ends it.",
        "",
    ]
    return "\n".join(lines)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
