"""`sip-pbx`: the command line. Nothing is imported before the interrupt of whoever types too fast is taken care of."""

from __future__ import annotations

import errno
import os
import signal
import sys

EXIT_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """The console script: errors for people as one line on stderr, and no traceback for Ctrl-C at any moment."""
    try:
        _run()
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`): the interpreter's own flush at its end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" {error.filename}" if error.filename else ""
        _end(f"cannot write{where}: the disk is full; free some space and try again", 1)


def _run() -> None:
    from pbx_cli.app import app
    from pbx_cli.errors import CliError
    from pbx_runtime.text import printable_lines

    try:
        app()
    except CliError as error:
        # What a peer said may stand in it.
        _end(printable_lines(str(error)), error.code)


def _end(message: str, code: int) -> None:
    sys.stderr.write(f"sip-pbx: {message}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
