"""Directories that only we may search: where the unix sockets of one machine are.

Threat: any other user of the machine who reaches a gRPC socket could make accounts and listen to calls. A socket's
directory decides who reaches it, so the directory is ours, at mode 0700, and not somebody's link.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pbx_cli.errors import CliError
from pbx_runtime.address import SOCKET_PATH_MAX

LONGEST_NAME = "signaling-64.sock"
"""The longest file name that a plan makes."""


def socket_directory(data: Path) -> Path:
    """`run` in the data directory; where the paths of sockets there would be too long, a short one elsewhere.

    Made at mode 0700. Raises CliError where no directory can be used.
    """
    refused = []
    for path in _candidates(data):
        if len(os.fsencode(path / LONGEST_NAME)) > SOCKET_PATH_MAX:
            continue
        reason = make_private(path)
        if not reason:
            return path
        refused.append(f"{path}: {reason}")
    raise CliError("no directory for unix sockets: " + ("; ".join(refused) or "choose a --data with a shorter path"))


def _candidates(data: Path) -> Iterator[Path]:
    yield data / "run"
    name = f"sip-pbx-{os.getuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"
    own = os.environ.get("XDG_RUNTIME_DIR")
    for parent in (own, "/run" if os.getuid() == 0 else None, tempfile.gettempdir()):
        if parent and os.path.isdir(parent):
            yield Path(parent) / name


def make_private(path: Path) -> str:
    """Make a directory, or take one that is ours, and close it to others. Answers why that cannot be; empty: done."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()  # a link that somebody put there is none of ours, whatever it points to
        if not stat.S_ISDIR(found.st_mode):
            return "is no directory"
        if found.st_uid != os.getuid():
            return "belongs to somebody else"
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def remove_sockets(directory: Path) -> None:
    """Remove what a run left there, and the directory if nothing else is in it."""
    for pattern in ("*.sock", "*.link"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)
    try:
        directory.rmdir()
    except OSError:  # somebody keeps something else there
        return
