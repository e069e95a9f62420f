"""The program of the `helm test` job, as the job runs it, against a running product: a call with RTP, and failures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.product import DOMAIN, Product, Settings, accounts

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("up")]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(Settings(accounts(0))) as running:
        yield running


def smoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pbx_cli.smoke", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def secret_file(tmp_path: Path, user: str, secret: str) -> str:
    file = tmp_path / user
    file.write_text(f"{secret}\n")
    return f"{user}:@{file}"


def test_two_users_register_and_call_through_a_relay(product: Product, tmp_path: Path) -> None:
    users = [secret_file(tmp_path, user, product.credentials(user).password) for user in ("1004", "1008")]
    done = smoke(f"{product.sip[0]}:{product.sip[1]}", DOMAIN, *users)
    assert done.returncode == 0, done.stdout + done.stderr
    cdr = product.cdr(caller="1004", outcome="answered")
    assert cdr["callee"] == "1008"
    packets = [stream["packets"] for leg in cdr["legs"] for stream in leg["media"]]
    assert len(packets) == 2, "audio each way"
    assert min(packets) >= 40
    product.assert_all_released()


def test_what_does_not_work_is_named(product: Product, tmp_path: Path) -> None:
    users = [secret_file(tmp_path, user, "wrong") for user in ("1004", "1008")]
    done = smoke(f"{product.sip[0]}:{product.sip[1]}", DOMAIN, *users)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "403" in done.stdout + done.stderr
