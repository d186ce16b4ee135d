"""Counters that all workers share, and their Prometheus text.

One anonymous shared memory map is made before the fork; each worker adds to a row of its own, so nothing is locked, and the
counters survive a worker that is killed. ``/metrics`` of any worker answers for all.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from typing import Any

import numpy as np

MAX_WORKERS = 64
BUCKETS_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
STATUSES = (200, 400, 401, 404, 405, 413, 422, 429, 431, 500, 503)
_COUNTERS = ("rows", "log_accepted", "log_written", "log_dropped", "shadow_scored", "shadow_failed", "latency_sum_ms")
_WIDTH = len(STATUSES) + len(BUCKETS_MS) + 1 + len(_COUNTERS)


class Metrics:
    """A worker's own row of the shared counters, and the sum over all rows."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, MAX_WORKERS * _WIDTH * 8)
        self._all: Any = np.frombuffer(self._map, dtype=np.float64).reshape(MAX_WORKERS, _WIDTH)
        self._row = self._all[0]
        self._status = {status: i for i, status in enumerate(STATUSES)}
        self._bucket0 = len(STATUSES)
        self._counter = {name: len(STATUSES) + len(BUCKETS_MS) + 1 + i for i, name in enumerate(_COUNTERS)}

    def take_row(self, row: int) -> None:
        """Count in this row from now on, as its only writer; a replacement goes on where its predecessor stopped."""
        self._row = self._all[row]

    def answered(self, status: int, latency_ms: float) -> None:
        """Count one scoring request."""
        row = self._row
        row[self._status.get(status, self._status[500])] += 1
        row[self._bucket0 + bisect_left(BUCKETS_MS, latency_ms)] += 1
        row[self._counter["latency_sum_ms"]] += latency_ms

    def add(self, name: str, amount: float = 1) -> None:
        """Add to a counter by name."""
        self._row[self._counter[name]] += amount

    def total(self, name: str) -> int:
        """Sum of a counter over all workers."""
        return int(self._all[:, self._counter[name]].sum())

    def requests(self) -> dict[int, int]:
        """Scoring requests by status, over all workers."""
        return {status: int(self._all[:, i].sum()) for status, i in self._status.items()}

    def text(self, model: str) -> str:
        """Prometheus text format, version 0.0.4; every sample carries the model's name."""
        quoted = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        labels = f'model="{quoted}"'
        lines = ["# TYPE mlgates_endpoint_requests_total counter"]
        lines += [f'mlgates_endpoint_requests_total{{{labels},status="{s}"}} {n}' for s, n in self.requests().items() if n]
        lines.append("# TYPE mlgates_endpoint_latency_ms histogram")
        counts = self._all[:, self._bucket0 : self._bucket0 + len(BUCKETS_MS) + 1].sum(axis=0).cumsum()
        for edge, count in zip((*BUCKETS_MS, "+Inf"), counts, strict=True):
            lines.append(f'mlgates_endpoint_latency_ms_bucket{{{labels},le="{edge}"}} {int(count)}')
        sum_ms = float(self._all[:, self._counter["latency_sum_ms"]].sum())
        lines += [
            f"mlgates_endpoint_latency_ms_sum{{{labels}}} {sum_ms:.3f}",
            f"mlgates_endpoint_latency_ms_count{{{labels}}} {int(counts[-1])}",
        ]
        for name in _COUNTERS[:-1]:
            lines += [
                f"# TYPE mlgates_endpoint_{name}_total counter",
                f"mlgates_endpoint_{name}_total{{{labels}}} {self.total(name)}",
            ]
        return "\n".join(lines) + "\n"
