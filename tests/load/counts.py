"""`make bench-counts`: the figures of a call that are counts, and nearly the same whatever else the machine does.

    core_instructions_per_call    instructions of the SIP core alone (`load.core_cost`)
    switches_per_call             by service at 60 calls/s (`load.switches`)

`--tree PATH` counts another checkout's core beside this one's: the same call, recorded and replayed with its own code.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from load import core_cost, servers, switches

OUTPUT: Final = Path("build/bench-counts.json")


def measure(trees: list[Path], *, whole: bool = True) -> dict[str, Any]:
    """Both figures under their names; what could not be counted is None."""
    figures: dict[str, Any] = {core_cost.FIGURE: core_cost.figure()}
    if trees:
        figures["others"] = {str(tree): core_cost.count(tree.resolve()) for tree in trees}
    if whole:
        with servers.ours() as server:
            figures[switches.FIGURE] = switches.measure(server)
    return figures


def table(figures: dict[str, Any]) -> str:
    """One line for a figure."""
    counted = figures[core_cost.FIGURE]
    told = "not counted: valgrind is not installed (make setup-tools)" if counted is None else f"{counted:14,d}"
    lines = [f"{core_cost.FIGURE:30s}{told}"]
    for tree, other in figures.get("others", {}).items():
        share = f"   this one takes {counted / other:.3f} of it" if counted else ""
        lines.append(f"  the same of {tree:18s}{other:14,d}{share}")
    slept = dict(figures.get(switches.FIGURE, {}))
    reason = slept.pop("reason", "")
    if slept:
        by_service = ", ".join(f"{name} {slept[name]:g}" for name in slept if name != "all")
        lines.append(
            f"{switches.FIGURE:30s}{slept['all']:14g}   {by_service}{f'   FAILED: {reason}' if reason else ''}"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Count, print, write."""
    parser = argparse.ArgumentParser(prog="make bench-counts", description=__doc__)
    parser.add_argument("--tree", type=Path, action="append", default=[], help="another checkout, for its core's count")
    parser.add_argument("--core", action="store_true", help="the core alone, nothing is started")
    parser.add_argument("--json", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    figures = measure(options.tree, whole=not options.core)
    print(table(figures))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
