"""Where the running system is: what the caller says, else the environment, else what `up` left on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pbx_cli.errors import CliError

DEFAULT_API = "http://127.0.0.1:8080"
ENDPOINTS = "endpoints.json"

HttpOption = Annotated[str, typer.Option("--http", envvar="PBX_API", help="The HTTP API: URL or host:port.")]
DataOption = Annotated[Path, typer.Option("--data", envvar="PBX_DATA", help="Data directory of a local `sip-pbx up`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
DEFAULT_DATA = Path("var")


@dataclass(frozen=True, slots=True)
class Places:
    """What one invocation was told."""

    http: str
    data: Path

    @property
    def api(self) -> str:
        """Base URL of the HTTP API."""
        url = self.http or str(self._document().get("http") or DEFAULT_API)
        return (url if "://" in url else f"http://{url}").rstrip("/")

    @property
    def processes(self) -> list[dict[str, Any]]:
        """The processes of a local `up`; none where it is not known."""
        found: list[dict[str, Any]] = self._document().get("processes", [])
        return found

    @property
    def document(self) -> dict[str, Any]:
        """What a local `up` wrote of itself; empty where it is not known."""
        return self._document()

    @property
    def registrar(self) -> str:
        """gRPC address of the registrar. Raises CliError where nobody says."""
        return self._one("registrar", "PBX_REGISTRAR_ADDRESS")

    @property
    def relays(self) -> tuple[str, ...]:
        """gRPC addresses of the relays. Raises CliError where nobody says."""
        named = os.environ.get("PBX_RELAYS", "")
        if named:
            return tuple(part.strip() for part in named.split(",") if part.strip())
        found = tuple(self._grpc_of("media-relay"))
        if not found:
            raise CliError(self._missing("relay", "PBX_RELAYS"))
        return found

    def _one(self, process: str, variable: str) -> str:
        address = os.environ.get(variable) or next(self._grpc_of(process), "")
        if not address:
            raise CliError(self._missing(process, variable))
        return address

    def _missing(self, what: str, variable: str) -> str:
        return (
            f"where is the {what}? {self.data / ENDPOINTS} is not there (is `sip-pbx up` running with --data "
            f"{self.data}?); name its directory with --data, or its gRPC address with {variable}"
        )

    def _grpc_of(self, name: str) -> Iterator[str]:
        for process in self._document().get("processes", ()):
            if process["name"] == name or process["name"].startswith(f"{name}-"):
                yield process["addresses"]["grpc"]

    def _document(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads((self.data / ENDPOINTS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise CliError(f"cannot read {self.data / ENDPOINTS}: {error}") from None
        return document
