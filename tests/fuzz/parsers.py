"""Coverage-guided fuzzing of the parsers: `make fuzz TARGET=message ARGS=-max_total_time=1800`.

The targets and their contract are `support.fuzz_targets`; findings become cases in `tests/unit/sip/test_contract.py`.
Atheris is no dependency of the project: `make fuzz` installs it into an environment of its own.
"""

from __future__ import annotations

import os
import sys

import atheris

with atheris.instrument_imports(include=["pbx_sip"]):
    from support.fuzz_targets import TARGETS


def main() -> None:
    """Fuzz the target that FUZZ_TARGET names; arguments are libFuzzer's."""
    atheris.Setup(sys.argv, TARGETS[os.environ.get("FUZZ_TARGET", "message")])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
