"""How much of a simulation a test plays."""

from __future__ import annotations

import os

from hypothesis import Phase, settings


def simulation(examples: int) -> settings:
    """So many schedules, the same ones in each run; `SIM_EXAMPLES` asks for more and for other ones."""
    return settings(
        max_examples=int(os.environ.get("SIM_EXAMPLES", examples)),
        derandomize="SIM_EXAMPLES" not in os.environ,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking a whole simulation takes minutes
        deadline=None,
    )


SIMULATION = simulation(60)
