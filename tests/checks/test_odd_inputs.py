"""The same data in any container get the same verdict; data that cannot be read never pass and never end in a traceback."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pytest_mlgates import checks
from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.results import Verdict

N = 300
RNG = np.random.default_rng(11)
Y = RNG.normal(10, 1, N)
C, B = Y + RNG.normal(0, 0.3, N), Y + RNG.normal(0, 0.6, N)
P = 1 / (1 + np.exp(-RNG.normal(0, 2, N)))
LABEL = RNG.random(N) < P
GROUP = np.where(RNG.random(N) < 0.5, "a", "b")
SECONDS = 0.01 + 0.001 * RNG.random(N)
ROWS = np.arange(N)

CALLS = {
    "performance r2": (checks.performance, (Y, C, B)),
    "performance mape": (lambda y, c, b: checks.performance(y, c, b, metric="mape", task="regression"), (Y, C, B)),
    "performance auc": (lambda y, p, q: checks.performance(y, p, q, metric="auc"), (LABEL, P, P * 0.5 + 0.2)),
    "performance f1": (lambda y, p, q: checks.performance(y, p, q, metric="f1", min_ratio=0.8), (LABEL, P, P * 0.5 + 0.2)),
    "holdout": (checks.holdout, (C, C + 0.01 * RNG.normal(size=N))),
    "holdout exact": (lambda c, e: checks.holdout(c, e, exact=True), (C, C.copy())),
    "fairness": (lambda y, p: checks.fairness(y, p, {"g": np.repeat(["a", "b"], N // 2)}, min_parity_ratio=0.5), (LABEL, P)),
    "calibration": (lambda y, p: checks.calibration(y, p, max_ece=0.2), (LABEL, P)),
    "calibration regression": (lambda y, c: checks.calibration(y, c, task="regression"), (Y, C)),
    "latency": (lambda s: checks.latency(s, looks=1), (SECONDS,)),
    "dummy": (checks.better_than_dummy, (Y, C)),
}


def numbers(values):
    return values.dtype.kind == "f"


FORMS = {
    "list": lambda v: v.tolist(),
    "tuple": lambda v: tuple(v.tolist()),
    "series, odd index": lambda v: pd.Series(v, index=ROWS[::-1] * 7),
    "series, one index value": lambda v: pd.Series(v, index=np.zeros(N, int)),
    "object": lambda v: v.astype(object),
    "one column": lambda v: v.reshape(-1, 1),
    "frame of one column": lambda v: pd.DataFrame({"x": v}),
    "nullable": lambda v: pd.Series(v).astype("Float64" if numbers(v) else "boolean"),
    "arrow-backed": lambda v: pd.Series(v).astype("double[pyarrow]" if numbers(v) else "bool[pyarrow]"),
    "arrow": pa.array,
    "arrow, chunked": lambda v: pa.chunked_array([pa.array(v[:100]), pa.array(v[100:])]),
    "decimals or integers": lambda v: [Decimal(repr(x)) for x in v.tolist()] if numbers(v) else v.astype(int).tolist(),
    "big-endian or words": lambda v: v.astype(">f8") if numbers(v) else np.where(v, "yes", "no"),
    "long double or category": lambda v: v.astype(np.longdouble) if numbers(v) else pd.Categorical(np.where(v, "yes", "no")),
    "strided or string dtype": lambda v: (
        np.repeat(v, 2)[::2] if numbers(v) else pd.Series(np.where(v, "1", "0")).astype("string")
    ),
    "nothing masked": np.ma.masked_array,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_any_container_gives_the_verdict_of_the_array(form):
    for name, (call, given) in CALLS.items():
        plain = call(*given)
        assert plain.verdict is Verdict.PASS, (name, plain.summary)
        for place in range(len(given)):
            changed = [FORMS[form](v) if i == place else v for i, v in enumerate(given)]
            found = call(*changed)
            assert found.verdict is plain.verdict, (name, place, found.summary)
            assert found.estimate == pytest.approx(plain.estimate, rel=1e-6), (name, place)


def with_one(value):
    def change(values):
        out = values.astype(object)
        out[3] = value
        return out

    return change


UNREADABLE = {
    **{
        f"one {type(v).__name__} {str(v)[:12]}": with_one(v)
        for v in (
            None,
            pd.NA,
            pd.NaT,
            float("nan"),
            float("-inf"),
            "abc",
            {},
            [1, 2],
            1j,
            10**400,
            Decimal("NaN"),
            dt.date(2026, 1, 1),
        )
    },
    "masked": lambda v: np.ma.masked_array(v, mask=ROWS == 3),
    "nullable, one missing": lambda v: pd.Series(v).convert_dtypes().mask(ROWS == 3),
    "all missing": lambda v: [None] * v.size,
    "empty": lambda v: v[:0],
    "one row": lambda v: v[:1],
    "a row short": lambda v: v[:-1],
    "three columns": lambda v: np.column_stack([v, v, v]),
    "two columns that are no probabilities": lambda v: np.column_stack([v, v]),
    "three dimensions": lambda v: np.ones((5, 5, 5)),
    "a number": lambda v: 1.0,
    "a word": lambda v: "hello",
    "a mapping": lambda v: {"a": 1},
    "a function": lambda v: len,
    "a generator": lambda v: (x for x in v.tolist()),
    "records": lambda v: np.zeros(v.size, dtype=[("a", "f8")]),
    "objects": lambda v: np.array([object() for _ in range(v.size)]),
    "ragged": lambda v: [[1], [1, 2]] * (v.size // 2),
    "durations": lambda v: ROWS.astype("m8[s]"),
    "text that looks like numbers": lambda v: [str(x) for x in v.astype(float).tolist()],
    "too large to square": lambda v: v.astype(float) * 1e300,
}


def never_passes(call, arguments, told):
    try:
        found = call(*arguments)
    except MlgatesError:
        return
    assert found.verdict is not Verdict.PASS, (told, found.summary)
    assert found.verdict is Verdict.FAIL or found.hint, told


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("how", UNREADABLE)
def test_what_cannot_be_read_never_passes(how):
    for name, (call, given) in CALLS.items():
        for place in range(len(given)):
            labels = given[place].dtype.kind == "b"
            # as labels, words and dates are as good as any; a single call, or one fewer, is still a measurement of latency
            if labels and how in ("text that looks like numbers", "too large to square", "durations"):
                continue
            if name == "latency" and how in ("a row short", "one row"):
                continue
            changed = [UNREADABLE[how](v) if i == place else v for i, v in enumerate(given)]
            never_passes(call, changed, (name, place, how))


@pytest.mark.parametrize(
    "how", [h for h in UNREADABLE if h not in ("too large to square", "two columns that are no probabilities")]
)
def test_leakage_evidence_that_cannot_be_read_never_passes(how):
    hashes = np.arange(N, dtype=np.int64)

    def leak(train, held, begin, end):
        return checks.holdout(C, C, exact=True, train_hashes=train, holdout_hashes=held, train_times=begin, holdout_times=end)

    given = (hashes, hashes + N, hashes.astype(float), hashes.astype(float) + N)
    assert leak(*given).verdict is Verdict.PASS
    for place in range(4):
        if how in ("one row", "a row short"):  # fewer times or hashes can be read: the first and the last day, say
            continue
        never_passes(leak, [UNREADABLE[how](v) if i == place else v for i, v in enumerate(given)], (place, how))


def test_times_of_any_kind_are_compared():
    days = pd.date_range("2025-01-01", periods=2 * N)
    for form in (lambda d: d, lambda d: d.date, lambda d: d.strftime("%Y-%m-%d"), lambda d: d.tz_localize("UTC"), list):
        train, held = form(days[:N]), form(days[N:])
        assert checks.holdout(C, C, exact=True, train_times=train, holdout_times=held).verdict is Verdict.PASS
        found = checks.holdout(C, C, exact=True, train_times=held, holdout_times=train)
        assert "precedes the training data" in found.hint
    mixed = checks.holdout(C, C, exact=True, train_times=ROWS, holdout_times=days[:N])
    assert mixed.verdict is Verdict.ERROR
    assert "both must be dates" in mixed.hint


@pytest.mark.parametrize(
    "groups", [[{}] * N, [[1]] * N, GROUP[:-1], np.column_stack([GROUP, GROUP]).reshape(N, 2, 1), ["a"] * N, [None] * N]
)
def test_groups_that_cannot_be_told_apart_never_pass(groups):
    never_passes(lambda g: checks.fairness(LABEL, P, {"g": g}, min_parity_ratio=0.5), [groups], groups)
    never_passes(
        lambda g: checks.calibration(LABEL, P, slices={"g": g}) if len(set(map(str, g))) > 1 else checks.fairness(LABEL, P, g),
        [groups],
        groups,
    )


@pytest.mark.parametrize(
    "groups", [pd.Categorical(GROUP), pd.Series(GROUP, dtype="category", index=ROWS[::-1]), GROUP == "a", list(GROUP)]
)
def test_groups_of_any_kind_are_judged_alike(groups):
    plain = checks.fairness(LABEL, P, {"g": GROUP})
    assert checks.fairness(LABEL, P, {"g": groups}).estimate == pytest.approx(plain.estimate)


def test_everybody_selected_says_nothing():
    assert checks.fairness(LABEL, np.ones(N), {"g": GROUP}).verdict is Verdict.INCONCLUSIVE


def test_a_few_rows_that_are_all_right_do_not_settle_anything():
    """Ten of ten do not show an accuracy of 0.99, nor that a model is as good as its baseline."""
    y = np.arange(10) % 2 == 0
    assert checks.performance(y, y, metric="accuracy", floor=0.99).verdict is Verdict.INCONCLUSIVE
    assert checks.performance(y, y * 0.8 + 0.1, metric="auc", floor=0.9).verdict is Verdict.INCONCLUSIVE
    assert checks.performance(y, y, y, metric="accuracy").verdict is Verdict.INCONCLUSIVE
    many = np.arange(2000) % 2 == 0
    assert checks.performance(many, many, metric="accuracy", floor=0.99).verdict is Verdict.PASS


def test_a_baseline_near_chance_is_judged_by_both_rules():
    """R² 0.01 asks for 0.0095 and R² -0.01 for -0.06: where a sample cannot tell which holds, neither is broken for certain."""
    passed = failed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y, common = rng.normal(size=400), rng.normal(size=400)
        above = 0.01 * y + 0.0995 * common  # R² 0.01
        passed += checks.performance(y, np.sqrt(0.03) * common, above).verdict is Verdict.PASS  # R² -0.03: too low
        failed += (
            checks.performance(y, np.sqrt(0.05) * common, 0.1 * common).verdict is Verdict.FAIL
        )  # -0.05 against -0.01: allowed
    assert max(passed, failed) <= 16
