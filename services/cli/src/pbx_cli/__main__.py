"""`sip-pbx`: the command line."""

from __future__ import annotations

import sys

from pbx_cli.app import app
from pbx_cli.errors import CliError


def main() -> None:
    """The console script: errors for people as one line on stderr."""
    try:
        app()
    except CliError as error:
        sys.stderr.write(f"sip-pbx: {error}\n")
        raise SystemExit(error.code) from None


if __name__ == "__main__":
    main()
