"""The documents against the product: links lead somewhere, commands and options exist, and every setting is told of."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click
import pytest
import typer.main

from pbx_cli.app import app
from pbx_runtime.settings import ServiceSettings, variable_of
from support import documents

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SERVICES = ("registrar", "signaling", "media_relay", "events", "operator")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def group() -> Any:
    return typer.main.get_command(app)


def commands(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """What is written of `sip-pbx`: the line, its words, its options."""
    for code in re.findall(r"`([^`\n]+)`", text) + re.findall(
        r"^(?:    |\$ |.*\bexec\b.*-- )(.*)$", text, re.MULTILINE
    ):
        found = re.search(r"(?:^|bin/|\s)sip-pbx ([a-z].*)$", code)
        if found is not None:
            line = re.split(r"\s(?:\||>|#|&&)\s?|\\$", found[1])[0]
            yield code, line, re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_exists_with_its_options(page: Path) -> None:
    wrong = []
    for code, line, options in commands(page.read_text(encoding="utf-8")):
        for alternative in re.split(r"\|", line.split()[0]):
            command: click.Command = group()
            for word in [alternative, *line.split()[1:]]:
                if not hasattr(command, "commands"):
                    break
                if word.split("|")[0] not in command.commands:
                    wrong.append(code)
                    break
                command = command.commands[word.split("|")[0]]
            known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            wrong += [f"{code}: {option}" for option in options if option not in known | {"--help"}]
    assert not wrong


ELSEWHERE = {
    "sip-pbx": "tests/integration/test_documented_commands.py",
    "curl": "tests/integration/test_documented_commands.py",
    "openssl": "tests/integration/test_documented_commands.py",
    "kubectl": "tests/chart/test_documented_commands.py",
    "helm": "tests/chart/test_documented_commands.py",
    "make": "below",
}
"""Where commands are run, by their program. Those of docs/one-machine.md are run together, the page as one script."""
NOT_RUN = {
    "python -m pbx_operator.advertise": "run by signaling's init container: tests/unit/operator/test_advertise.py",
    "sysctl net.ipv4.ip_local_reserved_ports=30000-39999": "changes the machine",
    "ss -ulpn": "shows the node's sockets",
    "sleep 180": "waits",
    "tcpdump -ni any udp portrange 20000-29999": "captures on a relay's node",
    "rm -r /sys/fs/bpf/sip-pbx/v1/<relay id>-*": "takes pins of the kernel away: tests/integration/test_relay_ebpf.py",
}
"""Commands that no test runs, with the reason."""
NEEDS_KIND = ("kind", "k3d", "for")
"""Programs of a page that needs Docker."""


def test_every_command_is_run_by_a_test_or_is_named_here_with_the_reason() -> None:
    found = [each for page in documents.PAGES for each in documents.commands(page)]
    left = [
        each
        for each in found
        if each.program not in ELSEWHERE
        and each.text not in NOT_RUN
        and each.page != "docs/one-machine.md"
        and not (each.page == "docs/quickstart-kind.md" and each.program in NEEDS_KIND)
    ]
    assert [str(each) for each in left] == []
    assert NOT_RUN.keys() <= {each.text for each in found}, "no page has these any more"
    assert len(found) > 100, "the pages have commands, and they are found"


@pytest.mark.parametrize("command", documents.all_commands("make"), ids=str)
def test_every_target_of_make_exists(command: documents.Command) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target, *variables = [word for word in command.words[1:] if not word.startswith("-")]
    assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"{command}: no such target"
    for variable in variables:
        assert f"$({variable.partition('=')[0]})" in makefile, f"{command}: the Makefile reads no such variable"


def settings() -> set[str]:
    found = set()
    for service in SERVICES:
        module = import_module(f"pbx_{service}.settings")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, ServiceSettings):
                found |= {variable_of(name, field) for name, field in kind.model_fields.items()}
    return found


def test_every_setting_is_told_of_and_none_that_does_not_exist() -> None:
    told = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8") + "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")
    )
    known = settings()
    assert not {name for name in known if name not in told}, "settings that no page tells of"
    named = set(re.findall(r"\bPBX_[A-Z0-9_]+[A-Z0-9]\b", told))
    sources = "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for folder in ("services", "libs", "tests", "tools", "helm")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in (".py", ".yaml", ".tpl", ".txt", "") and "proto" not in path.parts
    ) + (ROOT / "Makefile").read_text(encoding="utf-8")
    unknown = {name for name in named - known if name.removesuffix("_FILE") not in known and name not in sources}
    assert not unknown, "names that nothing reads"


def test_every_setting_says_what_it_is() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        reference = import_module("settings")
    finally:
        sys.path.pop(0)
    assert reference.untold() == []
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert {name for name in settings() if f"| `{name}` |" not in text} == set()


def test_the_unit_starts_the_program_with_options_that_it_has() -> None:
    unit = (ROOT / "docs" / "systemd" / "sip-pbx.service").read_text(encoding="utf-8")
    line = re.search(r"^ExecStart=\S+/sip-pbx (.+)$", unit, re.MULTILINE)
    assert line is not None
    verb, *rest = line[1].split()
    known = {name for parameter in group().commands[verb].params for name in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known
