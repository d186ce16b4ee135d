"""False alarms under no drift and power under a small one, ours beside the usual rules.

``python benchmarks/drift_error_rates.py [--runs 1000]``: for each window size, number of features and kind of values, the
share of runs in which at least one feature alarms. Ours also with heavy ties; power for one feature of 50 that moved.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from scipy import stats

from pytest_mlgates.drift import compare

SIZES = ((270, 35), (2_700, 350), (18_000, 1_400), (1_000_000, 200_000))


def table(rng: np.random.Generator, rows: int, features: int, *, ties: bool, shift: float = 0.0) -> pa.Table:
    """Independent standard normal columns, rounded to one decimal (about 60 values) or to counts where ties are wanted."""
    values = rng.normal(size=(features, rows))
    values[0] += shift
    if ties:
        values = np.where(np.arange(features)[:, None] % 2, np.round(values, 1), np.maximum(np.round(values + 0.5), 0))
    return pa.table({f"f{i}": values[i] for i in range(features)})


def ours(a: pa.Table, b: pa.Table) -> bool:
    """Whether any feature alarms under our rule."""
    return bool(compare(a, b, mode="exact" if a.num_rows <= 20_000 else "profile").drifted)


def clipped_psi(a: pa.Table, b: pa.Table) -> bool:
    """Whether any PSI over ten reference quantile bins, empty ones clipped to 0.0001, exceeds 0.2."""
    for name in a.column_names:
        x, y = (np.asarray(t.column(name)) for t in (a, b))
        edges = np.unique(np.quantile(x, np.linspace(0, 1, 11)))
        edges[0], edges[-1] = -np.inf, np.inf
        p, q = (np.clip(np.histogram(v, edges)[0] / v.size, 1e-4, None) for v in (x, y))
        if ((q - p) * np.log(q / p)).sum() > 0.2:
            return True
    return False


def uncorrected_ks(a: pa.Table, b: pa.Table) -> bool:
    """Whether any Kolmogorov-Smirnov p-value is below 0.01."""
    columns = ((np.asarray(a.column(n)), np.asarray(b.column(n))) for n in a.column_names)
    return any(stats.ks_2samp(x, y, method="asymp").pvalue < 0.01 for x, y in columns)


def rate(
    rule: Callable[[pa.Table, pa.Table], bool],
    n: int,
    m: int,
    features: int,
    runs: int,
    seed: int,
    *,
    ties: bool,
    shift: float = 0.0,
) -> float:
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(runs):
        a = table(rng, n, features, ties=ties)
        b = table(rng, m, features, ties=ties, shift=shift)
        hits += rule(a, b)
    return hits / runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs of the smallest windows; larger ones get fewer")
    parser.add_argument("--skip-largest", action="store_true")
    options = parser.parse_args()
    print("no drift: share of runs with an alarm (standard error); ours, then the usual rules")
    for n, m in SIZES[:-1] if options.skip_largest else SIZES:
        runs = max(10, options.runs if n < 10_000 else options.runs // 4 if n < 100_000 else options.runs // 50)
        for features in (10, 50):
            parts = []
            for ties in (False, True):
                got = rate(ours, n, m, features, runs, 1, ties=ties)
                parts.append(f"{'ties' if ties else 'smooth'} {got:.2%} (±{np.sqrt(max(got, 1 / runs) / runs):.2%})")
            if n <= 2_700:
                usual = min(runs, 200)
                parts.append(f"PSI > 0.2, clipped {rate(clipped_psi, n, m, features, usual, 2, ties=False):.0%}")
                parts.append(f"KS p < 0.01 {rate(uncorrected_ks, n, m, features, usual, 3, ties=False):.0%}")
            print(f"  {n:>9,}/{m:<8,} {features} features, {runs} runs: {'; '.join(parts)}", flush=True)
    print("power: share of runs with an alarm where one feature of 50 moved")
    for n, m, shift in ((2_700, 350, 0.5), (18_000, 1_400, 0.2)):
        runs = max(10, options.runs // 4)
        print(
            f"  {n:>9,}/{m:<8,} {shift} σ: {rate(ours, n, m, 50, runs, 4, ties=False, shift=shift):.1%} of {runs}", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
