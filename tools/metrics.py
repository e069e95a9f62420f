"""docs/metrics.md: every metric that the sources make, with its labels and what it means."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
KINDS: Final = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "Info": "info"}


def found() -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, labels, meaning."""
    for path in sorted([*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("libs/runtime/src/**/*.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) >= 2:
                kind = KINDS.get(node.func.id.removesuffix("MetricFamily"))
                if kind is not None:
                    yield from _told(tree, node, kind)


def _told(tree: ast.AST, node: ast.Call, kind: str) -> Iterator[tuple[str, str, str, str]]:
    name, text = node.args[0], node.args[1]
    labels = next((each.value for each in node.keywords if each.arg in ("labels", "labelnames")), None)
    if labels is None and len(node.args) > 2 and isinstance(node.args[2], ast.List):
        labels = node.args[2]
    names = [str(each.value) for each in getattr(labels, "elts", ()) if isinstance(each, ast.Constant)]
    shown = ", ".join(f"`{label}`" for label in names)
    if isinstance(text, ast.Name) and isinstance(name, ast.Constant):
        text = next((each for each in _assigned(tree, text.id)), text)
    if isinstance(name, ast.Constant) and isinstance(text, ast.Constant):
        if str(name.value).startswith("pbx_"):
            yield _full(str(name.value), kind), kind, shown, str(text.value)
    elif isinstance(name, ast.JoinedStr):
        # A table of names and texts is walked: `for name, text, value in (("calls_refused", "...", x), ...)`.
        prefix = "".join(str(part.value) for part in name.values if isinstance(part, ast.Constant))
        for row in (*_rows(tree, node), *_passed(tree, node)):
            yield _full(prefix + row[0], kind), kind, shown, row[1]


def _rows(tree: ast.AST, node: ast.Call) -> Iterator[tuple[str, str]]:
    for loop in ast.walk(tree):
        if isinstance(loop, ast.For) and any(inner is node for inner in ast.walk(loop)):
            for row in getattr(loop.iter, "elts", ()):
                cells = [cell.value for cell in getattr(row, "elts", ()) if isinstance(cell, ast.Constant)]
                if len(cells) >= 2:
                    yield str(cells[0]), str(cells[1])


def _passed(tree: ast.AST, node: ast.Call) -> Iterator[tuple[str, str]]:
    """What a method that makes such a metric is called with: `self._udp("keepalives", "...")`."""
    makers = {
        each.name
        for each in ast.walk(tree)
        if isinstance(each, ast.FunctionDef) and len(each.args.args) == 3 and any(n is node for n in ast.walk(each))
    }
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in makers:
            cells = [each.value for each in call.args if isinstance(each, ast.Constant)]
            if len(cells) == 2:
                yield str(cells[0]), str(cells[1])


def _assigned(tree: ast.AST, name: str) -> Iterator[ast.Constant]:
    for each in ast.walk(tree):
        targets = [target.id for target in getattr(each, "targets", ()) if isinstance(target, ast.Name)]
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant) and name in targets:
            yield each.value


def _full(name: str, kind: str) -> str:
    """As it stands in an answer: counters end with `_total`, infos with `_info`."""
    ending = {"counter": "_total", "info": "_info"}.get(kind, "")
    return name.removesuffix(ending) + ending


def page(made: str) -> str:
    """The page."""
    rows = sorted(set(found()))
    lines = [
        "# Metrics\n",
        made,
        "Each service answers them at `/metrics`; the process's own (CPU, memory, descriptors) too. The alerts on",
        "them are in the chart (`helm/sip-pbx/rules.yaml`), what to do then in [operations.md](operations.md).\n",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{name}` | {kind} | {labels} | {text} |" for name, kind, labels, text in rows]
    return "\n".join(lines) + "\n"
