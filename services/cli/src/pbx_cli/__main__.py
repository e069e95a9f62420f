"""`sip-pbx`: the command line."""

from __future__ import annotations

import sys

from pbx_cli.app import app
from pbx_cli.errors import CliError
from pbx_runtime.text import printable_lines


def main() -> None:
    """The console script: errors for people as one line on stderr."""
    try:
        app()
    except CliError as error:
        # What a peer said may stand in it.
        sys.stderr.write(f"sip-pbx: {printable_lines(str(error))}\n")
        raise SystemExit(error.code) from None


if __name__ == "__main__":
    main()
