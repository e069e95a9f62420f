"""Structured logs on stderr: JSON lines or text for people; the standard library's loggers join in.

Personal data is wrapped in `Pii` where it enters an event and masked here unless the setting says `show`.
Values under the names in `SECRET_KEYS` are never written. A line below the level costs a call and no more.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from pbx_runtime.settings import ServiceSettings
from pbx_runtime.text import escaped_json, printable, printable_lines

Logger = structlog.typing.FilteringBoundLogger
_Event = MutableMapping[str, Any]

SECRET_KEYS = frozenset(
    {"password", "secret", "token", "authorization", "proxy_authorization", "ha1", "nonce_key", "private_key"}
)
_SHOWN_CHARACTERS = 2
_NOISY = {
    "uvicorn.access": logging.ERROR,
    "uvicorn": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "grpc": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "aiosqlite": logging.WARNING,
    "alembic": logging.WARNING,
    "websockets": logging.ERROR,  # a line for each connection, and at debug the frames with their credentials
}


class Pii:
    """A value about a person: shown in a log only where the settings allow it, else its end alone."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return self.masked

    @property
    def masked(self) -> str:
        """The text with all but its end replaced; short values disappear whole."""
        text = str(self.value)
        hidden = len(text) - _SHOWN_CHARACTERS if len(text) > 2 * _SHOWN_CHARACTERS else len(text)
        return "*" * min(hidden, 8) + text[hidden:]


class _Scrub:
    """Last word on values before they are rendered: secrets go, personal data is masked or shown, no line is forged."""

    def __init__(self, *, show_pii: bool) -> None:
        self._show_pii = show_pii

    def __call__(self, logger: object, method: str, event: _Event) -> _Event:
        for key, value in event.items():
            if key in SECRET_KEYS:
                event[key] = "***"
            elif type(value) is Pii:
                event[key] = printable(str(value.value) if self._show_pii else value.masked)
            elif type(value) is str:
                event[key] = printable(value)
        return event


class _Fields:
    """Adds the fields that every line of this process carries."""

    def __init__(self, **fields: str) -> None:
        self._fields = fields

    def __call__(self, logger: object, method: str, event: _Event) -> _Event:
        event.update(self._fields)
        return event


def _name_component(logger: object, method: str, event: _Event) -> _Event:
    event["component"] = event["_record"].name
    return event


def get_logger(name: str) -> Logger:
    """A logger whose lines carry `component=name`. Usable before `configure`, which it then obeys."""
    return cast(Logger, structlog.get_logger(component=name))


def configure(settings: ServiceSettings, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's root logger for this process."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Fields(service=settings.service, instance=settings.instance_id),
        _Scrub(show_pii=settings.log_pii == "show"),
    ]
    render = _renderers(settings)
    target = stream if stream is not None else sys.stderr
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=stream is None,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_component, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    for name, floor in _NOISY.items():
        logging.getLogger(name).setLevel(max(level, floor))


def _clean_exception(logger: object, method: str, event: _Event) -> _Event:
    if "exception" in event:
        event["exception"] = printable_lines(str(event["exception"]))
    return event


def _renderers(settings: ServiceSettings) -> list[Any]:
    if settings.log_format == "console":
        # The text of an exception holds what a peer sent.
        return [
            structlog.processors.format_exc_info,
            _clean_exception,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]


def _to_json(event: _Event, **_: object) -> str:
    return escaped_json(json.dumps(event, default=str, separators=(",", ":"), ensure_ascii=False))
