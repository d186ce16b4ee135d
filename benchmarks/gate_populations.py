"""Populations of good and bad models, each defect at a stated size, for `gate_error_rates.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats as sps

from pytest_mlgates import checks
from pytest_mlgates.results import GateResult, Verdict

Rng = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Cell:
    """One population: ``draw`` makes the data of one release, ``ours`` judges them, ``naive`` is the tutorial's rule (True = pass)."""

    gate: str
    name: str
    good: bool
    draw: Callable[[Rng, int], dict[str, Any]]
    ours: Callable[..., GateResult]
    naive: Callable[..., bool]
    sizes: tuple[int, ...] = (100, 300, 1_000, 10_000, 100_000)
    most_false_pass: float = 0.06


# ---- gate 1: two models of stated quality on the same rows ----


def regression_pair(rng: Rng, n: int, r2: float, baseline_r2: float, shared: float = 0.0) -> dict[str, Any]:
    """Y is N(0, 1); each model predicts E[y | its own noisy view], the views sharing ``shared`` of their noise variance."""
    y = rng.normal(size=n)
    common = rng.normal(size=n)

    def predict(quality: float) -> np.ndarray:
        noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=n)
        if quality <= 0:  # worse than the mean: the mean plus noise of variance -R²
            return np.sqrt(-quality) * noise
        return quality * y + np.sqrt(quality * (1 - quality)) * noise

    return {"y": y, "c": predict(r2), "b": predict(baseline_r2)}


def auc_pair(rng: Rng, n: int, auc: float, baseline_auc: float, positives: float = 0.2, shared: float = 0.8) -> dict[str, Any]:
    """Binormal scores of stated AUC, the two models' noise correlated ``shared``."""
    y = rng.random(n) < positives
    common = rng.normal(size=n)

    def score(area: float) -> np.ndarray:
        noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=n)
        return sps.norm.ppf(area) * np.sqrt(2) * y + noise

    return {"y": y, "c": score(auc), "b": score(baseline_auc)}


def loss_pair(rng: Rng, n: int, temperature: float) -> dict[str, Any]:
    """A calibrated baseline and a candidate whose logits are multiplied by ``temperature``."""
    logit = rng.normal(-0.5, 1.2, n)
    y = rng.random(n) < 1 / (1 + np.exp(-logit))
    return {"y": y, "c": 1 / (1 + np.exp(-temperature * logit)), "b": 1 / (1 + np.exp(-logit))}


def label_pair(rng: Rng, n: int, hit: float, baseline_hit: float, false_alarm: float | None = None) -> dict[str, Any]:
    """Labels, 20 % positive, on which two models are right on mostly the same rows (0.8 of the luck shared).

    Each is right with probability ``hit``; where ``false_alarm`` is told it finds that share of the positives, and calls
    so many negatives positive.
    """
    y = rng.random(n) < 0.2
    common = rng.normal(size=n)

    def predict(share: float) -> np.ndarray:
        luck = sps.norm.cdf(np.sqrt(0.8) * common + np.sqrt(0.2) * rng.normal(size=n))
        return luck < np.where(y, share, false_alarm) if false_alarm is not None else np.where(luck < share, y, ~y)

    return {"y": y, "c": predict(hit), "b": predict(baseline_hit)}


def three_classes(rng: Rng, n: int, temperature: float) -> dict[str, Any]:
    """Three classes; a calibrated baseline and a candidate whose logits are multiplied by ``temperature``."""
    logits = rng.normal((0.4, 0.0, -0.4), 1.2, (n, 3))

    def soft(z: np.ndarray) -> np.ndarray:
        weights = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    y = (soft(logits).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return {"y": y, "c": soft(temperature * logits), "b": soft(logits)}


def skewed_pair(rng: Rng, n: int, worse: float) -> dict[str, Any]:
    """Amounts with a long right tail; errors grow with them, the candidate's by the factor ``worse``."""
    mean = rng.gamma(2.0, 50.0, n) + 20
    common = rng.normal(size=n)

    def error() -> np.ndarray:
        return np.asarray(0.3 * mean * (np.sqrt(0.8) * common + np.sqrt(0.2) * rng.normal(size=n)))

    return {"y": mean, "c": mean + worse * error(), "b": mean + error()}


def f1_of(y: np.ndarray, p: np.ndarray) -> float:
    return 2 * float((p & y).sum()) / float(p.sum() + y.sum())


def r2_of(y: np.ndarray, p: np.ndarray) -> float:
    return 1 - float(((y - p) ** 2).mean() / y.var())


def auc_of(y: np.ndarray, s: np.ndarray) -> float:
    ranks = sps.rankdata(s)
    m = int(y.sum())
    return (ranks[y].sum() - m * (m + 1) / 2) / (m * (y.size - m)) if 0 < m < y.size else float("nan")


def naive_r2(y: Any, c: Any, b: Any) -> bool:
    return r2_of(y, c) >= 0.95 * r2_of(y, b)


def naive_auc(y: Any, c: Any, b: Any) -> bool:
    return auc_of(y, c) >= 0.95 * auc_of(y, b)


def naive_rmse(y: Any, c: Any, b: Any) -> bool:
    """The rule as the tutorial writes it, with a metric where lower is better."""
    return float(((y - c) ** 2).mean() ** 0.5) >= 0.95 * float(((y - b) ** 2).mean() ** 0.5)


def naive_log_loss(y: Any, c: Any, b: Any) -> bool:
    def loss(p: Any) -> float:
        return float(-np.log(np.where(y, p, 1 - p)).mean())

    return loss(c) <= loss(b) / 0.95


def at_least_share(value: Callable[[Any, Any], float]) -> Callable[..., bool]:
    return lambda y, c, b: value(y, c) >= 0.95 * value(y, b)


def at_most_over(value: Callable[[Any, Any], float]) -> Callable[..., bool]:
    """The rule put right for errors, without an interval."""
    return lambda y, c, b: value(y, c) <= value(y, b) / 0.95


def performance(metric: str, **kw: Any) -> Callable[..., GateResult]:
    return lambda y, c, b: checks.performance(y, c, b, metric=metric, **kw)


def performance_cells() -> list[Cell]:
    def cell(name: str, good: bool, draw: Any, metric: str, naive: Any, **kw: Any) -> Cell:
        return Cell("performance", name, good, draw, performance(metric, **kw), naive)

    pair = regression_pair
    mae = at_most_over(lambda y, p: float(np.abs(y - p).mean()))
    mape = at_most_over(lambda y, p: float(np.abs(1 - p / y).mean()))
    right = at_least_share(lambda y, p: float((y == p).mean()))
    brier = at_most_over(lambda y, p: float(((y - p) ** 2).mean()))
    many_log_loss = at_most_over(lambda y, p: float(-np.log(p[np.arange(y.size), y]).mean()))
    return [
        cell("R² 0.2, equal, unrelated errors", True, lambda g, n: pair(g, n, 0.2, 0.2), "r2", naive_r2),
        cell("R² 0.7, equal, errors 0.8 shared", True, lambda g, n: pair(g, n, 0.7, 0.7, 0.8), "r2", naive_r2),
        cell("R² 0.7 × 0.94, errors 0.8 shared", False, lambda g, n: pair(g, n, 0.658, 0.7, 0.8), "r2", naive_r2),
        cell("R² 0.2 × 0.94", False, lambda g, n: pair(g, n, 0.188, 0.2), "r2", naive_r2),
        cell("baseline R² −0.2, equal", True, lambda g, n: pair(g, n, -0.2, -0.2, 0.8), "r2", naive_r2),
        cell("baseline R² −0.2, candidate −0.27", False, lambda g, n: pair(g, n, -0.27, -0.2, 0.8), "r2", naive_r2),
        cell("AUC 0.8, equal, 20 % positive", True, lambda g, n: auc_pair(g, n, 0.8, 0.8), "auc", naive_auc),
        cell("AUC 0.8 × 0.94", False, lambda g, n: auc_pair(g, n, 0.752, 0.8), "auc", naive_auc),
        cell("RMSE, 20 % better", True, lambda g, n: pair(g, n, 0.68, 0.5), "rmse", naive_rmse),
        cell("RMSE, 6 % worse", False, lambda g, n: pair(g, n, 0.438, 0.5, 0.8), "rmse", naive_rmse),
        cell("log-loss, equal", True, lambda g, n: loss_pair(g, n, 1.0), "log_loss", naive_log_loss),
        cell("log-loss, overconfident × 2", False, lambda g, n: loss_pair(g, n, 2.0), "log_loss", naive_log_loss),
        cell("RMSE of a skewed target, equal", True, lambda g, n: skewed_pair(g, n, 1.0), "rmse", naive_rmse),
        cell("RMSE of a skewed target, 6 % worse", False, lambda g, n: skewed_pair(g, n, 1 / 0.94), "rmse", naive_rmse),
        cell("MAE, equal", True, lambda g, n: skewed_pair(g, n, 1.0), "mae", mae),
        cell("MAE, 6 % worse", False, lambda g, n: skewed_pair(g, n, 1 / 0.94), "mae", mae),
        cell("MAPE, equal", True, lambda g, n: skewed_pair(g, n, 1.0), "mape", mape),
        cell("MAPE, 6 % worse", False, lambda g, n: skewed_pair(g, n, 1 / 0.94), "mape", mape),
        cell("accuracy 0.8, equal", True, lambda g, n: label_pair(g, n, 0.8, 0.8), "accuracy", right),
        cell("accuracy 0.8 × 0.94", False, lambda g, n: label_pair(g, n, 0.752, 0.8), "accuracy", right),
        cell("F1 0.8, equal, 20 % positive", True, lambda g, n: label_pair(g, n, 0.8, 0.8, 0.05), "f1", at_least_share(f1_of)),
        # F1 = 0.4 t / (0.2 t + 0.04 + 0.2), which is 0.752 at t = 0.7231
        cell("F1 0.8 × 0.94", False, lambda g, n: label_pair(g, n, 0.7231, 0.8, 0.05), "f1", at_least_share(f1_of)),
        cell("Brier score, equal", True, lambda g, n: loss_pair(g, n, 1.0), "brier", brier),
        cell("Brier score, overconfident × 2", False, lambda g, n: loss_pair(g, n, 2.0), "brier", brier),
        cell("three classes, log-loss, equal", True, lambda g, n: three_classes(g, n, 1.0), "log_loss", many_log_loss),
        cell(
            "three classes, log-loss, overconfident × 2",
            False,
            lambda g, n: three_classes(g, n, 2.0),
            "log_loss",
            many_log_loss,
        ),
        cell(
            "R² floor 0.60, true 0.64",
            True,
            lambda g, n: pair(g, n, 0.64, 0.5, 0.8),
            "r2",
            lambda y, c, b: r2_of(y, c) >= 0.6,
            floor=0.6,
        ),
        cell(
            "R² floor 0.60, true 0.59",
            False,
            lambda g, n: pair(g, n, 0.59, 0.5, 0.8),
            "r2",
            lambda y, c, b: r2_of(y, c) >= 0.6,
            floor=0.6,
        ),
    ]


# ---- gate 2 ----


def stored(rng: Rng, n: int, how: str, mean: float = 5.0) -> dict[str, Any]:
    expected = rng.normal(mean, 1, n)
    y = expected + rng.normal(0, 0.5, n)
    now = expected.copy()
    if how == "float32":
        now = expected.astype(np.float32).astype(float)
    elif how == "flipped":
        now = -expected
    elif how == "slice":
        now[: max(1, n // 25)] = 0.0
    elif how == "stale":
        now = expected + rng.normal(0, 0.05, n)
    elif how.startswith("moved "):
        # mean |N(0, s²)| = 0.8 s, in units of the target's standard deviation √1.25
        now = expected + rng.normal(0, float(how.split()[1]) * np.sqrt(1.25) / 0.7979, n)
    hashes = rng.integers(0, 2**62, n)
    train = rng.integers(0, 2**62, 2 * n)
    if how == "leaked":
        train[: n // 20] = hashes[: n // 20]
    return {"now": now, "expected": expected, "y": y, "train": train, "held": hashes}


def naive_holdout(now: Any, expected: Any, **_: Any) -> bool:
    return float(np.abs(now - expected).mean() / expected.mean()) < 0.05


def holdout_cells() -> list[Cell]:
    def same(now: Any, expected: Any, y: Any, train: Any, held: Any) -> GateResult:
        return checks.holdout(now, expected, exact=True, y_true=y, train_hashes=train, holdout_hashes=held)

    def champion(now: Any, expected: Any, y: Any, train: Any, held: Any) -> GateResult:
        return checks.holdout(now, expected, y_true=y, train_hashes=train, holdout_hashes=held)

    def cell(name: str, good: bool, how: str, ours: Any, mean: float = 5.0) -> Cell:
        return Cell("holdout", name, good, lambda g, n: stored(g, n, how, mean), ours, naive_holdout)

    return [
        cell("same version, float32 round trip", True, "float32", same),
        cell("same version, target mean −5", True, "float32", same, -5.0),
        cell("stale: another version's predictions", False, "stale", same),
        cell("sign flipped, mean −5", False, "flipped", same, -5.0),
        cell("4 % slice set to zero", False, "slice", same),
        cell("5 % of rows also in training", False, "leaked", same),
        cell("champion, gap 0.03 sd, mean 0.2", True, "moved 0.03", champion, 0.2),
        cell("champion, gap 0.06 sd", False, "moved 0.06", champion),
        cell("champion, 4 % slice set to zero", False, "slice", champion),
    ]


# ---- gate 3 ----


def selections(rng: Rng, n: int, minority: int, rate: float, ratio: float) -> dict[str, Any]:
    group = np.arange(n) < minority
    selected = rng.random(n) < np.where(group, rate * ratio, rate)
    y = rng.random(n) < np.where(selected, 0.7, 0.2)
    return {"y": y, "p": selected, "group": np.where(group, "minority", "majority")}


def naive_parity(y: Any, p: Any, group: Any) -> bool:
    rates = [p[group == g].mean() for g in np.unique(group)]
    return bool(max(rates) > 0 and min(rates) / max(rates) >= 0.8)


def fairness_cells() -> list[Cell]:
    def ours(y: Any, p: Any, group: Any) -> GateResult:
        return checks.fairness(y, p, {"group": group})

    out = []
    for minority, total in ((50, 1_000), (300, 3_000), (1_000, 10_000)):
        for ratio, good in ((1.0, True), (0.95, True), (0.7, False), (0.78, False)):
            out.append(
                Cell(
                    "fairness",
                    f"parity {ratio:g}, minority {minority:,}, 30 % selected",
                    good,
                    lambda g, n, m=minority, r=ratio: selections(g, n, m, 0.3, r),
                    ours,
                    naive_parity,
                    (total,),
                )
            )
    return out


# ---- gate 4 ----


def call_times(rng: Rng, n: int, share: float, run: int) -> dict[str, Any]:
    """Calls around 60 ms; ``share`` of them over 200 ms, alone (run = 1) or in runs of geometric length with mean ``run``."""
    times = rng.lognormal(np.log(0.06), 0.2, n)
    if run == 1:
        slow = rng.random(n) < share
    else:
        slow = np.zeros(n, dtype=bool)
        quiet = run * (1 - share) / share
        i = 0 if rng.random() < share else int(rng.geometric(1 / quiet))
        while i < n:
            length = int(rng.geometric(1 / run))
            slow[i : i + length] = True
            i += length + int(rng.geometric(1 / quiet))
    times[slow] = rng.uniform(0.25, 0.6, int(slow.sum()))
    return {"seconds": times}


def looks_until_settled(seconds: Any) -> GateResult:
    """Judge at 1,000, 2,000, … calls, as `checks.measure_latency` does."""
    result = checks.latency(seconds[:1000])
    for upto in (2_000, 4_000, 8_000, 16_000):
        if result.verdict is not Verdict.INCONCLUSIVE:
            break
        result = checks.latency(seconds[:upto])
    return result


def latency_cells() -> list[Cell]:
    def cell(name: str, good: bool, share: float, run: int, most: float = 0.06) -> Cell:
        return Cell(
            "latency",
            name,
            good,
            lambda g, n: call_times(g, n, share, run),
            looks_until_settled,
            lambda seconds: bool(np.quantile(seconds[:1000], 0.99) < 0.2),
            (16_000,),
            most,
        )

    return [
        cell("0.5 % of calls over", True, 0.005, 1),
        cell("0.2 % over, runs of 10", True, 0.002, 10),
        cell("1.25 % of calls over", False, 0.0125, 1),
        cell("2 % of calls over", False, 0.02, 1),
        cell("1.25 % over, runs of 10", False, 0.0125, 10, 0.10),
        cell("1.25 % over, runs of 20", False, 0.0125, 20, 0.10),
    ]


# ---- gate 5 ----


def probabilities(rng: Rng, n: int, how: str) -> dict[str, Any]:
    logit = rng.normal(-0.4, 1.3, n)
    true = 1 / (1 + np.exp(-logit))
    told = true.copy()
    group = np.where(rng.random(n) < 0.5, "a", "b")
    if how == "shift":
        told = np.minimum(true + 0.15, 1)
    elif how == "mild":
        told = np.minimum(true + 0.06, 1)
    elif how == "overconfident":
        told = 1 / (1 + np.exp(-3.5 * logit))
    elif how == "constant":
        told = np.full(n, true.mean())
    elif how.startswith("rare"):
        true = 0.02 * np.exp(rng.normal(0, 0.8, n) - 0.32)
        told = np.clip(true * float(how.split()[1]), 0, 1)
    elif how == "slice":
        group = np.where(rng.random(n) < 0.1, "weak", "rest")
        told = np.where(group == "weak", np.clip(true + 0.4, 0, 1), true)
        true = np.where(group == "weak", np.maximum(told - 0.4, 0), true)
    elif how == "groups":
        true = np.clip(true, 0.15, 0.85)
        told, true = true, true + np.where(group == "a", 0.15, -0.15)
    return {"y": rng.random(n) < true, "p": told, "group": group}


def ece_of(y: Any, p: Any) -> float:
    place = np.clip(np.ceil(p * 10).astype(int) - 1, 0, 9)
    rows = np.bincount(place, minlength=10)
    gap = np.abs(np.bincount(place, y, 10) - np.bincount(place, p, 10))
    return float(gap[rows > 0].sum() / y.size)


def amounts(rng: Rng, n: int, bias: float) -> dict[str, Any]:
    p = rng.normal(400, 80, n)
    return {"y": p * (1 + bias) + rng.normal(0, 40, n), "p": p, "group": np.full(n, "all")}


def calibration_cells() -> list[Cell]:
    def cell(name: str, good: bool, how: str) -> Cell:
        return Cell(
            "calibration",
            name,
            good,
            lambda g, n: probabilities(g, n, how),
            lambda y, p, group: checks.calibration(y, p, slices={"group": group} if how in ("slice", "groups") else None),
            lambda y, p, group: ece_of(y, p) < 0.10,
        )

    def revenue(name: str, good: bool, bias: float) -> Cell:
        return Cell(
            "calibration",
            name,
            good,
            lambda g, n: amounts(g, n, bias),
            lambda y, p, group: checks.calibration(y, p, task="regression"),
            lambda y, p, group: abs(y.mean() - p.mean()) / np.abs(y).mean() < 0.10,
        )

    return [
        cell("perfectly calibrated", True, "perfect"),
        cell("off by 0.06", True, "mild"),
        cell("off by 0.15", False, "shift"),
        cell("overconfident (logits × 3.5)", False, "overconfident"),
        cell("constant base rate", False, "constant"),
        cell("rare events × 3", False, "rare 3"),
        cell("rare events ÷ 5", False, "rare 0.2"),
        cell("rare events, calibrated", True, "rare 1"),
        cell("a 10 % slice off by 0.40", False, "slice"),
        cell("two groups ± 0.15", False, "groups"),
        revenue("regressor, unbiased", True, 0.0),
        revenue("regressor, 12 % low", False, 0.12),
    ]


def all_cells() -> list[Cell]:
    return [*performance_cells(), *holdout_cells(), *fairness_cells(), *latency_cells(), *calibration_cells()]
