"""GET /metrics: what Prometheus reads."""

from collections.abc import Iterator, Mapping
from typing import Any, final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trimask.serve.scheduler import Scheduler

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@final
class Metrics:
    """Counts of this server; a registry of its own, since a process may have several."""

    def __init__(self, schedulers: Mapping[str, Scheduler]):
        self.registry = CollectorRegistry()
        self.registry.register(_Schedulers(schedulers))
        labels = ("path", "status")
        self._requests = Counter(
            "trimask_requests", "Requests that were answered.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "trimask_request_seconds",
            "Seconds from the first byte of a request to the last of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=self.registry,
        )

    def note_request(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count a request. Its path is that of the route: those that clients make up would fill memory."""
        path = getattr(scope.get("route"), "path", "other")
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def render(self) -> bytes:
        return generate_latest(self.registry)


@final
class _Schedulers(Collector):
    """What the schedulers hold when they are asked."""

    def __init__(self, schedulers: Mapping[str, Scheduler]):
        self._schedulers = schedulers

    def collect(self) -> Iterator[Metric]:
        held = GaugeMetricFamily("trimask_held_requests", "Requests that are held.", labels=["model"])
        rows = GaugeMetricFamily("trimask_rows", "Results that are being filled.", labels=["model"])
        steps = CounterMetricFamily("trimask_steps", "Steps that were taken.", labels=["model"])
        for name, scheduler in self._schedulers.items():
            held.add_metric([name], scheduler.num_jobs)
            rows.add_metric([name], scheduler.num_rows)
            steps.add_metric([name], scheduler.num_steps)
        yield from (held, rows, steps)
