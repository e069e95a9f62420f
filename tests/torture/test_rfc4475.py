"""The torture messages of RFC 4475, each at the core of the B2BUA, answered as its section says.

`tests/data/rfc4475/manifest.json` says what should be answered (`best`), what the text tolerates (`also`) and what must
never happen (`never`). A message that asks for 200 may get any answer that says that it was understood.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.torture import answer_of, fits

DATA = Path(__file__).resolve().parent.parent / "data" / "rfc4475"
CASES = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["file"].removesuffix(".dat") for case in CASES])
def test_it_is_answered_as_the_section_says(case: dict[str, Any]):
    status = answer_of((DATA / case["file"]).read_bytes())
    assert fits(status, [*case["best"], *case["also"]]), f"{status}; {case['note']}"
    assert not fits(status, [word for word in case["never"] if word not in case["best"]])
