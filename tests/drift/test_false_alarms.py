"""No alarm by chance, and none overslept; full sizes with MLGATES_PROVE=1 (and benchmarks/drift_error_rates.py)."""

import os

import numpy as np
import pyarrow as pa
import pytest

from pytest_mlgates.drift import compare
from pytest_mlgates.drift.blocks import designs

PROVE = os.environ.get("MLGATES_PROVE") == "1"


def table(rng, rows, features, *, ties, shift=0.0):
    values = rng.normal(size=(features, rows))
    values[0] += shift
    if ties:
        values = np.where(np.arange(features)[:, None] % 2, np.round(values, 1), np.maximum(np.round(values + 0.5), 0))
    return pa.table({f"f{i}": v for i, v in enumerate(values)})


@pytest.mark.parametrize("ties", [False, True], ids=["smooth", "ties"])
@pytest.mark.parametrize("features", [10, 50])
@pytest.mark.parametrize(("n", "m"), [(270, 35), (2_700, 350), (18_000, 1_400)])
def test_no_false_alarm(n, m, features, ties):
    """At most 1 % of runs (about 0.2 % by design); so few here that two are already too many."""
    runs = (1000 if n < 10_000 else 250) if PROVE else (6 if n < 10_000 else 2)
    rng = np.random.default_rng(n + features + ties)
    alarms = 0
    for _ in range(runs):
        found = compare(table(rng, n, features, ties=ties), table(rng, m, features, ties=ties))
        alarms += bool(found.drifted)
    assert alarms <= max(1, 0.01 * runs + 2.33 * np.sqrt(0.01 * runs))


@pytest.mark.parametrize(("n", "m", "shift"), [(2_700, 350, 0.5), (18_000, 1_400, 0.2)])
def test_power(n, m, shift):
    """One feature of 50 moved: found, and alone."""
    rng = np.random.default_rng(3)
    runs = 200 if PROVE else 3
    hits = sum("f0" in [f.feature for f in compare(table(rng, n, 50, ties=False), table(rng, m, 50, ties=False, shift=shift)).drifted]
               for _ in range(runs))  # fmt: skip
    assert hits >= (0.99 if shift == 0.5 else 0.95) * runs


def zipf(rng, rows, levels):
    shares = 1 / np.arange(1, levels + 1)
    return np.char.add("level ", rng.choice(levels, rows, p=shares / shares.sum()).astype(str))


ODD = {
    "identifiers": lambda rng, rows: rng.integers(0, 10**12, rows).astype(str),
    "1,000 even levels": lambda rng, rows: rng.integers(0, 1000, rows).astype(str),
    "200 Zipf levels": lambda rng, rows: zipf(rng, rows, 200),
    "heavy-tailed counts": lambda rng, rows: np.floor(rng.lognormal(0, 0.9, rows)),
    "rare flag": lambda rng, rows: rng.random(rows) < 0.01,
    "gaps": lambda rng, rows: np.where(rng.random(rows) < 0.01, np.nan, rng.standard_cauchy(rows)),
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize(("n", "m"), [(270, 120), (2_700, 350)])
def test_no_false_alarm_where_values_are_rare(n, m, values):
    """A p-value below 1 in 1,000 comes up about as often as that, also where many values occur once."""
    runs = 3000 if PROVE else 60
    rng = np.random.default_rng(n)
    p = [compare(pa.table({"v": values(rng, n)}), pa.table({"v": values(rng, m)}))["v"].p for _ in range(runs)]
    assert np.mean(np.array(p) < 0.001) <= 0.0015 + 3 * np.sqrt(0.001 / runs)


def days_of(rng, days, rows_a_day, level_spread):
    """Rows that share their day's level."""
    level = rng.normal(0, level_spread, days)
    number = np.repeat(np.arange(days), rows_a_day)
    return pa.table({"v": level[number] + rng.normal(size=number.size)}), number


def test_rows_that_share_their_day_raise_no_false_alarm():
    """90 and 7 days of 20 rows whose levels differ by day: plain KS alarms in most runs, the design effect in hardly any."""
    rng = np.random.default_rng(2)
    runs = 200 if PROVE else 25
    naive = careful = 0
    for _ in range(runs):
        a, a_days = days_of(rng, 90, 20, 1.0)
        b, b_days = days_of(rng, 7, 20, 1.0)
        naive += bool(compare(a, b).drifted)
        known = designs(a, b, ["v"], reference_days=a_days, current_days=b_days + 90, window_days=7)
        careful += bool(compare(a, b, designs=known).drifted)
    assert naive > runs / 6
    assert careful <= max(1, 0.03 * runs)


def test_a_real_shift_is_seen_through_the_design_effect():
    rng = np.random.default_rng(4)
    a, a_days = days_of(rng, 90, 20, 0.3)
    b, b_days = days_of(rng, 7, 20, 0.3)
    moved = pa.table({"v": b["v"].to_numpy() + 1.5})
    known = designs(a, moved, ["v"], reference_days=a_days, current_days=b_days + 90, window_days=7)
    assert compare(a, moved, designs=known)["v"].retrain
