"""Reads the Prometheus text format: the sum of a metric over its labels is nearly all that a test asks."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)(?: \d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the exposition."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """All samples of one scrape."""

    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, text: str) -> Metrics:
        """Read an exposition; lines that are no samples are passed over."""
        found = (_SAMPLE.match(line) for line in text.splitlines() if line and not line.startswith("#"))
        return cls(tuple(Sample(m[1], dict(_LABEL.findall(m[2] or "")), float(m[3])) for m in found if m is not None))

    def has(self, name: str) -> bool:
        """Whether the metric was exposed at all."""
        return any(sample.name == name for sample in self.samples)

    def sum(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name whose labels include the ones given.

        Raises KeyError when there is no such metric.
        """
        if not self.has(name):
            raise KeyError(f"no metric {name}; there are {sorted({s.name for s in self.samples})}")
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())
