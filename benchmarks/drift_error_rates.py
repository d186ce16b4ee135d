"""False alarms under no drift and power under a small one, ours beside the usual rules.

``python benchmarks/drift_error_rates.py [--runs 1000] [--size 270 …] [--values smooth …] [--markdown FILE]``: for each window
size, number of features and kind of values, the share of runs in which at least one feature alarms, with its 95 %
Clopper-Pearson upper bound; then the power for one feature of 50 that moved. Windows of 35 rows are below the 100 that a
verdict needs: there the answer is INSUFFICIENT, so it is also judged with that limit lowered to 30.

Values: ``smooth`` (independent normal columns), ``ties`` (the same, rounded to about 60 values or to counts), and ``mixed``
(columns that depend on each other: lognormal, rounded, counts with a long tail, flags, gaps, categories few and many, dates).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy import stats

from pytest_mlgates.drift import Profile, compare
from pytest_mlgates.drift.profile import exact_profile
from pytest_mlgates.drift.sources import as_source
from pytest_mlgates.engines.local import LocalEngine

SIZES = ((270, 35), (2_700, 350), (18_000, 1_400), (1_000_000, 200_000))
POWER = ((2_700, 350, 0.5, 0.99), (18_000, 1_400, 0.2, 0.95))
STORED = 10_000  # rows of a reference from which on several current windows are judged against each
LARGE = 250_000  # ... and from which on it is counted at edges, as `compare` does by itself
WINDOWS_PER_REFERENCE = 5

Rule = Callable[[pa.Table | Profile, pa.Table], bool]


def table(rng: np.random.Generator, rows: int, features: int, *, values: str, shift: float = 0.0) -> pa.Table:
    """Rows of one window; ``shift`` moves the first column."""
    draws = rng.normal(size=(features, rows))
    draws[0] += shift
    if values == "mixed":
        common = rng.normal(size=rows)
        return pa.table({f"f{i}": MIXED[i % len(MIXED)](0.7 * common + 0.7 * draws[i], rng) for i in range(features)})
    if values == "ties":
        draws = np.where(np.arange(features)[:, None] % 2, np.round(draws, 1), np.maximum(np.round(draws + 0.5), 0))
    return pa.table({f"f{i}": draws[i] for i in range(features)})


def _levels(draws: np.ndarray, count: int) -> pa.Array:
    """Categories with shares as in Zipf's law, by the rank of each draw."""
    shares = np.cumsum(1 / np.arange(1, count + 1))
    codes = np.searchsorted(shares / shares[-1], stats.norm.cdf(draws)).clip(0, count - 1)
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32)), [f"level {k}" for k in range(count)]
    ).dictionary_decode()


MIXED: tuple[Callable[[np.ndarray, np.random.Generator], object], ...] = (
    lambda x, _: np.exp(1.5 * x),
    lambda x, _: np.round(x, 1),
    lambda x, _: np.floor(np.exp(x)),
    lambda x, _: x > 2.3,
    lambda x, rng: np.where(rng.random(x.size) < 0.02, np.nan, x),
    lambda x, _: _levels(x, 5),
    lambda x, _: _levels(x, 300),
    lambda x, _: _levels(x, 5000),
    lambda x, _: pa.array((100 * np.abs(x)).astype(np.int32), pa.int32()).cast(pa.date32()),
    lambda x, _: np.where(x < 0.5, 0.0, x),
)


def ours(a: pa.Table | Profile, b: pa.Table) -> bool:
    """Whether any feature alarms under our rule."""
    return bool(compare(a, b).drifted)


def moved_one(a: pa.Table | Profile, b: pa.Table) -> bool:
    """Whether the feature that moved alarms."""
    return compare(a, b)["f0"].drifted


def ours_from_30_rows(a: pa.Table | Profile, b: pa.Table) -> bool:
    """Whether any feature alarms where 30 current rows are enough for a verdict."""
    return bool(compare(a, b, min_rows=30).drifted)


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


def hits_of(rule: Rule, cell: Cell, runs: int, seed: int, *, shift: float = 0.0) -> int:
    """Runs out of ``runs`` in which the rule alarms."""
    rng = np.random.default_rng(seed)
    n, m, features, values = cell
    hits = 0
    stored: pa.Table | Profile | None = None
    for run in range(runs):
        if stored is None or n < STORED or run % WINDOWS_PER_REFERENCE == 0:
            stored = table(rng, n, features, values=values)
            if n >= LARGE:
                stored = LocalEngine().profile(stored)
            elif n >= STORED:
                stored = exact_profile(as_source(stored, "reference"), stored.column_names)
        hits += rule(stored, table(rng, m, features, values=values, shift=shift))
    return hits


class Cell(NamedTuple):
    """One population without drift."""

    reference: int
    current: int
    features: int
    values: str

    def __str__(self) -> str:
        return f"{self.reference:,}/{self.current:,} | {self.features} | {self.values}"


def upper_bound(hits: int, runs: int) -> float:
    """Clopper and Pearson's one-sided 95 % upper bound of a rate."""
    return 1.0 if hits == runs else float(stats.beta.ppf(0.95, hits + 1, runs - hits))


def rules_of(cell: Cell) -> dict[str, Rule]:
    """Return the rules that a cell is judged by: the usual ones where their cost allows, on smooth values."""
    rules: dict[str, Rule] = {"ours": ours}
    if cell.current < 100 and cell.values == "smooth":
        rules["ours, from 30 rows"] = ours_from_30_rows
    if cell.reference <= 2_700 and cell.values == "smooth":
        rules |= {"PSI > 0.2, clipped": clipped_psi, "KS p < 0.01, uncorrected": uncorrected_ks}
    return rules


def false_alarm_rows(sizes: Sequence[int], values: Sequence[str], runs: int) -> Iterator[str]:
    """Judge every cell; a Markdown row each."""
    yield "| rows | features | values | rule | runs | alarms | rate | 95 % bound |"
    yield "|---|--:|---|---|--:|--:|--:|--:|"
    for n, m in SIZES:
        if n not in sizes:
            continue
        most = max(10, runs if n < LARGE else runs // 2)
        for cell in (Cell(n, m, features, kind) for features in (10, 50) for kind in values):
            for name, rule in rules_of(cell).items():
                count = most if name == "ours" else min(most, 200)
                hits = hits_of(rule, cell, count, 1)
                bound = upper_bound(hits, count)
                yield f"| {cell} | {name} | {count:,} | {hits} | {hits / count:.2%} | {bound:.2%} |"


def power_rows(sizes: Sequence[int], runs: int) -> Iterator[str]:
    """Judge windows in which one feature of 50 moved; a Markdown row each."""
    yield "| rows | features | values | shift of one | runs | alarms | power | wanted |"
    yield "|---|--:|---|--:|--:|--:|--:|--:|"
    for n, m, shift, wanted in POWER:
        if n in sizes:
            cell, count = Cell(n, m, 50, "smooth"), max(10, runs // 2)
            hits = hits_of(moved_one, cell, count, 4, shift=shift)
            yield f"| {cell} | {shift} σ | {count:,} | {hits} | {hits / count:.1%} | {wanted:.0%} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="runs of the smallest windows; larger ones get fewer")
    parser.add_argument("--size", type=int, nargs="*", default=[n for n, _ in SIZES], help="reference rows of the cells to run")
    parser.add_argument("--values", nargs="*", default=["smooth", "ties"], choices=["smooth", "ties", "mixed"])
    parser.add_argument("--no-power", action="store_true")
    parser.add_argument("--markdown", type=Path, help="write the tables here as well")
    options = parser.parse_args()
    lines: list[str] = []
    tables = [false_alarm_rows(options.size, options.values, options.runs)]
    if not options.no_power:
        tables.append(power_rows(options.size, options.runs))
    for rows in tables:
        for line in rows:
            print(line, flush=True)
            lines.append(line)
        lines.append("")
    if options.markdown:
        options.markdown.write_text("\n".join(lines), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
