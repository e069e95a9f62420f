"""Settings of a process: the environment, read once into a frozen object.

Variables are `PBX_` + the field's name (`DATABASE_URL` excepted). `<VARIABLE>_FILE` names a file that holds
the value instead, for secrets. No configuration file, no command line: one source, so that what a process
was told can be read from its environment.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pbx_runtime.address import Listen, Place
from pbx_runtime.grpc_key import parse_keys
from pbx_runtime.redis_url import with_password

ENV_PREFIX = "PBX_"
EXIT_BAD_SETTINGS = 2
SECRET_FILE_BYTES_MAX = 65536
"""A secret is a line, not a disk: a `_FILE` that names a device must not fill the memory."""

__all__ = ["CommaList", "Listen", "Place", "ServiceSettings", "SettingsError", "exit_with_settings_error"]


class SettingsError(Exception):
    """The environment does not make sense. The message names each variable and what is wrong with it."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaList = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""Field type of a comma-separated list; empty parts are dropped."""


def variable_of(name: str, field: FieldInfo) -> str:
    """The environment variable of a field."""
    return str(field.validation_alias) if field.validation_alias else ENV_PREFIX + name.upper()


class _Environment(PydanticBaseSettingsSource):
    """Reads each field's variable, or the file that `<VARIABLE>_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return _read(os.environ, variable_of(field_name, field)), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, _ = self.get_field_value(field, name)
            if value is not None:
                found[name] = value
        return found


def _read(environment: Mapping[str, str], variable: str) -> str | None:
    value, path = environment.get(variable) or None, environment.get(f"{variable}_FILE") or None
    if path is None:
        return value
    if value is not None:
        raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one of them")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(SECRET_FILE_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}_FILE: cannot read {path}: {error}") from error


class ServiceSettings(BaseSettings):
    """What every service process is told. A service derives its own class and sets `service`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, enable_decoding=False, hide_input_in_errors=True
    )
    service: ClassVar[str] = "service"
    may_wait: ClassVar[bool] = True
    """Whether its work may wait for what runs, up to a tick of the scheduler; not for what relays media itself."""

    redis_url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(redis|rediss|unix|redis\+sentinel)://")
    """redis://host:port/db, rediss:// for TLS, unix:///path, redis+sentinel://hosts/name/db.

    May hold a password: never logged."""
    redis_password: str = Field(default="", repr=False)
    """Password of Redis as it is, in any characters; it comes before the one in the URL."""
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    """SQLAlchemy URL; None for a SQLite file in `data`. May hold a password: never logged."""
    database_password: str = Field(default="", validation_alias="DATABASE_PASSWORD", repr=False)
    """Password of the database as it is, in any characters; it comes before the one in the URL."""
    data: Path = Path("var")
    """Directory of everything that this process keeps on disk."""
    instance_id: str = Field(default_factory=lambda: secrets.token_hex(4), pattern=r"^[a-z0-9]{1,16}$")
    """Names this process among its replicas."""
    grpc_listen: Place = Listen("127.0.0.1", 0)
    """Where the gRPC server listens: host:port, or unix:/path for whoever may search that directory."""
    grpc_key: SecretStr | None = None
    """Shared key of all services: with it they prove themselves to each other (`grpc_credentials`)."""
    grpc_key_file: Path | None = None
    """The file that `grpc_key` was read from; read again when it changes."""
    grpc_insecure: bool = False
    """Whether gRPC may be served without a key beyond this machine: whoever reaches the port is obeyed."""
    http_listen: Listen = Listen("127.0.0.1", 0)
    """Where /metrics, /healthz and /readyz (and an API, where there is one) are served."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: this and what is worse."""
    log_format: Literal["json", "console"] = "json"
    """JSON lines, or text for people."""
    log_pii: Literal["mask", "show"] = "mask"
    """Whether numbers and addresses of people are masked in logs."""
    shutdown_s: float = Field(default=20, gt=0, le=86400)
    """Seconds that a SIGTERM may take."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments (tests), then the environment; nothing else."""
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="after")
    def _grpc_is_protected(self) -> Self:
        """Nobody unproved may reach accounts, calls and media from another machine."""
        if self.grpc_key is not None:
            try:
                parse_keys(self.grpc_key.get_secret_value())
            except ValueError as error:
                raise ValueError(f"PBX_GRPC_KEY: {error}") from None
        elif isinstance(self.grpc_listen, Listen) and not self.grpc_listen.is_loopback and not self.grpc_insecure:
            raise ValueError(
                f"PBX_GRPC_LISTEN is {self.grpc_listen}, which others reach, and there is no PBX_GRPC_KEY (or "
                "PBX_GRPC_KEY_FILE): give all services the same random key (`openssl rand -hex 32`), listen on "
                "unix:/path, or say PBX_GRPC_INSECURE=1 where the network itself keeps strangers out"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _join_passwords(cls, values: dict[str, Any]) -> dict[str, Any]:
        joined = dict(values)
        for url, password in (("redis_url", "redis_password"), ("database_url", "database_password")):
            address = values.get(url) or cls.model_fields[url].default
            if address and values.get(password):
                joined[url] = with_password(str(address), str(values[password]))
        return joined

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises SettingsError that names every variable that is wrong."""
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError(_explain(cls, error)) from None

    def sql_url(self) -> str:
        """`DATABASE_URL`, or the SQLite file `<service>.sqlite` in the data directory (async driver)."""
        if self.database_url:
            return self.database_url
        return f"sqlite+aiosqlite:///{(self.data / self.service).absolute()}.sqlite"


def _explain(cls: type[BaseSettings], error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        field = cls.model_fields.get(name)
        variable = variable_of(name, field) if field else name or "settings"
        message = "is not set, and has no default" if problem["type"] == "missing" else problem["msg"]
        lines.append(f"{variable}: {message.removeprefix('Value error, ')}")
    return "\n".join(lines)


def exit_with_settings_error(error: SettingsError) -> NoReturn:
    """Print what is wrong, one line a variable, and exit with code 2."""
    sys.stderr.write(f"bad settings:\n{error}\n")
    raise SystemExit(EXIT_BAD_SETTINGS)
