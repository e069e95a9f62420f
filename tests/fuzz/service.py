"""Fuzzing of the running product: `make fuzz-service FOR=1800 SEED=1`. See `support.mutation`."""

from __future__ import annotations

import os
import sys
import time

from support.mutation import attack
from support.product import Product, Settings, accounts

UNLIMITED = {"PBX_SOURCE_REQUESTS_PER_S": "0", "PBX_LOG_LEVEL": "warning"}
"""All is read: the limits of sources would spare the rest."""


def main() -> None:
    """Attack for FOR seconds."""
    seconds, seed = float(os.environ.get("FOR", "1800")), int(os.environ.get("SEED", str(time.time_ns() % 10**9)))
    with Product(Settings(accounts(10), environment=UNLIMITED)) as product:
        sent = attack(product, seconds, seed)
    sys.stdout.write(f"{sent} messages in {seconds:g} s, seed {seed}: no finding\n")


if __name__ == "__main__":
    main()
