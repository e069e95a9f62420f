"""`hash` of text and octets is salted anew in each process: our code calls it for `__hash__` alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def calls_of_hash(tree: ast.AST) -> Iterator[int]:
    """Lines that call the builtin outside of a `__hash__`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__hash__":
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash":
            yield node.lineno
        yield from calls_of_hash(node)


def test_nothing_that_leaves_a_process_can_hold_one() -> None:
    sources = [path for part in ("libs", "services") for path in (ROOT / part).glob("*/src/**/*.py")]
    assert len(sources) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources
        for line in calls_of_hash(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


def test_a_call_is_found() -> None:
    assert list(calls_of_hash(ast.parse("x = {hash(b'a'): 1}\nclass A:\n def __hash__(self): return hash(1)"))) == [1]
