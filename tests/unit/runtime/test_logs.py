"""Logs: one JSON object a line, secrets never, personal data masked, the standard library joined in."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from pbx_runtime import logs
from pbx_runtime.logs import Pii
from pbx_runtime.settings import ServiceSettings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def configured(**settings: Any) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(ServiceSettings(instance_id="i1", **settings), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_service_instance_component_and_time() -> None:
    stream = configured()
    logs.get_logger("part").info("it happened", count=3)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "it happened",
        "count": 3,
        "component": "part",
        "level": "info",
        "service": "service",
        "instance": "i1",
    }


def test_a_logger_made_before_configure_obeys_it() -> None:
    logger = logs.get_logger("early")
    stream = configured(log_level="warning")
    logger.info("no")
    logger.warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_secrets_are_never_written() -> None:
    stream = configured(log_pii="show", log_level="debug")
    logs.get_logger("x").debug("login", password="p", authorization="Digest ...", ha1="h", token="t", user="u")
    (line,) = lines(stream)
    assert {line[key] for key in ("password", "authorization", "ha1", "token")} == {"***"}
    assert line["user"] == "u"


@pytest.mark.parametrize(("setting", "shown"), [("mask", "********67"), ("show", "+15551234567")])
def test_personal_data_is_masked_unless_the_setting_shows_it(setting: str, shown: str) -> None:
    stream = configured(log_pii=setting)
    logs.get_logger("x").info("seen", number=Pii("+15551234567"))
    assert lines(stream)[0]["number"] == shown


@pytest.mark.parametrize(
    ("value", "masked"), [("", ""), ("1004", "****"), ("10041", "***41"), ("10.0.0.17", "*******17")]
)
def test_masks(value: str, masked: str) -> None:
    assert Pii(value).masked == masked
    assert f"{Pii(value)}" == masked  # a slip into an f-string shows nothing either


def test_an_exception_is_one_line_with_its_stack() -> None:
    stream = configured()
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        logs.get_logger("x").error("failed", exc_info=error)
    (line,) = lines(stream)
    assert "RuntimeError: boom" in line["exception"]


def test_the_standard_library_joins_in_and_noisy_libraries_are_quiet() -> None:
    stream = configured()
    logging.getLogger("some.library").warning("careful %d", 7)
    logging.getLogger("uvicorn.access").info("GET /healthz")
    (line,) = lines(stream)
    assert (line["event"], line["component"], line["level"]) == ("careful 7", "some.library", "warning")
    assert line["service"] == "service"


def test_console_lines_are_for_people() -> None:
    stream = configured(log_format="console")
    logs.get_logger("x").info("hello", number=Pii("12345678"))
    assert "hello" in stream.getvalue()
    assert "12345678" not in stream.getvalue()


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    stream = configured()
    logs.get_logger("x").info("odd", path=object, error=ValueError("v"))
    assert lines(stream)[0]["error"] == "v"
