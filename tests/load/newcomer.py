"""`make newcomer`: what someone does who has just cloned this repository, in a scratch directory.

Clones what is committed, `make run` with no prior step, two baresip phones register and call, each hears the other,
CDR and webhook come, and the product ends cleanly. Addresses are free ones, so that it runs beside others.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.pair import Pair
from support.product import Product, Settings, accounts
from support.two_phones import talk

SETUP_S = 900
"""The first `make run` makes a virtual environment."""
_SCRIPT = """#!/bin/sh
shift
exec make --silent --directory {clone} run ARGS="$*"
"""


def main(arguments: list[str]) -> int:
    """Clone, run, call; 0 when all was well."""
    parser = argparse.ArgumentParser(prog="make newcomer", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path.cwd())
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="newcomer-") as directory:
        clone, script = Path(directory) / "sip-pbx", Path(directory) / "up"
        subprocess.run(["git", "clone", "--quiet", str(options.repository), str(clone)], check=True)
        script.write_text(_SCRIPT.format(clone=shlex.quote(str(clone))), encoding="utf-8")
        script.chmod(0o755)
        started = time.monotonic()
        with Product(Settings(accounts(0), program=str(script), ready_s=SETUP_S)) as product:
            print(f"ready after {time.monotonic() - started:.0f} s (virtual environment and start)")
            talk(Pair(product, "1004", "1008"))
            print("two baresip phones heard each other; CDR and webhook came")
    print("ended cleanly, no process left")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
