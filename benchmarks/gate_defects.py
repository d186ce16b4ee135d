"""Eleven planted defects, each let loose on the naive suite and on ours with the further checks on, beside models without a defect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pytest_mlgates import checks
from pytest_mlgates.results import GateResult, Verdict

FEATURES = ["day_of_week", "promo_active", "venue", "lag_7_revenue", "lag_30_revenue"]
SIGNATURE = [
    ("day_of_week", "long"),
    ("promo_active", "long"),
    ("venue", "string"),
    ("lag_7_revenue", "double"),
    ("lag_30_revenue", "double"),
]
VENUES = ["north", "south", "west"]


@dataclasses.dataclass
class Release:
    """One model version with everything the gates look at; a defect alters some of it."""

    rng: np.random.Generator
    train: pd.DataFrame
    held: pd.DataFrame
    predict: Callable[[pd.DataFrame], np.ndarray]
    baseline: np.ndarray
    expected: np.ndarray
    features: list[str] = dataclasses.field(default_factory=lambda: list(FEATURES))


def days(rng: np.random.Generator, rows: int, start: str) -> pd.DataFrame:
    """Rows of venue-days: weekly pattern, promotions, an interaction, noise of a quarter of the spread."""
    frame = pd.DataFrame(
        {
            "date": pd.date_range(start, periods=rows // 3 + 1, freq="D").repeat(3)[:rows],
            "venue": np.tile(VENUES, rows // 3 + 1)[:rows],
            "promo_active": rng.integers(0, 2, rows),
        }
    )
    frame["day_of_week"] = frame.date.dt.day_of_week
    level = 300e3 + 60e3 * frame.venue.map({"north": 0, "south": 1, "west": 2}) + 25e3 * (frame.day_of_week >= 5)
    frame["lag_30_revenue"] = level + rng.normal(0, 30e3, rows)
    frame["lag_7_revenue"] = frame.lag_30_revenue + rng.normal(0, 20e3, rows)
    frame["revenue"] = true_mean(frame) + rng.normal(0, 20e3, rows)
    return frame


def true_mean(frame: pd.DataFrame) -> np.ndarray:
    weekend = frame.day_of_week.to_numpy() >= 5
    promo = frame.promo_active.to_numpy() == 1
    return (0.5 * frame.lag_7_revenue + 0.4 * frame.lag_30_revenue + 30e3 + 20e3 * promo + 15e3 * (promo & weekend)).to_numpy()


def design(frame: pd.DataFrame, features: list[str]) -> np.ndarray:
    weekend = (frame["day_of_week"].to_numpy() >= 5).astype(float)
    promo = frame["promo_active"].to_numpy().astype(float)
    known = [np.asarray(frame["venue"] == v, dtype=float) for v in VENUES[1:]]
    extra = [frame[f].to_numpy(dtype=float) for f in features if f not in ("day_of_week", "promo_active", "venue")]
    return np.column_stack([np.ones(len(frame)), weekend, promo, weekend * promo, *known, *extra])


def fit(train: pd.DataFrame, features: list[str]) -> Callable[[pd.DataFrame], np.ndarray]:
    """Least squares; a missing input is filled with its training mean, answers kept within the training range."""
    weights = np.linalg.lstsq(design(train, features), train.revenue.to_numpy(), rcond=None)[0]
    means = train[[f for f in features if f.startswith(("lag", "next"))]].mean()
    low, high = train.revenue.min() * 0.5, train.revenue.max() * 1.5

    def predict(frame: pd.DataFrame) -> np.ndarray:
        return np.clip(design(frame.fillna(means), features) @ weights, low, high)

    return predict


def release(rng: np.random.Generator) -> Release:
    train, held = days(rng, 3_000, "2022-01-01"), days(rng, 1_000, "2025-01-01")
    predict = fit(train, FEATURES)
    weak = train[["lag_30_revenue"]].to_numpy() @ [0.9] + 40e3
    slope, shift = np.polyfit(weak, train.revenue, 1)
    baseline = slope * (held.lag_30_revenue.to_numpy() * 0.9 + 40e3) + shift
    return Release(rng, train, held, predict, baseline, predict(held[FEATURES]))


# ---- the defects ----


def weak_slice(r: Release) -> None:
    good = r.predict

    def predict(frame: pd.DataFrame) -> np.ndarray:
        here = (frame.promo_active == 1).to_numpy() & (frame.day_of_week == 6).to_numpy()
        return good(frame) + np.where(here, 70e3, 0.0)

    r.predict, r.expected = predict, predict(r.held[FEATURES])


def leaked_rows(r: Release) -> None:
    leaked = r.held.head(100).assign(date=r.train.date.max())
    r.train = pd.concat([r.train, leaked.astype({"lag_7_revenue": "float32"})], ignore_index=True)


def exchanged_artifact(r: Release) -> None:
    r.predict = fit(r.train.head(400), FEATURES)


def random_answers(r: Release) -> None:
    good = r.predict
    r.predict = lambda frame: good(frame) * (1 + 1e-3 * r.rng.normal(size=len(frame)))


def batch_statistics(r: Release) -> None:
    good = r.predict

    def predict(frame: pd.DataFrame) -> np.ndarray:
        answer = good(frame)
        return answer - 0.2 * (answer.mean() - 390e3)

    r.predict, r.expected = predict, predict(r.held[FEATURES])


def holdout_before_training(r: Release) -> None:
    r.held = r.held.assign(date=r.held.date - pd.Timedelta(days=2_000))


def nan_for_missing(r: Release) -> None:
    good = r.predict

    def predict(frame: pd.DataFrame) -> np.ndarray:
        return np.where(frame.isna().any(axis=1), np.nan, good(frame))

    r.predict = predict


def crash_on_unseen_venue(r: Release) -> None:
    good = r.predict

    def predict(frame: pd.DataFrame) -> np.ndarray:
        table = list(VENUES)
        for venue in frame.venue.unique():
            table[VENUES.index(venue) if venue in VENUES else 99]
        return good(frame)

    r.predict = predict


def leaked_feature(r: Release) -> None:
    r.features = [*FEATURES, "next_day_total"]
    for frame in (r.train, r.held):
        frame["next_day_total"] = frame.revenue * 1.01 + r.rng.normal(0, 100, len(frame))
    r.predict = fit(r.train, r.features)
    r.expected = r.predict(r.held[r.features])


def shuffled_answers(r: Release) -> None:
    good, order = r.predict, r.rng.permutation(len(r.held))
    r.predict = lambda frame: good(frame)[order] if len(frame) == len(order) else good(frame)
    r.expected = r.predict(r.held[FEATURES])


def biased(r: Release) -> None:
    good = r.predict
    r.predict = lambda frame: 0.85 * good(frame)
    r.expected = r.predict(r.held[FEATURES])


DEFECTS: dict[str, Callable[[Release], None]] = {
    "weak slice: promo_active=1 & day_of_week=6 off by 70,000": weak_slice,
    "100 holdout rows in the training data": leaked_rows,
    "artifact exchanged after its predictions were stored": exchanged_artifact,
    "answers differ by 0.1 % from call to call": random_answers,
    "predict uses the mean of the batch": batch_statistics,
    "holdout older than the training data": holdout_before_training,
    "NaN for a missing input": nan_for_missing,
    "IndexError on an unseen category": crash_on_unseen_venue,
    "a feature that knows the target": leaked_feature,
    "answers in shuffled order": shuffled_answers,
    "15 % too low everywhere": biased,
}


# ---- the two suites ----


def naive_suite(r: Release) -> list[str]:
    """Names of the tutorial's gates that block (fairness and latency do not apply)."""
    y, p = r.held.revenue.to_numpy(), r.predict(r.held[r.features])
    blocked = []
    if not 1 - ((y - p) ** 2).mean() / y.var() >= 0.95 * (1 - ((y - r.baseline) ** 2).mean() / y.var()):
        blocked.append("performance")
    if not np.abs(p - r.expected).mean() / r.expected.mean() < 0.05:
        blocked.append("holdout")
    bins = pd.qcut(p, 10, labels=False, duplicates="drop")
    means = pd.DataFrame({"y": y, "p": p, "b": bins}).groupby("b").agg(y=("y", "mean"), p=("p", "mean"), n=("y", "size"))
    if not ((means.y - means.p).abs() * means.n).sum() / len(y) / np.abs(y).mean() < 0.10:
        blocked.append("calibration")
    return blocked


def our_suite(r: Release) -> list[GateResult]:
    """The gates that apply and every further check, with their defaults."""
    x, y = r.held[r.features], r.held.revenue.to_numpy()
    p = r.predict(x)
    low, high = 0.0, float(r.train.revenue.max()) * 2
    keys = [*r.features, "revenue"]
    signature = [*SIGNATURE, *((f, "double") for f in r.features if f not in FEATURES)]
    return [
        checks.performance(y, p, r.baseline, metric="r2"),
        checks.holdout(
            p,
            r.expected,
            exact=True,
            y_true=y,
            train_hashes=checks.row_hashes(r.train[keys]),
            holdout_hashes=checks.row_hashes(r.held[keys]),
            train_times=r.train.date,
            holdout_times=r.held.date,
        ),
        checks.calibration(y, p, task="regression"),
        checks.weak_slices(y, p, x),
        checks.determinism(r.predict, x.head(200)),
        checks.single_row_equals_batch(r.predict, x.head(200), rows=15),
        checks.robustness(r.predict, x, low=low, high=high),
        checks.bounds(p, low=low, high=high),
        checks.single_feature_leakage(y, x),
        checks.better_than_dummy(y, p),
        checks.schema(signature, x, predict=r.predict),
    ]


def defect_table(good_models: int, seed: int) -> tuple[str, int]:
    """Return the matrix in Markdown and the number of defects missed (one more where good models alarm beyond 5 %)."""
    lines = ["| Defect | naive suite | ours: checks that fail |", "|---|---|---|"]
    missed = let_through = 0
    for i, (name, plant) in enumerate(DEFECTS.items()):
        r = release(np.random.default_rng([seed, i]))
        plant(r)
        blocked = naive_suite(r)
        caught = [f.gate for f in our_suite(r) if f.verdict in (Verdict.FAIL, Verdict.ERROR)]
        missed += not caught
        let_through += not blocked
        lines.append(f"| {name} | {', '.join(blocked) or 'let through'} | {', '.join(caught) or '**missed**'} |")
    alarms: dict[str, Any] = {}
    alarmed = 0
    for i in range(good_models):
        found = [
            f.gate
            for f in our_suite(release(np.random.default_rng([seed, 1_000, i])))
            if f.verdict in (Verdict.FAIL, Verdict.ERROR)
        ]
        alarmed += bool(found)
        for gate in found:
            alarms[gate] = alarms.get(gate, 0) + 1
    told = ", ".join(f"{g} {n}" for g, n in alarms.items()) or "none"
    text = "\n".join(lines)
    text += f"\n\nOurs: {len(DEFECTS) - missed} of {len(DEFECTS)} caught; the naive suite let {let_through} through."
    text += f" Of {good_models} models without a defect {alarmed} raised an alarm ({told})."
    return text, missed + (alarmed > 0.05 * good_models)


if __name__ == "__main__":
    print(defect_table(200, 39)[0])
