"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of a request's time, in seconds."""


class Metrics:
    """Requests by route and status, and their times; gauges are asked when someone reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def gauge(self, name: str, help: str, value: Callable[[], float]) -> None:
        """A number that is asked for each time the metrics are read."""
        self._gauges[name] = (help, value)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]
            self._buckets[route, next((b for b in BOUNDS if seconds <= b), float("inf"))] += 1

    def text(self) -> str:
        """The Prometheus exposition format, version 0.0.4."""
        with self._lock:
            requests, buckets, seconds = dict(self._requests), dict(self._buckets), dict(self._seconds)
        lines = [
            "# HELP crosshape_requests_total Requests answered.",
            "# TYPE crosshape_requests_total counter",
        ]
        for (method, route, status), number in sorted(requests.items()):
            lines.append(
                f'crosshape_requests_total{{method="{_quoted(method)}",route="{_quoted(route)}",'
                f'status="{status}"}} {number}'
            )
        name = "crosshape_request_seconds"
        lines += [f"# HELP {name} Time to answer.", f"# TYPE {name} histogram"]
        for route in sorted(seconds):
            total = 0
            for bound in (*BOUNDS, float("inf")):
                total += buckets.get((route, bound), 0)
                shown = "+Inf" if bound == float("inf") else f"{bound:g}"
                lines.append(f'{name}_bucket{{route="{_quoted(route)}",le="{shown}"}} {total}')
            lines.append(f'{name}_sum{{route="{_quoted(route)}"}} {seconds[route]:.6f}')
            lines.append(f'{name}_count{{route="{_quoted(route)}"}} {total}')
        for gauge, (help, value) in sorted(self._gauges.items()):
            lines += [f"# HELP {gauge} {help}", f"# TYPE {gauge} gauge", f"{gauge} {value():.17g}"]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
