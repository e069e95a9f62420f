"""Torture messages for IPv6 in the manner of RFC 5118, our own, each answered as the manifest says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.torture import answer_of, fits

DATA = Path(__file__).resolve().parent.parent / "data" / "rfc5118"
CASES = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["file"].removesuffix(".dat") for case in CASES])
def test_it_is_answered_as_the_manifest_says(case: dict[str, Any]):
    status = answer_of((DATA / case["file"]).read_bytes())
    assert fits(status, case["answers"]), f"{status}; {case['note']}"


def test_no_file_is_left_out():
    assert sorted(path.name for path in DATA.glob("*.dat")) == sorted(case["file"] for case in CASES)
