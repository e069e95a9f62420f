"""A restore drill: a backup while calls run, everything deleted, restored, and all of it is there."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from support.call import establish
from support.phone import Phone
from support.ports import free_port
from support.product import Product, Settings, accounts
from support.redis_server import redis_server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
SIP_PBX = str(Path(sys.executable).with_name("sip-pbx"))
CALLS_BEFORE = 3
PAUSE_S = 0.1
"""Between calls: a slot rests for some seconds after each, and the relay of a test has few."""


def cli(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SIP_PBX, *argv], capture_output=True, text=True, timeout=120, check=False)


def test_all_that_was_there_is_there_again(tmp_path: Path) -> None:
    archive = tmp_path / "backup.tar"
    product = Product(Settings(accounts(4), environment={"PBX_WEBHOOK_ALLOW_PRIVATE": "1"}))
    product.start()
    try:
        dead = product.post("/v1/webhooks", {"url": f"http://127.0.0.1:{free_port()}/", "types": ["call.ended"]})
        product.post("/v1/accounts", {"user": "1011", "password": "kept", "display_name": "Ada"})
        with product.phone("2000") as caller, product.phone("2001") as callee:
            assert callee.register().status == 200
            for _ in range(CALLS_BEFORE):
                establish(caller, callee).hang_up()
            before = {cdr["id"] for cdr in product.cdrs_of(CALLS_BEFORE, caller="2000")}
            with calls_go_on(caller, callee):
                made = cli("backup", str(archive), "--data", str(product.data))
        assert made.returncode == 0, made.stderr
        assert archive.stat().st_mode & 0o077 == 0
        refused = cli("restore", str(archive), "--data", str(product.data))
        assert (refused.returncode, "is in use" in refused.stderr) == (1, True)
        product.stop()
        for path in list(product.data.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        restored = cli("restore", str(archive), "--data", str(product.data))
        assert restored.returncode == 0, restored.stderr
        with product.again() as again:
            assert before <= {cdr["id"] for cdr in again.cdrs(caller="2000", limit=1000)}
            assert again.get("/v1/accounts/1011")["display_name"] == "Ada"
            hook = again.get(f"/v1/webhooks/{dead['id']}")
            assert hook["url"] == dead["url"]
            assert hook["deliveries"]["pending"] >= CALLS_BEFORE
            with again.phone("2002") as caller, again.phone("2003") as callee:
                assert callee.register().status == 200
                establish(caller, callee).hang_up()
    finally:
        product.close()


def in_pod(pod: Path, redis_url: str, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A verb as `kubectl exec` runs it: the pod's volume, its Redis, and a stream in the place of a file."""
    environment = os.environ | {"PBX_DATA": str(pod), "PBX_REDIS_URL": redis_url}
    return subprocess.run([SIP_PBX, *argv], input=stdin, capture_output=True, timeout=120, check=False, env=environment)


def test_pods_are_backed_up_one_by_one_under_load_and_restored_where_nothing_is_left(tmp_path: Path) -> None:
    """As in a cluster: events with Redis' keys first, then the registrar; everything deleted; both restored."""
    pods = {name: tmp_path / name for name in ("events", "registrar")}
    product = Product(Settings(accounts(4), environment={"PBX_WEBHOOK_ALLOW_PRIVATE": "1"}))
    with ExitStack() as stack:
        stack.callback(product.close)
        product.start()
        (socket,) = product.data.rglob("redis*.sock")
        for name, pod in pods.items():
            pod.mkdir()
            (pod / f"{name}.sqlite").symlink_to(product.data / f"{name}.sqlite")
        dead = product.post("/v1/webhooks", {"url": f"http://127.0.0.1:{free_port()}/", "types": ["call.ended"]})
        caller, callee = (stack.enter_context(product.phone(user)) for user in ("2000", "2001"))
        assert callee.register().status == 200
        for _ in range(CALLS_BEFORE):
            establish(caller, callee).hang_up()
        before = {cdr["id"] for cdr in product.cdrs_of(CALLS_BEFORE, caller="2000")}
        with calls_go_on(caller, callee):
            made = {
                "events": in_pod(pods["events"], f"unix://{socket}", "backup", "-", "--redis"),
                "registrar": in_pod(pods["registrar"], f"unix://{socket}", "backup", "-"),
            }
        assert [done.returncode for done in made.values()] == [0, 0], made
        restoring = in_pod(product.data, f"unix://{socket}", "restore", "-", "--replace", stdin=made["events"].stdout)
        assert b"is in use" in restoring.stderr, restoring
        nowhere = in_pod(tmp_path, "unix:///nowhere.sock", "backup", "-", "--redis")
        assert (nowhere.returncode, b"Redis" in nowhere.stderr) == (1, True), nowhere
        product.stop()
        for path in list(product.data.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

        fresh = stack.enter_context(redis_server())
        client = stack.enter_context(closing(Redis(unix_socket_path=str(fresh.socket_path))))
        client.set("evt:left", "over")
        (product.data / "events.sqlite").write_bytes(b"what a start made of an empty volume")
        refused = in_pod(product.data, fresh.url, "restore", "-", stdin=made["events"].stdout)
        assert b"name --replace" in refused.stderr, refused
        for name in pods:
            done = in_pod(product.data, fresh.url, "restore", "-", "--replace", stdin=made[name].stdout)
            assert done.returncode == 0, done.stderr
        keys = {key.decode() for key in client.scan_iter()}
        assert "evt:left" not in keys
        assert "evt:outbox" in keys
        assert any(key.startswith("reg:") for key in keys)
        assert not any(key.startswith("sig:") for key in keys), "calls of processes that are gone"
        (group,) = client.xinfo_groups("evt:outbox")
        assert group["name"] == b"events"
        with product.again() as again:
            assert before <= {cdr["id"] for cdr in again.cdrs(caller="2000", limit=1000)}
            assert {account["user"] for account in again.get("/v1/accounts")["items"]} >= {"2000", "2001"}
            assert again.get(f"/v1/webhooks/{dead['id']}")["deliveries"]["pending"] >= CALLS_BEFORE


@contextmanager
def calls_go_on(caller: Phone, callee: Phone) -> Iterator[None]:
    """Calls, one after the other, until the block is over."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(PAUSE_S):
            establish(caller, callee).hang_up()

    load = threading.Thread(target=go_on)
    load.start()
    try:
        yield
    finally:
        over.set()
        load.join()


@pytest.mark.parametrize("name", ["../outside", "/tmp/sip-pbx-outside", "link"])
def test_a_forged_backup_writes_nothing_elsewhere(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "forged.tar", "w") as archive:
        manifest = json.dumps({"format": 1, "version": "0.1.0", "made_at_ms": 0}).encode()
        for each, content in (("sip-pbx-backup.json", manifest), (name, b"x")):
            info = tarfile.TarInfo(each)
            info.size = len(content)
            if each == "link":
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc", 0
            archive.addfile(info, io.BytesIO(content))
    done = cli("restore", str(tmp_path / "forged.tar"), "--data", str(tmp_path / "data"))
    assert (done.returncode, "which no backup of sip-pbx does" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/sip-pbx-outside").exists()


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no archive")
    for file, words in (("x", "is no whole backup"), ("none", "there is no")):
        done = cli("restore", str(tmp_path / file), "--data", str(tmp_path / "data"))
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    full = cli("restore", str(tmp_path / "x"), "--data", str(tmp_path / "full"))
    assert "is not empty" in full.stderr
    none = cli("backup", str(tmp_path / "y"), "--data", str(tmp_path / "full"))
    assert "is no data directory" in none.stderr
    assert json.dumps(sorted(path.name for path in tmp_path.glob(".*"))) == "[]", "no half backup is left"
