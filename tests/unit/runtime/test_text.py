"""The last guard before terminals, logs and spreadsheets."""

from __future__ import annotations

import io
import json
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_runtime import logs
from pbx_runtime.settings import ServiceSettings
from pbx_runtime.text import cell, escaped_json, printable, printable_lines

HOSTILE = "a\x1b]0;mine\x07\x7f\x9b31m\u2028\u202e\U000e0041\ud800b"


def test_what_a_terminal_obeys_is_shown_instead() -> None:
    assert printable(HOSTILE) == "a?]0;mine???31m????b"
    assert printable("a\tb\nc") == "a?b?c"
    assert printable_lines("a\tb\nc\rd\x00") == "a\tb\nc?d?"
    assert printable("Zoë \u200d 日本") == "Zoë \u200d 日本"


@given(st.text(st.characters()))
def test_json_means_the_same(text: str) -> None:
    document = json.dumps({"x": [text]}, ensure_ascii=False, indent=1)
    shown = escaped_json(document)
    assert json.loads(shown) == {"x": [text]}
    assert shown == printable_lines(shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+4930", "'+4930"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'?=1"),
        ("\r=1", "'?=1"),
        ("\n=1", "'?=1"),
        (" =1", "' =1"),
        ("\u00a0=1", "'\u00a0=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("a=1", "a=1"),
        ("1004", "1004"),
        ("", ""),
        ("Zo\x1bë", "Zo?ë"),
        (-5, -5),
        (None, None),
    ],
)
def test_cells(value: object, shown: object) -> None:
    assert cell(value) == shown


class Demo(ServiceSettings):
    service: ClassVar[str] = "demo"


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_of_a_log_obeys_a_peer(form: str) -> None:
    stream = io.StringIO()
    logs.configure(Demo(log_format=form, log_pii="show"), stream)
    log = logs.get_logger("x")
    forged = "x\n2026-01-01 [info] all is well"
    log.warning(HOSTILE, who=logs.Pii(HOSTILE), agent=HOSTILE, many=[HOSTILE], line=forged)
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        log.error("failed", exc_info=error)
    text = stream.getvalue()
    assert text == printable_lines(text)
    assert "\n2026-01-01 [info]" not in text
    assert "ValueError" in text
