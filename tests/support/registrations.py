"""REGISTER requests, bindings and accounts as values, with defaults that a test overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pbx_registrar.bindings import Binding, Contact, Flow, Registration
from pbx_registrar.credentials import Account, new_account

NOW_MS = 1_700_000_000_000
AOR = "1004@pbx.local"
UDP = Flow(transport=1, host="192.0.2.4", port=5060, instance_id="s1", listener="udp4")
TCP = Flow(transport=2, host="192.0.2.4", port=40_000, instance_id="s1", connection_id=7, listener="tcp4")


def contact(uri: str = "sip:1004@192.0.2.4:5060", expires_s: int | None = 600, **more: Any) -> Contact:
    return Contact(uri, expires_s, **more)


def registration(*contacts: Contact, cseq: int = 1, call_id: str = "reg-1", **more: Any) -> Registration:
    values: dict[str, Any] = {"aor": AOR, "flow": UDP, "user_agent": "Phone/1.0"} | more
    return Registration(contacts=contacts, cseq=cseq, call_id=call_id, **values)


def binding(uri: str = "sip:1004@192.0.2.4:5060", expires_at_ms: int = NOW_MS + 600_000, **more: Any) -> Binding:
    values: dict[str, Any] = {
        "aor": AOR,
        "q_thousandths": 1000,
        "flow": UDP,
        "path": (),
        "call_id": "reg-1",
        "cseq": 1,
        "user_agent": "Phone/1.0",
        "sip_instance": "",
        "reg_id": 0,
        "registered_at_ms": NOW_MS,
    }
    return Binding(uri=uri, expires_at_ms=expires_at_ms, **(values | more))


def uris(bindings: Sequence[Binding]) -> list[str]:
    return [each.uri for each in bindings]


def account(user: str = "1004", password: str = "secret", domain: str = "pbx.local") -> Account:
    return new_account(user, domain, f"Phone {user}", password, NOW_MS)
