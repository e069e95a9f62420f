"""Metrics that documents, dashboards and alerts name are there, in the running product."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.product import fetch

if TYPE_CHECKING:
    from support.product import Product

pytestmark = pytest.mark.interop
ROOT = Path(__file__).parents[2]
NAME = re.compile(r"\bpbx_(?!operator_)[a-z]+_[a-z0-9_]+\b")
ELSEWHERE = {"pbx_media_relay"}
"""Packages."""


def exposed(product: Product) -> set[str]:
    """All names, with those that a histogram's samples have."""
    names = set[str]()
    for process in product.processes:
        if "http" in process.addresses:
            text = fetch(f"http://{process.addresses['http'].removeprefix('http://')}/metrics").decode()
            names.update(re.findall(r"^(?:# HELP )?(pbx_[a-z0-9_]+)", text, re.MULTILINE))
    return names | {name + ending for name in names for ending in ("_bucket", "_count", "_sum")}


@pytest.mark.parametrize("where", ["docs/*.md", "helm/sip-pbx/dashboards/*.json", "helm/sip-pbx/templates/**/*"])
def test_every_metric_that_is_named_is_exposed(product: Product, where: str) -> None:
    files = [path for path in ROOT.glob(where) if path.is_file()]
    assert files, where
    known = exposed(product)
    unknown = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in NAME.findall(path.read_text())
        if name not in known and name not in ELSEWHERE
    }
    assert not unknown
