"""Finds the highest rate that a server sustains without a failed call, and confirms it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from load.run import GENERATOR_BOUND, Result

SHARE_OF_CPU = 0.85
TOLERANCE = 0.07
MOST_STEPS = 8
STEP = 1.5
"""Least growth while nothing fails: a call costs less at a higher rate, so the guess from CPU time is too low."""
CONFIRMATIONS = 2


@dataclass(slots=True)
class Search:
    """All runs of a search, and the rate found."""

    rate: float = 0.0
    runs: list[Result] = field(default_factory=list)
    confirmed: list[Result] = field(default_factory=list)

    @property
    def generator_bound(self) -> bool:
        """Whether the load generator was the limit: the rate is then a lower bound."""
        return any(result.load_share > GENERATOR_BOUND for result in self.runs)


def highest_rate(run: Callable[[float], Result], *, first: float, ceiling: float) -> Search:
    """Guess from the CPU time of a small run, bisect around that, then confirm."""
    search = Search()

    def tried(rate: float) -> Result:
        search.runs.append(run(rate))
        return search.runs[-1]

    result = tried(first)
    if not result.passed:
        return search
    low, high = result.rate, 0.0
    rate = _next_rate(result, ceiling)
    for _ in range(MOST_STEPS):
        if low >= ceiling or (high and (high - low) / high <= TOLERANCE):
            break
        result = tried(rate)
        if result.passed:
            low = rate
            rate = (low + high) / 2 if high else _next_rate(result, ceiling)
        else:
            high = rate
            rate = (low + high) / 2 if low > high / 2 else max(low, high * 0.6)
    _confirm(search, tried, low)
    return search


def _confirm(search: Search, tried: Callable[[float], Result], rate: float) -> None:
    # A rate counts only when it passes several times in a row.
    while rate > 1:
        search.confirmed = []
        while len(search.confirmed) < CONFIRMATIONS:
            search.confirmed.append(tried(rate))
            if not search.confirmed[-1].passed:
                break
        else:
            search.rate = rate
            return
        rate *= 1 - TOLERANCE


def _next_rate(result: Result, ceiling: float) -> float:
    limit = 1000 / max(result.cpu_ms_all, 1000 / ceiling)
    return min(ceiling, max(result.rate * STEP, limit * SHARE_OF_CPU))
