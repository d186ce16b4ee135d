"""What holds of every check for any data: no order of rows matters, better is never punished, broken input never passes or crashes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_mlgates import checks
from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.results import GateResult, Verdict

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32 - 1)
rows = st.integers(20, 400)


def data(seed, n):
    rng = np.random.default_rng(seed)
    y = rng.normal(rng.uniform(-5, 5), 1, n)
    c, b = (y + rng.normal(0, rng.uniform(0.1, 1.5), n) for _ in range(2))
    p = rng.beta(2, 3, n)
    return {
        "rng": rng,
        "y": y,
        "c": c,
        "b": b,
        "p": p,
        "q": np.clip(p + rng.normal(0, 0.1, n), 0, 1),
        "label": rng.random(n) < p,
        "group": rng.choice(["a", "b", "c"], n),
        "decision": rng.random(n) < 0.4,
    }


CHECKS = {
    "performance r2": lambda d: checks.performance(d["y"], d["c"], d["b"], metric="r2"),
    "performance rmse": lambda d: checks.performance(d["y"], d["c"], d["b"], metric="rmse", floor=1.0),
    "performance auc": lambda d: checks.performance(d["label"], d["p"], d["q"], metric="auc"),
    "performance log_loss": lambda d: checks.performance(d["label"], d["p"], d["q"], metric="log_loss"),
    "holdout": lambda d: checks.holdout(d["c"], d["b"], y_true=d["y"], max_gap=1.0, slices={"g": d["group"]}),
    "fairness": lambda d: checks.fairness(d["label"], d["decision"], {"g": d["group"]}),
    "calibration": lambda d: checks.calibration(d["label"], d["p"], slices={"g": d["group"]}),
    "calibration regression": lambda d: checks.calibration(d["y"], d["c"], task="regression"),
}


def shuffled(d):
    order = d["rng"].permutation(d["y"].size)
    return {k: (v if k == "rng" else v[order]) for k, v in d.items()}


@pytest.mark.parametrize("name", CHECKS)
@given(seed=seeds, n=rows)
@QUICK
def test_order_of_rows_does_not_matter(name, seed, n):
    d = data(seed, n)
    one, two = CHECKS[name](d), CHECKS[name](shuffled(d))
    assert one.verdict is two.verdict
    assert one.estimate == pytest.approx(two.estimate, rel=1e-9, abs=1e-9, nan_ok=True)


@given(seed=seeds)
@settings(max_examples=2, deadline=None)
def test_order_of_rows_does_not_matter_to_the_bootstrap(seed):
    d = data(seed, 60)

    def judged(x):
        return checks.performance(x["y"], x["c"], x["b"], metric="neg_median_absolute_error")

    one, two = judged(d), judged(shuffled(d))
    assert (one.verdict, one.low) == (two.verdict, pytest.approx(two.low))


RANK = {Verdict.FAIL: 0, Verdict.ERROR: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


@pytest.mark.parametrize("metric", ["r2", "rmse", "mae", "mape"])
@given(seed=seeds, n=rows, shrink=st.floats(0.0, 0.95))
@QUICK
def test_a_strictly_better_regressor_never_turns_pass_into_fail(metric, seed, n, shrink):
    d = data(seed, n)
    before = checks.performance(d["y"], d["c"], d["b"], metric=metric)
    after = checks.performance(d["y"], d["y"] + shrink * (d["c"] - d["y"]), d["b"], metric=metric)
    assert not (before.verdict is Verdict.PASS and after.verdict is Verdict.FAIL)
    if before.verdict is not Verdict.FAIL:
        assert after.verdict is not Verdict.FAIL


@pytest.mark.parametrize("metric", ["auc", "log_loss", "brier", "accuracy"])
@given(seed=seeds, n=rows, step=st.floats(0.05, 0.9))
@QUICK
def test_a_strictly_better_classifier_never_turns_pass_into_fail(metric, seed, n, step):
    d = data(seed, n)
    better = d["p"] + step * (d["label"] - d["p"])
    before = checks.performance(d["label"], d["p"], d["q"], metric=metric)
    after = checks.performance(d["label"], better, d["q"], metric=metric)
    assert not (before.verdict is Verdict.PASS and after.verdict is Verdict.FAIL)


@given(seed=seeds, slow=st.integers(0, 40))
@QUICK
def test_faster_calls_never_turn_pass_into_fail(seed, slow):
    rng = np.random.default_rng(seed)
    times = rng.uniform(0.01, 0.1, 2000)
    times[rng.choice(2000, slow, replace=False)] = 0.5
    before, after = checks.latency(times), checks.latency(times * rng.uniform(0.2, 1.0))
    assert not (before.verdict is Verdict.PASS and after.verdict is Verdict.FAIL)


BROKEN = st.sampled_from(
    ["nan", "inf", "-inf", "empty", "one row", "constant", "shorter", "text", "none", "two columns", "missing object"]
)


def broken(values, how):
    values = np.array(values, dtype=float)
    if how in ("nan", "inf", "-inf"):
        values[3] = float(how)
        return values
    return {
        "empty": values[:0],
        "one row": values[:1],
        "constant": np.full_like(values, values[0]),
        "shorter": values[:-1],
        "text": np.full(values.size, "seven"),
        "none": None,
        "two columns": np.c_[values, values, values],
        "missing object": np.array([None, *values[1:]], dtype=object),
    }[how]


FIRST = {
    "performance": lambda d, x: checks.performance(x, d["c"], d["b"], metric="r2"),
    "performance auc": lambda d, x: checks.performance(x, d["p"], d["q"], metric="auc"),
    "performance log_loss": lambda d, x: checks.performance(x, d["p"], d["q"], metric="log_loss"),
    "fairness": lambda d, x: checks.fairness(x, d["decision"], {"g": d["group"]}),
    "calibration": lambda d, x: checks.calibration(x, d["p"]),
    "calibration regression": lambda d, x: checks.calibration(x, d["c"], task="regression"),
}
SECOND = {
    "performance": lambda d, x: checks.performance(d["y"], x, d["b"], metric="r2"),
    "performance baseline": lambda d, x: (
        checks.performance(d["y"], d["c"], x, metric="rmse", floor=1e9) if x is not None else None
    ),
    "performance auc": lambda d, x: checks.performance(d["label"], x, d["q"], metric="auc"),
    "performance scorer": lambda d, x: checks.performance(d["label"], x, d["q"], metric="balanced_accuracy"),
    "holdout": lambda d, x: checks.holdout(x, d["b"]),
    "holdout exact": lambda d, x: checks.holdout(x, d["b"], exact=True),
    "holdout expected": lambda d, x: checks.holdout(d["c"], x, exact=True),
    "fairness": lambda d, x: checks.fairness(d["label"], x, {"g": d["group"]}),
    "calibration": lambda d, x: checks.calibration(d["label"], x),
    "latency": lambda d, x: checks.latency(np.abs(x) if getattr(getattr(x, "dtype", None), "kind", "") == "f" else x),
}


def all_together(d, how):
    """Every argument broken alike, so that lengths match."""
    y, c, b = (broken(d[k], how) for k in "ycb")
    label, p = broken(d["label"], how), broken(d["p"], how)
    group = d["group"][: len(y)] if y is not None else d["group"]
    return [
        lambda: checks.performance(y, c, b),
        lambda: checks.performance(label, p, p, metric="auc"),
        lambda: checks.holdout(c, b),
        lambda: checks.fairness(label, label, {"g": group}),
        lambda: checks.calibration(label, p),
        lambda: checks.calibration(y, c, task="regression"),
    ]


def never_passes(call, how):
    try:
        found = call()
    except MlgatesError:
        return
    if found is None:
        return
    assert isinstance(found, GateResult)
    assert found.verdict is not Verdict.PASS, (how, found.summary)
    if found.verdict is not Verdict.FAIL:
        assert found.hint
    found.to_dict()


@pytest.mark.filterwarnings("error")
@given(seed=seeds, how=BROKEN.filter(lambda h: h != "shorter"))
@QUICK
def test_broken_outcomes_never_pass_and_never_crash(seed, how):
    d = data(seed, 50)
    for name, call in FIRST.items():
        source = d["y"] if name in ("performance", "calibration regression") else d["label"]
        never_passes(lambda c=call, s=source: c(d, broken(s, how)), (name, how))


@pytest.mark.filterwarnings("error")
@given(seed=seeds, how=BROKEN.filter(lambda h: h != "constant"))
@settings(max_examples=25, deadline=None)
def test_broken_predictions_never_pass_and_never_crash(seed, how):
    d = data(seed, 50)
    for name, call in SECOND.items():
        if (name, how) in {("holdout expected", "none"), ("performance baseline", "none")}:
            continue  # absent is not broken
        source = d["c"] if name in ("performance", "performance baseline", "holdout", "holdout exact", "latency") else d["p"]
        never_passes(lambda c=call, s=source: c(d, broken(s, how)), (name, how))


@given(seed=seeds, how=BROKEN.filter(lambda h: h != "shorter"))
@QUICK
def test_everything_broken_alike_never_passes_and_never_crashes(seed, how):
    for call in all_together(data(seed, 50), how):
        never_passes(call, how)


@given(seed=seeds)
@QUICK
def test_constant_predictions_never_pass_performance_or_calibration(seed):
    d = data(seed, 300)
    flat = np.full(300, d["y"].mean())
    good = d["y"] + 0.3 * (d["c"] - d["y"])
    assert checks.performance(d["y"], flat, good).verdict is not Verdict.PASS
    assert checks.performance(d["label"], np.full(300, 0.5), d["label"] * 0.9, metric="auc").verdict is not Verdict.PASS
    assert checks.calibration(d["label"], np.full(300, d["label"].mean())).verdict is not Verdict.PASS
    assert checks.calibration(d["y"], flat, task="regression").verdict is not Verdict.PASS


@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
@QUICK
def test_any_list_of_floats_is_answered(values):
    for call in (
        lambda: checks.performance(values, values, values),
        lambda: checks.latency(values),
        lambda: checks.calibration(values, values, task="regression"),
        lambda: checks.calibration(values, values),
        lambda: checks.holdout(values, values),
        lambda: checks.fairness(values, values, values),
    ):
        try:
            found = call()
        except MlgatesError:
            continue
        if not np.all(np.isfinite(values)) or len(values) < 2:
            assert found.verdict is not Verdict.PASS
