"""The commands of the documents: what a reader would copy into a shell, with the page and the line that it stands on.

A command stands in a fence of a console behind `$ `, in a block indented by four columns, or in inline code that
begins with the name of a program. Placeholders are capitals (`CALL`, `WEBHOOK`); what follows ` # ` is a remark.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = [
    *sorted(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
    *sorted(page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "adr"),
]
"""Of today: the changelog and the decisions tell of their time."""
PROGRAMS: Final = (
    "sip-pbx", ".venv/bin/sip-pbx", "kubectl", "helm", "make", "curl", "python", "openssl", "sqlite3", "systemctl",
    "journalctl", "sysctl", "ss", "rm", "tcpdump", "kind", "k3d", "sudo",
)  # fmt: skip
"""What inline code begins with where it is a command."""
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED: Final = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_INLINE: Final = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it is written, on one line."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def program(self) -> str:
        """Its first word, without a path."""
        return self.text.split()[0].rpartition("/")[2]

    @property
    def words(self) -> list[str]:
        """As a shell would split it."""
        return shlex.split(self.text)


def all_commands(*programs: str) -> list[Command]:
    """Those of all pages that begin with one of these programs; each text once."""
    found = {each.text: each for page in PAGES for each in commands(page) if each.program in programs}
    return list(found.values())


def commands(page: Path) -> Iterator[Command]:
    """All commands of a page, in the order of their kinds."""
    text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))

    def found(start: int, written: str) -> Command:
        return Command(name, text.count("\n", 0, start) + 1, _plain(written))

    for fence in _FENCE.finditer(text):
        for prompt in re.finditer(r"^\$ ((?:.*\\\n)*.*)", fence[2], re.MULTILINE):
            yield found(fence.start(2) + prompt.start(), prompt[1])
    prose = _FENCE.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), text)
    for block in _INDENTED.finditer(prose):
        if _follows_a_blank_line(prose, block.start()):
            for written in re.finditer(r"^    (\S(?:.*\\\n)*.*)", _without_here_documents(block[0]), re.MULTILINE):
                yield found(block.start() + written.start(), written[1])
    for code in _INLINE.finditer(_INDENTED.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), prose)):
        inline = " ".join(code[1].split())
        if inline.partition(" ")[0] in PROGRAMS and " " in inline:
            yield found(code.start(), inline)


def _follows_a_blank_line(text: str, start: int) -> bool:
    return text[:start].endswith("\n\n")


def _without_here_documents(block: str) -> str:
    """What a here-document holds is no command."""
    return re.sub(r"(<<'(\w+)'\n)(?:.*\n)*?    \2\n", r"\1\n", block)


def _plain(written: str) -> str:
    """On one line, without remarks."""
    joined = re.sub(r"\s*\\\n\s*", " ", written)
    return re.split(r"\s{2,}#\s|\s#\s(?=[a-zA-Z])", joined)[0].strip()
