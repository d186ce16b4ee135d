"""How often the 95 % interval of each estimator holds the truth, by simulation.

    python benchmarks/interval_coverage.py [--repetitions 2000] [--sizes 300 3000] [--seed 39] [--only NAME]

The truth of each population is its value on two million rows, or exact where there is a formula. Exit code 1 when a
coverage is surely outside 93-97 % (two-sided Clopper-Pearson at 99 %). Discrete intervals (shares, order statistics)
may cover more: they are exact, not approximate.
"""

from __future__ import annotations

import argparse
import contextlib
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
from pytest_mlgates.stats.arrays import NotEnough
from pytest_mlgates.stats.metrics import Problem, r2_terms

Rng = np.random.Generator
TRUTH_ROWS = 2_000_000


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


def skewed(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Amounts with a long right tail (gamma) and errors that grow with them."""
    mean = rng.gamma(2.0, 50.0, n) + 20
    y = mean * rng.gamma(8.0, 1 / 8, n)
    return y, mean * rng.gamma(50.0, 1 / 50, n), mean * rng.gamma(20.0, 1 / 20, n)


def ranked(area: float, positives: float) -> Callable[[Rng, int], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Binormal scores of a stated AUC."""

    def draw(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y = rng.random(n) < positives
        common, lift = rng.normal(size=n), sps.norm.ppf(area) * np.sqrt(2)
        return y, lift * y + common, lift * y + 0.8 * common + 0.6 * rng.normal(size=n)

    return draw


def three_classes(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes drawn from a softmax; one model sharpens it, the other is noisy."""
    logits = rng.normal((0.4, 0.0, -0.4), 1.2, (n, 3))

    def soft(z: np.ndarray) -> np.ndarray:
        weights = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    y = (soft(logits).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return y, soft(1.8 * logits), soft(logits + rng.normal(0, 0.5, (n, 3)))


def decisions(rates: tuple[float, ...]) -> Callable[[Rng, int], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Outcomes, decisions that favour some groups, and the groups."""

    def draw(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        group = np.arange(n) % len(rates)
        y = rng.random(n) < 0.5
        return y, rng.random(n) < np.clip(np.array(rates)[group] * np.where(y, 1.4, 0.6), 0, 1), group

    return draw


def spreads(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A regressor whose errors are twice as large in one of two groups."""
    y, p, _ = regression(rng, n)
    group = np.arange(n) % 2
    return y, y + (p - y) * np.where(group, 1.0, 2.0), group


def metric(name: str, **told: Any) -> Callable[..., Estimate]:
    return lambda y, a, _: stats.metric(y, a, name, **told)


def paired(function: Callable[..., Estimate], name: str, **told: Any) -> Callable[..., Estimate]:
    return lambda y, a, b: function(y, a, b, name, **told)


def margin(name: str, task: str) -> Callable[..., Estimate]:
    """What gate 1 judges."""

    def estimate(y: Any, a: Any, b: Any) -> Estimate:
        found = stats.compare(name, Problem.of(task, y), a, b, min_ratio=0.95).margin
        assert found is not None
        return found.interval()

    return estimate


def studies() -> list[Study]:
    many = {"task": "multiclass"}
    names = {"regression": ("r2", "rmse", "mae", "mape"), "binary": ("auc", "accuracy", "f1", "log_loss", "brier")}
    out = [Study(m, regression, metric(m)) for m in names["regression"]]
    out += [Study(f"{m}, skewed", skewed, metric(m)) for m in names["regression"]]
    out += [Study(m, binary, metric(m)) for m in names["binary"]]
    out += [Study(f"auc {a}, {p:.0%} positive", ranked(a, p), metric("auc")) for a, p in ((0.7, 0.1), (0.95, 0.1), (0.95, 0.5))]
    out += [Study(f"{m}, three classes", three_classes, metric(m, **many)) for m in names["binary"]]
    out += [Study(f"{m} margin", regression, margin(m, "regression")) for m in ("r2", "rmse", "mae")]
    out += [Study(f"{m} margin", binary, margin(m, "binary")) for m in names["binary"]]
    for what, function in (("difference", stats.difference), ("ratio", stats.ratio)):
        out += [Study(f"{m} {what}", regression, paired(function, m)) for m in ("r2", "rmse")]
        out += [Study(f"{m} {what}, skewed", skewed, paired(function, m)) for m in ("r2", "mae", "mape")]
        out += [Study(f"{m} {what}", binary, paired(function, m)) for m in names["binary"]]
        out += [Study(f"auc 0.95 {what}, 10% positive", ranked(0.95, 0.1), paired(function, "auc"))]
    ece = stats.expected_calibration_error
    out += [
        Study("ECE, probabilities", shifted, ece),
        Study("ECE, top label", three_classes, lambda y, a, _: ece(y, a, **many)),
        Study("ECE, class-wise", three_classes, lambda y, a, _: ece(y, a, class_wise=True, **many)),
        Study("ECE, regressor", amounts, functools.partial(ece, task="regression")),
        Study("ECE, smooth", shifted, stats.smooth_calibration_error),
        Study("observed/expected", shifted, stats.observed_expected),
        Study("Brier skill", shifted, lambda y, p: r2_terms(y.astype(float), p).measured("skill").interval()),
        Study("parity ratio", decisions((0.2, 0.4)), stats.demographic_parity_ratio, 0.5),
        Study("parity ratio, three groups", decisions((0.2, 0.35, 0.5)), stats.demographic_parity_ratio, 0.4),
        Study("equal opportunity", decisions((0.2, 0.4)), stats.equal_opportunity_difference, 0.28),
        Study("equalized odds", decisions((0.2, 0.4)), stats.equalized_odds_difference, 0.28),
        Study("group RMSE ratio", spreads, stats.group_error_ratio, 0.5),
        Study("ratio of shares", two_shares, stats.share_ratio, 0.5),
        Study("difference of shares", two_shares, stats.share_difference, -0.2),
        Study("share, Wilson", lambda g, n: (int(g.binomial(n, 0.2)), n), stats.wilson, 0.2, exact=True),
        Study(
            "p90",
            lambda g, n: (g.exponential(1, n),),
            functools.partial(stats.quantile_interval, q=0.9),
            np.log(10),
            exact=True,
        ),
        Study("median", lambda g, n: (g.normal(size=n),), functools.partial(stats.quantile_interval, q=0.5), 0.0, exact=True),
        Study("explained_variance, bootstrap", regression, metric("explained_variance"), slow=True),
        Study("average_precision, bootstrap", binary, metric("average_precision"), slow=True),
    ]
    return out


def coverage(study: Study, n: int, repetitions: int, seed: int) -> tuple[int, int]:
    """Return in how many of the repetitions the interval held the truth, and in how many there was an interval."""
    rng = np.random.default_rng([seed, n])
    truth = study.truth
    if truth is None:
        # the bootstrap would resample the many rows; its point value needs no more than a twentieth
        rows = TRUTH_ROWS // 20 if study.slow else TRUTH_ROWS
        truth = study.estimate(*study.draw(np.random.default_rng(seed), rows)).value
    found = []
    for _ in range(repetitions):
        with contextlib.suppress(NotEnough):  # the estimator says that these rows bear no interval: no cover, and no miss
            found.append(study.estimate(*study.draw(rng, n)))
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
    parser.add_argument("--only", help="studies whose name has this in it")
    args = parser.parse_args()
    started, wrong = time.process_time(), 0
    print("| Estimator | n | repetitions | coverage of the 95 % interval |\n|---|--:|--:|--:|")
    for study in studies():
        if args.only and args.only not in study.name:
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
