"""Who is let in at the running product: limits of accounts, and what strangers' datagrams leave behind: nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.call import Call, establish
from support.phone import Phone
from support.product import DOMAIN, Product, Settings, accounts
from support.wire import audio_sdp

pytestmark = [pytest.mark.integration, pytest.mark.interop, pytest.mark.xdist_group("admission")]

FORGED = """{method} sip:1008@{domain} SIP/2.0
Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{n}
Max-Forwards: 70
From: <sip:1004@{domain}>;tag={n}
To: <sip:1008@{domain}>
Call-ID: {n}-{method}
CSeq: 1 {method}
Contact: <sip:1004@{host}:{port}>
{header}: Digest username="{user}", realm="{domain}", nonce="{nonce}", uri="sip:{domain}", response="{digest}", \
algorithm=SHA-256, cnonce="1", qop=auth, nc=00000001
Content-Length: 0

"""
OFFICE = "127.0.0.91"
FORGERIES = 200


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A product with the limits that it has by itself."""
    with Product(Settings(accounts(10))) as running:
        yield running


def forge(product: Product, method: str, host: str, number: int, sock: socket.socket) -> None:
    header = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
    text = FORGED.format(
        method=method,
        domain=DOMAIN,
        host=host,
        port=sock.getsockname()[1],
        n=f"f{number}",
        header=header,
        user="1004" if number % 2 else f"victim{number}" + "x" * 2_000,
        nonce=f"{number:056x}",
        digest=f"{number:064x}",
    )
    sock.sendto(text.replace("\n", "\r\n").encode(), product.sip)


def redis_keys(product: Product) -> list[str]:
    import redis

    path = next(product.data.rglob("redis*.sock"))
    with redis.Redis(unix_socket_path=str(path)) as client:
        return sorted(key.decode() for key in client.scan_iter("reg:[fwrn]*"))


def test_forged_credentials_leave_nothing_and_lock_nobody_out(product: Product) -> None:
    with Phone(product.sip, product.credentials("1004"), domain=DOMAIN, host=OFFICE) as phone:
        assert phone.register().status == 200
        before, cdrs = redis_keys(product), len(product.cdrs(limit=1000))
        requests = product.metrics("registrar").sum("pbx_registrar_authentications_total")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((OFFICE, 0))
            for number in range(FORGERIES):
                forge(product, ("REGISTER", "INVITE", "MESSAGE")[number % 3], OFFICE, number, sock)
                time.sleep(0.002)
        assert phone.register().status == 200
        dialog = phone.dial("2001", audio_sdp(phone.port + 2))
        assert phone.expect(480).status == 480, "known, and not registered: so it was let in"
        assert dialog.cseq
    cdr = product.cdr(caller="1004")
    assert (cdr["sip_status"], len(product.cdrs(limit=1000))) == (480, cdrs + 1)
    grown = [key for key in redis_keys(product) if key not in before]
    assert all(key.startswith("reg:n:") for key in grown), "the nonces of the right answers alone"
    asked = product.metrics("registrar").sum("pbx_registrar_authentications_total") - requests
    assert asked <= 4
    assert product.metrics("signaling").sum("pbx_signaling_transactions_refused_total") == 0


def test_an_account_has_ten_calls_and_another_limit_where_one_is_set(product: Product) -> None:
    with ExitStack() as stack:
        caller = stack.enter_context(product.phone("1004"))
        callees = [stack.enter_context(product.phone(f"200{number}")) for number in range(6)]
        for callee in callees:
            assert callee.register().status == 200
        calls: list[Call] = [establish(caller, callees[number % 6]) for number in range(10)]
        caller.dial("2000", audio_sdp(caller.port + 2))
        busy = caller.expect(486)
        assert "10 calls" in busy.get("warning")
        assert product.cdr(caller="1004", outcome="forbidden")["cause"] == "account_calls"
        other = stack.enter_context(product.phone("1008"))
        calls.append(establish(other, callees[0]))
        command = [str(Path(sys.executable).with_name("sip-pbx")), "account", "set", "1004", "--calls", "11"]
        subprocess.run([*command, "--data", str(product.data)], check=True, capture_output=True, timeout=60)
        calls.append(establish(caller, callees[1]))
        caller.dial("2000", audio_sdp(caller.port + 2))
        assert "11 calls" in caller.expect(486).get("warning")
        for call in calls:
            call.hang_up()
        product.assert_all_released()
        establish(caller, callees[0]).hang_up()
        refusals = product.metrics("signaling").sum("pbx_signaling_quota_refusals_total", limit="account_calls")
        assert refusals == 2
