"""What no text file of the repository may hold: trailing blanks, CRLF, merge marks, private keys, great size.

`hygiene.py FILE...` names each finding as file:line and exits with 1. Called by pre-commit and `make hygiene`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LARGE_BYTES = 512 * 1024
"""The lock is the largest text there is, a third of this."""
FORBIDDEN = (
    (re.compile(rb"[ \t]+$"), "trailing blanks"),
    (re.compile(rb"\r$"), "CRLF line end"),
    (re.compile(rb"^(<{7}|>{7}) "), "merge mark"),
    (re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----"), "private key"),
)


def findings(path: Path) -> Iterator[str]:
    """What is wrong with one file."""
    content = path.read_bytes()
    if len(content) > LARGE_BYTES:
        yield f"{path}: larger than {LARGE_BYTES} bytes"
    if content and not content.endswith(b"\n"):
        yield f"{path}: no newline at the end"
    for number, line in enumerate(content.split(b"\n"), 1):
        for pattern, what in FORBIDDEN:
            if pattern.search(line):
                yield f"{path}:{number}: {what}"


def main() -> int:
    """Print the findings of all files named."""
    found = [finding for name in sys.argv[1:] for finding in findings(Path(name))]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
