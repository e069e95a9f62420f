"""`sip-pbx backup` and `sip-pbx restore`: everything that one machine keeps, in one file, while it runs.

Order makes it consistent: Redis first, then SQL. An event that moves from the outbox into SQL meanwhile is then in
both, which its id makes harmless; the other way round it would be in neither. Databases are copied by SQLite's own
online backup.

In a cluster each database is in a pod of its own, and Redis is nobody's directory: there `-` is the file (the archive
comes through `kubectl exec`), and `--redis` takes Redis' keys along (docs/operations.md).
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import time
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import Annotated, BinaryIO, Final, cast

import typer

from pbx_cli.errors import CliError
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption
from pbx_cli.verbs.redis_keys import dump, load
from pbx_runtime import logs
from pbx_runtime.settings import ServiceSettings, SettingsError

MANIFEST: Final = "sip-pbx-backup.json"
FORMAT: Final = 1
TRIES: Final = 10
"""How often a copy of Redis' files is begun anew, where Redis rewrote them meanwhile."""
SQL_STEP: Final = 1000
"""Pages of SQLite that are copied in one go: writers wait for no longer than that."""
SCRATCH: Final = ".backup-"
"""Begins the names of directories for copies that are on their way."""
LEFT_OUT: Final = frozenset(("lock", "endpoints.json", "redis.sock"))
"""Of a running process; a restored one makes its own."""


STREAM: Final = Path("-")
"""Stdout, or stdin."""
KEYS: Final = "redis.keys"
"""Redis' keys, where they were taken from a server and not from its files."""

RedisOption = Annotated[bool, typer.Option("--redis", help="Also the keys of Redis at PBX_REDIS_URL: in a cluster.")]


def backup(
    file: Annotated[
        Path, typer.Argument(help="The file to write: a tar archive that only its owner may read; - for stdout.")
    ],
    data: DataOption = DEFAULT_DATA,
    redis: RedisOption = False,
) -> None:
    """Copy everything that `sip-pbx up --data` keeps into one file, while it runs: accounts, CDRs, webhooks, keys."""
    if not redis and not any(data.glob("*.sqlite")):
        elsewhere = " (its database is at DATABASE_URL: pg_dump copies that)" if os.environ.get("DATABASE_URL") else ""
        raise CliError(f"{data} is no data directory of sip-pbx: name it with --data{elsewhere}")
    if file == STREAM:
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
            _write(archive, data, with_redis=redis)
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w") as archive:
            _write(archive, data, with_redis=redis)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    typer.echo(f"{file}: {file.stat().st_size} bytes")


def _write(archive: tarfile.TarFile, data: Path, *, with_redis: bool) -> None:
    described = {"format": FORMAT, "version": metadata.version("sip-pbx"), "made_at_ms": int(time.time() * 1000)}
    _add(archive, MANIFEST, json.dumps(described).encode())
    for part, content in _redis_files(data / "redis").items():
        _add(archive, f"redis/{part}", content)
    if with_redis:
        with tempfile.TemporaryFile(dir=data) as keys:
            dump(_redis_url(), keys)
            info = tarfile.TarInfo(KEYS)
            info.size, info.mode, info.mtime = keys.tell(), 0o600, int(time.time())
            keys.seek(0)
            archive.addfile(info, keys)
    for path in sorted(data.rglob("*")):
        name = path.relative_to(data)
        if path.suffix == ".sqlite" and not any(part.startswith(SCRATCH) for part in name.parts):
            _add_database(archive, str(name), path)
        elif path.is_file() and not path.is_symlink() and _is_kept(name):
            archive.add(path, str(name), recursive=False)


def _is_kept(name: Path) -> bool:
    if any(part.startswith(SCRATCH) for part in name.parts):
        return False
    is_of_sqlite = ".sqlite" in name.name  # its journal: the copy of the database has what it holds
    return not (name.parts[0] == "redis" or is_of_sqlite or name.name in LEFT_OUT or name.suffix in (".log", ".sock"))


def _redis_files(directory: Path) -> dict[str, bytes]:
    """The append-only file, whole: begun anew where Redis exchanged its parts meanwhile."""
    for _ in range(TRIES):
        before = _parts(directory)
        with suppress(FileNotFoundError):
            found = {name: (directory / name).read_bytes() for name in before}
            if _parts(directory) == before:
                return found
        time.sleep(0.1)
    raise CliError(f"{directory} changes all the time: try again in a moment")


def _parts(directory: Path) -> dict[str, int]:
    """The files by name, each with its identity: one that only grows stays the same."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("temp-"))
    return {str(path.relative_to(directory)): path.stat().st_ino for path in files}


def _redis_url() -> str:
    """As the services read it. Raises CliError."""
    if "PBX_REDIS_URL" not in os.environ and "PBX_REDIS_URL_FILE" not in os.environ:
        raise CliError("--redis: where is Redis? Name it with PBX_REDIS_URL, or run this in a pod of events")
    try:
        settings = ServiceSettings.load()
    except SettingsError as error:
        raise CliError(str(error)) from None
    # To stderr: the archive may be on its way through stdout. What matters comes as an error of ours.
    logs.configure(settings.model_copy(update={"log_level": "error", "log_format": "console"}))
    return settings.redis_url


def _add_database(archive: tarfile.TarFile, name: str, path: Path) -> None:
    # Beside the database, where there is room for one: the /tmp of a pod is small, and a full one costs the pod.
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=path.parent) as scratch:
        copy = Path(scratch) / "copy.sqlite"
        try:
            with (
                closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target, pages=SQL_STEP)
        except sqlite3.Error as error:
            raise CliError(f"cannot copy {path}: {error}") from None
        info = archive.gettarinfo(copy, name)
        info.mode = 0o600
        with copy.open("rb") as file:
            archive.addfile(info, file)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
    archive.addfile(info, io.BytesIO(content))


def restore(
    file: Annotated[Path, typer.Argument(help="What `sip-pbx backup` wrote; - for stdin.")],
    data: DataOption = DEFAULT_DATA,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete what is there of the same: in a pod whose volume is not empty.")
    ] = False,
) -> None:
    """Put a backup in place: into a data directory that is new or empty. Then start `sip-pbx up --data`."""
    if data.exists() and any(path.name != "lost+found" for path in data.iterdir()):
        if _is_in_use(data):
            raise CliError(f"{data} is in use: stop `sip-pbx up` first (in a cluster: maintenance=true)")
        if not replace:
            raise CliError(f"{data} is not empty: move it away, restore into another --data, or name --replace")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with _opened(file) as archive:
            described = _described(archive, file)
            while (member := archive.next()) is not None:
                if member.name == KEYS and member.isreg():
                    _put_keys(archive, member, replace=replace)
                else:
                    _put(archive, member, data, file, replace=replace)
    except FileNotFoundError:
        raise CliError(f"there is no {file}") from None
    except tarfile.TarError as error:
        raise CliError(f"{file} is no whole backup: {error}") from None
    typer.echo(f"{data}: as it was at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(described / 1000))}")


def _opened(file: Path) -> tarfile.TarFile:
    return tarfile.open(fileobj=sys.stdin.buffer, mode="r|") if file == STREAM else tarfile.open(file)


def _put_keys(archive: tarfile.TarFile, member: tarfile.TarInfo, *, replace: bool) -> None:
    content = archive.extractfile(member)
    assert content is not None, "a regular file"
    load(_redis_url(), cast("BinaryIO", content), replace=replace)


def _put(archive: tarfile.TarFile, member: tarfile.TarInfo, data: Path, file: Path, *, replace: bool) -> None:
    """One file: no link, no device, and nothing that would leave the directory."""
    name = Path(member.name)
    content = archive.extractfile(member) if member.isreg() else None
    if content is None or name.is_absolute() or ".." in name.parts:
        raise CliError(f"{file} holds {member.name!r}, which no backup of sip-pbx does: nothing more is taken from it")
    target = data / name
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if replace:
        for old in (target, *(target.with_name(target.name + end) for end in ("-wal", "-shm", "-journal"))):
            old.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        shutil.copyfileobj(content, written)


def _described(archive: tarfile.TarFile, file: Path) -> int:
    first = archive.next()
    content = archive.extractfile(first) if first is not None and first.name == MANIFEST else None
    if content is None:
        raise CliError(f"{file} is no backup of sip-pbx")
    try:
        described = json.loads(content.read())
        if described["format"] > FORMAT:
            raise CliError(f"{file} was written by a newer version ({described['version']}): restore it with that one")
        return int(described["made_at_ms"])
    except (ValueError, KeyError, TypeError):
        raise CliError(f"{file} is no backup of sip-pbx") from None


def _is_in_use(data: Path) -> bool:
    try:
        with (data / "lock").open("r", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return _has_open(data)


def _has_open(data: Path) -> bool:
    """Whether another process has a database there open, as far as this user may look."""
    here = str(data.resolve()) + os.sep
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            target = str(link.readlink())
            if target.startswith(here) and ".sqlite" in target and link.parts[2] != str(os.getpid()):
                return True
    return False
