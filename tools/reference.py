"""Writes the documents that are made from the code; `--check` says whether they are what it would write."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import catalogue
import metrics
import settings

from pbx_events.api.errors import CODES

ROOT: Final = Path(__file__).resolve().parent.parent
MADE: Final = "<!-- Made by `make reference`; edit {source} instead. -->\n"


def errors() -> str:
    """docs/errors.md."""
    lines = [
        "# Errors of the API\n",
        MADE.format(source="services/events/src/pbx_events/api/errors.py"),
        "Each error is a problem document (RFC 9457); its `code` is one of these, and its `type` leads to the",
        "page of that code on the same server (`/errors/{code}`). A code keeps its meaning within `/v1`; new ones may",
        "come: treat one that you do not know by its status.\n",
        "| code | status | meaning | what to do |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{each.code}` | {each.status} | {each.title} | {each.remedy} |" for each in CODES.values()]
    return "\n".join(lines) + "\n"


def event_catalogue() -> str:
    """docs/event-catalogue.md."""
    return catalogue.page(MADE.format(source="proto/pbx/events or services/events/src/pbx_events/webhook/shape.py"))


def metric_reference() -> str:
    """docs/metrics.md."""
    return metrics.page(MADE.format(source="the metrics in services and libs/runtime"))


def setting_reference() -> str:
    """docs/settings.md."""
    return settings.page(MADE.format(source="the settings of the services"))


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/errors.md": errors,
    "docs/metrics.md": metric_reference,
    "docs/settings.md": setting_reference,
    "docs/event-catalogue.md": event_catalogue,
    "services/events/src/pbx_events/api/event_schemas.json": catalogue.schemas,
}


def main() -> int:
    """1 where a page is not what it should be."""
    stale = {name: text for name, make in PAGES.items() if _is_stale(ROOT / name, text := make())}
    if "--check" in sys.argv:
        for name in stale:
            sys.stderr.write(f"{name} is not what the code says: run `make reference`\n")
        return int(bool(stale))
    for name, text in stale.items():
        (ROOT / name).write_text(text, encoding="utf-8")
    return 0


def _is_stale(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") != text


if __name__ == "__main__":
    sys.exit(main())
