"""What gates 1, 2, 3 and 5 cost beside one prediction pass over the same rows.

    python benchmarks/gates_overhead.py [--rows 1000000] [--features 20] [--trees 200] [--repeats 3]

A HistGradientBoosting classifier predicts the rows once; then the four gates judge predictions that exist already: AUC
against a baseline, agreement with stored predictions and shared rows, parity of two attributes, calibration with a
declared slice. CPU seconds of this process with one native thread, the smallest of the repeats; memory is the most
that a gate holds at a time beyond the data. Exit code 1 when the gates cost more than half of the pass
or the peak is above 1.5 times the loaded data.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from pytest_mlgates import checks


def cpu(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the least CPU seconds of some repeats, and the last answer."""
    times, answer = [], None
    for _ in range(repeats):
        start = time.process_time()
        answer = work()
        times.append(time.process_time() - start)
    return min(times), answer


def peak_mb(work: Callable[[], Any]) -> float:
    """Return the most memory that one run holds at a time beyond what was there, MB (traced; numpy reports to tracemalloc)."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with threadpool_limits(limits=1):
        return measure(args)


def measure(args: argparse.Namespace) -> int:
    rng = np.random.default_rng(39)
    frame = pd.DataFrame(rng.normal(size=(args.rows, args.features)), columns=[f"x{i}" for i in range(args.features)])
    y = rng.random(args.rows) < 1 / (
        1 + np.exp(-frame["x0"].to_numpy() - 0.5 * frame["x1"].to_numpy() * frame["x2"].to_numpy())
    )
    model = HistGradientBoostingClassifier(max_iter=args.trees, early_stopping=False).fit(frame.head(50_000), y[:50_000])
    pass_s, table = cpu(lambda: model.predict_proba(frame), 1)
    p = np.ascontiguousarray(table[:, 1])
    baseline = 1 / (1 + np.exp(-frame["x0"].to_numpy()))
    people = pd.DataFrame({"sex": rng.choice(["f", "m"], args.rows), "age": rng.integers(0, 5, args.rows)}).astype("category")
    train_hashes = rng.integers(-(2**62), 2**62, args.rows)
    held_hashes, hash_s = None, 0.0
    hash_s, held_hashes = cpu(lambda: checks.row_hashes(frame), 1)
    gates: dict[str, Callable[[], Any]] = {
        "1 performance (AUC, paired)": lambda: checks.performance(y, p, baseline, metric="auc"),
        "2 holdout (stored predictions)": lambda: checks.holdout(p, p, exact=True),
        "2 holdout (shared rows)": lambda: checks.holdout(
            p, p, exact=True, train_hashes=train_hashes, holdout_hashes=held_hashes
        ),
        "3 fairness (two attributes)": lambda: checks.fairness(y, p, people),
        "5 calibration (ten bins, a slice)": lambda: checks.calibration(y, p, slices=people[["sex"]]),
    }
    data = [y, p, baseline, train_hashes, held_hashes]
    data_mb = (sum(a.nbytes for a in data) + sum(int(f.memory_usage().sum()) for f in (frame, people))) / 2**20
    del table
    measured, peak = {}, 0.0
    for name, gate in gates.items():
        measured[name], result = cpu(gate, args.repeats)
        here = peak_mb(gate)
        peak = max(peak, here)
        print(f"{name:36s} {measured[name]:7.3f} CPU s  peak {here:4.0f} MB  {result.verdict}  {result.summary}")
    total = sum(s for n, s in measured.items() if n != "2 holdout (stored predictions)")
    print(f"{'row hashes of the holdout':36s} {hash_s:7.3f} CPU s  (once per data set; in the sum)")
    total += hash_s
    ratio, memory = total / pass_s, (data_mb + peak) / data_mb
    print(f"one pass of {args.trees} trees over {args.rows:,} × {args.features}: {pass_s:.2f} CPU s")
    print(f"gates 1, 2, 3, 5: {total:.2f} CPU s = {ratio:.2f} × the pass (at most 0.50)")
    print(f"loaded data {data_mb:.0f} MB, gates add {peak:.0f} MB at their peak: {memory:.2f} × the data (at most 1.50)")
    return 1 if ratio > 0.5 or memory > 1.5 else 0


if __name__ == "__main__":
    sys.exit(main())
