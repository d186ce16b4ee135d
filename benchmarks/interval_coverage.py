"""How often the 95 % interval of each estimator holds the truth, by simulation.

    python benchmarks/interval_coverage.py [--repetitions 2000] [--sizes 300 3000] [--seed 39] [--only NAME]

The truth of each population is its value on four million rows, or exact where there is a formula. Exit code 1 when a
coverage is surely outside 93-97 % (two-sided Clopper-Pearson at 99 %). Discrete intervals (shares, order statistics)
may cover more: they are exact, not approximate.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats as sps

from pytest_mlgates import stats
from pytest_mlgates.results import Estimate
from pytest_mlgates.stats.metrics import Problem, r2_terms

Rng = np.random.Generator
TRUTH_ROWS = 4_000_000


@dataclasses.dataclass(frozen=True)
class Study:
    """A population, an estimator with its interval, and the true value (estimated once on many rows where it is not given)."""

    name: str
    draw: Callable[[Rng, int], tuple[Any, ...]]
    estimate: Callable[..., Estimate]
    truth: float | None = None
    exact: bool = False
    slow: bool = False


def regression(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = rng.normal(size=n)
    common = rng.normal(size=n)
    pair = [q * y + np.sqrt(q * (1 - q)) * (0.8 * common + 0.6 * rng.normal(size=n)) for q in (0.72, 0.7)]
    return 400 + 80 * y, 400 + 80 * pair[0], 400 + 80 * pair[1]


def binary(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    logit = rng.normal(-0.5, 1.3, n)
    y = rng.random(n) < 1 / (1 + np.exp(-logit))
    pair = [1 / (1 + np.exp(-(logit + rng.normal(0, s, n)))) for s in (0.4, 0.6)]
    return y, pair[0], pair[1]


def shifted(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities off by a tenth to a fifth in every bin that has rows."""
    p = rng.uniform(0.2, 0.8, n)
    return rng.random(n) < np.clip(p + np.where(p < 0.5, -0.12, 0.15), 0, 1), p


def amounts(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    p = rng.normal(400, 80, n)
    return p * 1.15 + rng.normal(0, 40, n), p


def two_shares(rng: Rng, n: int) -> tuple[int, int, int, int]:
    half = n // 2
    return int(rng.binomial(half, 0.2)), half, int(rng.binomial(half, 0.4)), half


def metric(name: str, task: str) -> Callable[..., Estimate]:
    return lambda y, a, _: stats.terms(name, Problem.of(task, y), a).measured(name).interval()


def margin(name: str, task: str) -> Callable[..., Estimate]:
    def estimate(y: Any, a: Any, b: Any) -> Estimate:
        found = stats.compare(name, Problem.of(task, y), a, b, min_ratio=0.95).margin
        assert found is not None
        return found.interval()

    return estimate


def group_errors(y: Any, a: Any, _: Any) -> Estimate:
    """Log RMSE ratio of two halves with a scale of two between them, by the same variance as `stats.error_ratio`."""
    error = (y - a) ** 2 * np.where(np.arange(y.size) % 2, 1.0, 4.0)
    names, codes = stats.group_codes(np.arange(y.size) % 2)
    found = stats.error_ratio(names, codes, error, 0.975)
    return Estimate(found.value, found.low, found.high, y.size, "group RMSE ratio")


def parity(a: int, n: int, b: int, m: int) -> Estimate:
    table = stats.groups.GroupTable(("a", "b"), *(np.array(x) for x in ([n, m], [a, b], [n, m], [a, b])))
    found = stats.parity_ratio(table, 0.975)
    return Estimate(found.value, found.low, found.high, n + m, "parity")


def scorer(name: str) -> Callable[..., Estimate]:
    return lambda y, a, _: stats.compare(name, Problem.of("regression", y), a).candidate.interval()


def studies() -> list[Study]:
    out = [Study(m, regression, metric(m, "regression")) for m in ("r2", "rmse", "mae", "mape")]
    out += [Study(m, binary, metric(m, "binary")) for m in ("auc", "accuracy", "f1", "log_loss", "brier")]
    out += [Study(f"{m} margin", regression, margin(m, "regression")) for m in ("r2", "rmse", "mae")]
    out += [Study(f"{m} margin", binary, margin(m, "binary")) for m in ("auc", "f1", "log_loss", "brier")]
    out += [
        Study("ECE, probabilities", shifted, lambda y, p: stats.calibration_error(stats.probability_bins(y, p)).interval()),
        Study("ECE, regressor", amounts, lambda y, p: stats.calibration_error(stats.quantile_bins(y, p)).interval()),
        Study("observed/expected", shifted, lambda y, p: stats.observed_expected(y.astype(float), p)),
        Study("Brier skill", shifted, lambda y, p: r2_terms(y.astype(float), p).measured("skill").interval()),
        Study("parity ratio", two_shares, parity, 0.5),
        Study("ratio of shares", two_shares, stats.share_ratio, 0.5),
        Study("difference of shares", two_shares, stats.share_difference, -0.2),
        Study("share, Wilson", lambda g, n: (int(g.binomial(n, 0.2)), n), stats.wilson, 0.2, exact=True),
        Study("group RMSE ratio", regression, group_errors, 0.5),
        Study(
            "p90",
            lambda g, n: (g.exponential(1, n),),
            functools.partial(stats.quantile_interval, q=0.9),
            np.log(10),
            exact=True,
        ),
        Study("explained_variance, bootstrap", regression, scorer("explained_variance"), slow=True),
    ]
    return out


def coverage(study: Study, n: int, repetitions: int, seed: int) -> tuple[int, int]:
    """Return in how many of the repetitions the interval held the truth, and in how many there was an interval."""
    rng = np.random.default_rng([seed, n])
    truth = study.truth
    if truth is None:
        # the bootstrap would resample the many rows; its point value needs no more than a tenth
        rows = TRUTH_ROWS // 10 if study.slow else TRUTH_ROWS
        truth = study.estimate(*study.draw(np.random.default_rng(seed), rows)).value
    found = [study.estimate(*study.draw(rng, n)) for _ in range(repetitions)]
    return sum(e.low <= truth <= e.high for e in found), len(found)


def outside(study: Study, held: int, of: int) -> bool:
    """Whether the coverage is surely outside 93-97 % (an exact, discrete interval may cover more)."""
    low, high = sps.binomtest(held, of).proportion_ci(0.99, method="exact")
    return bool(high < 0.93 or (low > 0.97 and not study.exact))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 3_000])
    parser.add_argument("--seed", type=int, default=39)
    parser.add_argument("--only")
    args = parser.parse_args()
    started, wrong = time.process_time(), 0
    print("| Estimator | n | repetitions | coverage of the 95 % interval |\n|---|--:|--:|--:|")
    for study in studies():
        if args.only and study.name != args.only:
            continue
        for n in args.sizes:
            repetitions = min(args.repetitions, 1_000) if study.slow else args.repetitions
            if study.slow and args.repetitions < 1_000:
                continue
            held, of = coverage(study, n, repetitions, args.seed)
            off = outside(study, held, of)
            wrong += off
            print(f"| {study.name} | {n:,} | {of:,} | {100 * held / of:.1f} %{' **outside**' if off else ''} |", flush=True)
    print(f"\n{wrong} outside 93-97 %; {time.process_time() - started:.0f} CPU s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
