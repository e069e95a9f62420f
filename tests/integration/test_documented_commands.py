"""Every command of the documents that is for one machine, run on one: with a call up, a webhook, and records to show.

What needs a cluster is held against the rendered chart (tests/chart/test_documented_commands.py), the targets of `make`
against the Makefile (tests/unit/test_documents.py, which also holds that no command is in none of the three).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pbx_cli.app import app
from support.call import Call, establish
from support.documents import ROOT, Command, all_commands
from support.phone import Phone
from support.ports import free_block, free_port, give_back_block
from support.product import Product, Settings, accounts
from support.waiting import SLOWER, until
from support.webhook_sink import WebhookSink

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("documents"), pytest.mark.timeout(300)]
PROGRAM = Path(sys.executable).with_name("sip-pbx")
RUN_S = 60
ENDLESS_S = 2.0
"""How long what does not end by itself (a tail, a feed) is watched."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A product with something to show."""

    product: Product
    caller: Phone
    callee: Phone
    webhook: str
    record: str
    """Id of a call that is over."""

    def call(self) -> Call:
        """Another one that is up."""
        return establish(self.caller, self.callee)

    def filled(self, text: str, scratch: Path) -> str:
        """A command of a document with this machine's names in the place of the page's."""
        host, port = self.product.sip
        values = {
            r"http://127\.0\.0\.1:8080": self.product.http,
            r"\b(?:ADDRESS|HOST):5060": f"{host}:{port}",
            r"\bUSER\b": "1004",
            r"\bWEBHOOK\b": self.webhook,
            r"\bCALL\b": self.record,
            r"\bTIME\b": "2026-11-23T00:00:00Z",
            r"/var/lib/sip-pbx(?=\s|$)": str(self.product.data),
            r"--data var\b": f"--data {self.product.data}",
            r"(?<=\s)\S*?([\w.-]+\.(?:tar|csv))\b": rf"{scratch}/\1",
        }
        for pattern, value in values.items():
            text = re.sub(pattern, value, text)
        return numbered(text)


def numbered(text: str) -> str:
    """A number in the place of an option's `N`."""
    return re.sub(r"(--[\w-]+) N\b", r"\1 2", text)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    settings = Settings(accounts(0), environment={"PBX_WEBHOOK_ALLOW_PRIVATE": "1"})
    with Product(settings) as product, WebhookSink() as sink:
        webhook = product.post("/v1/webhooks", {"url": sink.url, "types": ["call.*"]})["id"]
        with product.phone("1004") as caller, product.phone("1008") as callee:
            for phone in (caller, callee):
                assert phone.register().status == 200
            establish(caller, callee).hang_up()
            record = product.cdr(caller="1004")["id"]
            yield Machine(product, caller, callee, webhook, record)


def verbs(*, up: bool) -> list[Command]:
    """The commands `sip-pbx`, those that start the product or the others."""
    found = [each for each in all_commands("sip-pbx", "sudo") if "sip-pbx" in each.text]
    return [each for each in found if (_words(each.text)[:1] == ["up"]) is up]


def _words(text: str) -> list[str]:
    """What stands behind the program's name."""
    words = shlex.split(text)
    return words[4:] if words[:2] == ["sudo", "-u"] else words[1:]


def is_mention(words: list[str]) -> bool:
    """Whether a verb is only named: it lacks what it cannot do without, or is a group of verbs."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", ()):
        command, words = command.commands[words[0]], words[1:]
    needed = sum(each.required for each in command.params if each.param_type_name == "argument")
    return hasattr(command, "commands") or needed > sum(not word.startswith("-") for word in words)


@pytest.mark.parametrize("command", verbs(up=False), ids=str)
def test_a_verb_does_what_a_page_asks_of_it(command: Command, machine: Machine, tmp_path: Path) -> None:
    words = _words(machine.filled(command.text, tmp_path))
    if words[0] == "--version" or is_mention(words):
        words = [*(word for word in words if not word.startswith("-")), "--help"]
    elif "--data" not in words:
        words += ["--data", str(machine.product.data)]
    if words[0] == "restore" and "--help" not in words:
        backup = subprocess.run([PROGRAM, "backup", words[1], *words[2:]], check=False, capture_output=True)
        assert backup.returncode == 0
        words = [*words[:-1], str(tmp_path / "restored")]
    environment = os.environ | {"PBX_DATA": str(machine.product.data)}
    endless = "tail" in words
    secret = "a long password\n" if "--ask" in words else None
    if secret is not None:
        words[words.index("--ask")] = "--password-stdin"  # the same without a terminal
    if words[:2] == ["account", "add"]:
        words[2] = f"{os.getpid()}{words[2]}"  # the account that the page makes may be there
    limit_s = ENDLESS_S if endless else RUN_S * SLOWER
    try:
        done = subprocess.run(
            [PROGRAM, *words],
            env=environment,
            input=secret,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        assert endless, f"{command}: it does not end"
        return
    # A doctor finds what this machine lacks, and says so by 1: that it examines is what a page promises.
    assert done.returncode in ((0, 1) if words[0] == "doctor" else (0,)), (
        f"{command}\n{words}\n{done.stdout}{done.stderr}"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [each for each in verbs(up=True) if len(_words(each.text)) > 1], ids=str)
def test_the_product_starts_as_a_page_says(command: Command, tmp_path: Path) -> None:
    words = _words(numbered(command.text))
    block, sip = free_block(64), free_port()
    # A page names the ports that phones know; here others may hold them.
    for option in ("--sip-tls",):
        if option in words:
            words[words.index(option) + 1] = f"127.0.0.1:{free_port()}"
    if "--tls-cert" in words:
        make_certificate(tmp_path)
    words += ["--sip", f"127.0.0.1:{sip}", "--http", f"127.0.0.1:{free_port()}", "--data", str(tmp_path / "var")]
    words += ["--relay-ports", f"{block[0]}-{block[1]}"]
    log = (tmp_path / "log").open("w+b")
    with log, subprocess.Popen([PROGRAM, *words], cwd=tmp_path, stdout=log, stderr=log) as process:
        try:
            if "--help" not in words:
                document = tmp_path / "var" / "endpoints.json"
                until(lambda: document.exists() or process.poll() is not None, timeout_s=90, what=f"{command} is up")
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            give_back_block(block)


def make_certificate(where: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=pbx.local -keyout key.pem -out fullchain.pem"
    subprocess.run(command.split(), cwd=where, check=True, capture_output=True)


@pytest.mark.parametrize("command", all_commands("curl"), ids=str)
def test_a_request_is_answered_as_the_page_shows(command: Command, machine: Machine, tmp_path: Path) -> None:
    text, shown = machine.filled(command.text, tmp_path), answer_shown(command)
    call = machine.call() if "DELETE" in text else None
    if call is not None:
        (live,) = machine.product.calls()
        text = re.sub(r"/v1/calls/\w+", f"/v1/calls/{live['call_id']}", text)
    words = [*shlex.split(text), "--max-time", "2", "--silent"] if " -N " in text else [*shlex.split(text), "--silent"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=RUN_S, check=False)
    if call is not None:
        for phone in (machine.caller, machine.callee):
            phone.reply(phone.expect("BYE"), 200, "OK")
    if " -N " in text:
        assert done.stdout.startswith("retry: 2000"), done
        return
    answer = json.loads(done.stdout)
    assert shown is None or keys_of(shown) <= set(answer), f"{command}: {done.stdout}"
    assert ("status" in answer) == (shown is not None and '"status"' in shown), f"{command}: {done.stdout}"


def answer_shown(command: Command) -> str | None:
    """What the page shows below a request."""
    lines = (ROOT / command.page).read_text(encoding="utf-8").splitlines()[command.line - 1 :]
    behind = next((at for at, line in enumerate(lines) if not line.endswith("\\")), 0) + 1
    return lines[behind] if len(lines) > behind and lines[behind].startswith("{") else None


def keys_of(shown: str) -> set[str]:
    """The names of an object's own members; the page may leave out what they hold."""
    depth, names = 0, set()
    for token in re.finditer(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}\[\]]', shown):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if token[2] and depth == 1:
            names.add(token[1])
    return names


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("command", all_commands("openssl"), ids=str)
def test_openssl_knows_what_pages_ask_of_it(command: Command, tmp_path: Path) -> None:
    make_certificate(tmp_path)
    shutil.copyfile(tmp_path / "fullchain.pem", tmp_path / "tls.crt")
    done = subprocess.run(command.words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, bool(done.stdout)) == (0, True), done


STUBS = """
useradd() { command useradd --help | grep -q -- --home-dir; }
systemctl() { case "$1" in daemon-reload|enable|restart) ;; *) return 1;; esac; }
git() { case "$1" in clone) command cp -r "$SOURCE/docs" "$3/";; -C) ;; *) return 1;; esac; }
make() { [ "$1" = -C ] && command make --dry-run -C "$SOURCE" "$3" > /dev/null; }
sudo() { [ "$1" = -u ] && shift 2 && "$@"; }
install() { command install $(printf '%s ' "$@" | sed 's/-o sip-pbx//'); }
"""
"""What changes a machine, replaced: it is checked that they are asked for what they know."""


def test_the_page_of_one_machine_can_be_followed(machine: Machine, tmp_path: Path) -> None:
    """Block after block below a root of its own: files come where the next command looks for them."""
    text = re.sub(r"^```.*?^```", "", (ROOT / "docs" / "one-machine.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    assert len(blocks) >= 3
    script = "set -eu\n" + STUBS + "\n".join(re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks)
    script = script.replace("/opt/sip-pbx/.venv/bin/sip-pbx", str(PROGRAM))
    script = re.sub(r"(?<![\w.])/(opt|etc)/", rf"{tmp_path}/\1/", script)
    script = machine.filled(script, tmp_path)
    for place in ("opt/sip-pbx", "etc/systemd/system", "etc/letsencrypt/renewal-hooks/deploy", "etc/sip-pbx"):
        (tmp_path / place).mkdir(parents=True)
    done = subprocess.run(
        ["bash", "-c", script], env=os.environ | {"SOURCE": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/systemd/system/sip-pbx.service").exists()
    assert list(tmp_path.glob("*.tar")), "the backup before the upgrade"
    make_certificate(tmp_path)
    shutil.copyfile(tmp_path / "key.pem", tmp_path / "privkey.pem")
    hook = tmp_path / "etc/letsencrypt/renewal-hooks/deploy/sip-pbx"
    body = re.sub(r"-o sip-pbx ", "", hook.read_text(encoding="utf-8"))
    environment = os.environ | {"RENEWED_LINEAGE": str(tmp_path)}
    assert os.access(hook, os.X_OK)
    subprocess.run(["sh", "-eu", "-c", body], env=environment, check=True, capture_output=True)
    assert (tmp_path / "etc/sip-pbx/tls/key.pem").stat().st_mode & 0o777 == 0o400
