"""The directory's metrics, read when scraped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbx_signaling.clients.follow import FollowStream
    from pbx_signaling.directory.directory import Directory
    from pbx_signaling.directory.informed import InformedRegistrar


class DirectoryCollector(Collector):
    """How many users are known, and how questions about them were answered."""

    def __init__(self, directory: Directory, informed: InformedRegistrar, stream: FollowStream) -> None:
        self._directory = directory
        self._informed = informed
        self._stream = stream

    def collect(self) -> Iterator[Metric]:
        """Figures of now."""
        directory, informed = self._directory, self._informed
        yield GaugeMetricFamily(
            "pbx_signaling_directory_following", "1 where the registrar tells of changes", int(directory.is_up)
        )
        entries = GaugeMetricFamily("pbx_signaling_directory_entries", "Names known", labels=["kind"])
        entries.add_metric(["user"], directory.users)
        entries.add_metric(["unknown"], directory.unknown)
        yield entries
        yield GaugeMetricFamily(
            "pbx_signaling_directory_doubtful", "Names of which may be old what is known", directory.doubtful
        )
        yield GaugeMetricFamily(
            "pbx_signaling_directory_nonces", "Nonces whose used counts are remembered", len(informed.counts)
        )
        yield CounterMetricFamily(
            "pbx_signaling_directory_breaks", "Streams of the registrar that ended", self._stream.breaks
        )
        answers = CounterMetricFamily(
            "pbx_signaling_directory_answers",
            "Questions about users by who answered them",
            labels=["question", "result"],
        )
        for (question, result), count in informed.results.items():
            answers.add_metric([question.value, result.value], count)
        yield answers
