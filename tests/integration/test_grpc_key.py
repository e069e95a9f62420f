"""Services over TCP: without a key none listens where others reach it; with one, who lacks it is not heard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.ports import free_port
from support.redis_server import redis_server
from support.registrar_process import RegistrarProcess

pytestmark = pytest.mark.integration
KEY, OTHER = "k1" * 16, "k2" * 16
NONCE_KEY = "0" * 64
SIP_PBX = str(Path(sys.executable).with_name("sip-pbx"))
NEEDED = {
    "pbx_registrar": {"PBX_NONCE_KEY": NONCE_KEY},
    "pbx_signaling": {"PBX_NONCE_KEY": NONCE_KEY, "PBX_SIP_LISTEN": "127.0.0.1:1", "PBX_ADVERTISE": "127.0.0.1"},
    "pbx_media_relay": {"PBX_RELAY_ADVERTISE": "127.0.0.1"},
    "pbx_events": {},
}
"""Service to what it needs to be told beside its addresses."""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PBX_")}
    return kept | {"PBX_DATA": str(tmp_path), "PBX_HTTP_LISTEN": f"127.0.0.1:{free_port()}"} | more


@pytest.mark.parametrize("package", NEEDED)
@pytest.mark.parametrize("listen", ["0.0.0.0", "[::]"])
def test_no_service_listens_for_others_without_a_key(package: str, listen: str, tmp_path: Path) -> None:
    told = environment(tmp_path, PBX_GRPC_LISTEN=f"{listen}:{free_port()}", **NEEDED[package])
    done = subprocess.run([sys.executable, "-m", package], env=told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "PBX_GRPC_KEY" in done.stderr


def add_account(address: str, tmp_path: Path, **key: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SIP_PBX, "account", "add", "1010", "--json"],
        env=environment(tmp_path, PBX_REGISTRAR_ADDRESS=address, **key),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_who_lacks_the_key_makes_no_account(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    with redis_server() as server:
        registrar = RegistrarProcess(server, tmp_path)
        registrar.environment = {
            "PBX_GRPC_LISTEN": f"0.0.0.0:{registrar.grpc_port}",
            "PBX_GRPC_KEY_FILE": str(key_file),
        }
        address = f"127.0.0.1:{registrar.grpc_port}"
        registrar.start()
        try:
            without: dict[str, str] = {}
            for key in (without, {"PBX_GRPC_KEY": OTHER}):
                refused = add_account(address, tmp_path, **key)
                assert refused.returncode == 1, refused.stdout
                assert "cannot reach the registrar" in refused.stderr
            made = add_account(address, tmp_path, PBX_GRPC_KEY_FILE=str(key_file))
            assert made.returncode == 0, made.stderr
            wrong = add_account(address, tmp_path, PBX_GRPC_KEY="hunter2")
            assert (wrong.returncode, "hunter2" in wrong.stderr) == (1, False)
            assert "PBX_GRPC_KEY" in wrong.stderr
        finally:
            registrar.stop()
