"""The import graph of all packages, types included: no circle in it. Who may stand on whom is in `pyproject.toml`."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import grimp

import pbx_signaling

PACKAGES = (
    *("pbx_sip", "pbx_runtime", "pbx_registrar", "pbx_signaling", "pbx_media_relay"),
    *("pbx_events", "pbx_operator", "pbx_cli"),
)


def circles_of(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """The strongly connected parts of a graph that hold more than one node, sorted (Tarjan, without recursion)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_: list[str] = []
    found: list[list[str]] = []
    for root in graph:
        if root in index:
            continue
        work = [(root, iter(sorted(graph[root])))]
        index[root] = lowest[root] = len(index)
        open_.append(root)
        while work:
            node, imported = work[-1]
            for other in imported:
                if other not in index:
                    index[other] = lowest[other] = len(index)
                    open_.append(other)
                    work.append((other, iter(sorted(graph.get(other, ())))))
                    break
                if other in open_:
                    lowest[node] = min(lowest[node], index[other])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == index[node]:
                    at = open_.index(node)
                    part, open_[at:] = open_[at:], []
                    if len(part) > 1:
                        found.append(sorted(part))
    return sorted(found)


def test_circles_are_found() -> None:
    assert circles_of({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}) == [
        ["a", "b", "c"],
        ["d", "e"],
    ]
    assert circles_of({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_by_others() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    assert circles_of({node: set(graph.find_modules_directly_imported_by(node)) for node in graph.modules}) == []


LINES_MAX = 350
"""Of a file of signaling: what is longer is two things."""


def test_no_file_of_signaling_is_two_things() -> None:
    root = Path(pbx_signaling.__file__).parent
    lines = {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in root.rglob("*.py")}
    assert {name for name, number in lines.items() if number > LINES_MAX} == set()
