"""Prometheus metrics: a registry that is handed in, never the global one.

Names are `pbx_<service>_<what>_<unit>`; label values come from enums only, so that no input grows a series.
A child is looked up once and kept (`Children`): `labels()` costs more than the increment.
"""

from __future__ import annotations

import enum
import gc
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from pbx_runtime.build import VERSION

Registry = CollectorRegistry
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Half a millisecond to five seconds: what a request between processes may take."""

M = TypeVar("M", bound=MetricWrapperBase)
__all__ = ["LATENCY_BUCKETS_S", "Children", "Counter", "Gauge", "Registry", "new_registry"]


class _GarbageCollector(Collector):
    """Collections and objects per generation, and the time that they stopped the process."""

    def __init__(self) -> None:
        self._started = 0.0
        self.seconds = 0.0
        gc.callbacks.append(self._observe)

    def _observe(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._started

    def collect(self) -> Iterator[CounterMetricFamily]:
        runs = CounterMetricFamily("pbx_gc_collections", "Garbage collections", labels=["generation"])
        for generation, figures in enumerate(gc.get_stats()):
            runs.add_metric([str(generation)], figures["collections"])
        yield runs
        yield CounterMetricFamily("pbx_gc_seconds", "Time that collections stopped the process", self.seconds)


def new_registry(service: str) -> Registry:
    """A registry with the process's own figures (CPU, memory, descriptors, garbage collection, version)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_GarbageCollector())
    build = Info("pbx_build", "What runs here", registry=registry)
    build.info({"service": service, "version": VERSION})
    return registry


class Children(Generic[M]):
    """The children of a metric with one label, looked up once: `children[Outcome.OK].inc()`."""

    def __init__(self, metric: M, values: Iterable[enum.Enum | str]) -> None:
        self._children = {value: metric.labels(_text(value)) for value in values}

    def __getitem__(self, value: enum.Enum | str) -> M:
        return self._children[value]


def _text(value: enum.Enum | str) -> str:
    return str(value.value if isinstance(value, enum.Enum) else value)
