"""Thin, constant, missing, new, changed, zoned, empty: the stated verdict or a one-line error, never a retrain by accident."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_mlgates.drift import compare
from pytest_mlgates.errors import DataUnusable, UsageProblem

ROWS = 2_000
RNG = np.random.default_rng(1)


def column(values):
    return pa.table({"v": values})


def one(reference, current, **how):
    report = compare(column(reference), column(current), **how)
    assert not [f for f in report.features if f.retrain and f.broken]
    return report["v"]


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_thin_window_has_no_number(mode):
    """99 rows, moved by 3 standard deviations: insufficient, no figure, and the smallest shift that could be seen."""
    found = one(RNG.normal(size=ROWS), RNG.normal(3, size=99), mode=mode)
    assert found.verdict == "insufficient"
    assert found.psi is None
    assert found.ks is None
    assert found.q is None
    assert 0.3 < found.smallest_shift < 0.4
    assert not found.retrain


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_empty_current_window(mode):
    report = compare(column(RNG.normal(size=ROWS)), column(pa.array([], pa.float64())), mode=mode)
    assert report.verdict == "insufficient"
    assert report.psi_overall is None
    assert not report.retrain


def test_no_columns_in_the_current_window_and_no_rows():
    report = compare(pa.table({"v": RNG.normal(size=ROWS)}), pa.table({}))
    assert report.verdict == "insufficient"


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_constant_column(mode):
    assert one(np.full(ROWS, 7.0), np.full(500, 7.0), mode=mode).verdict == "stable"
    moved = one(np.full(ROWS, 7.0), np.full(500, 8.0), mode=mode)
    assert moved.verdict == "drift"
    assert moved.retrain


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_all_missing_is_broken_not_drifted(mode):
    """The source is to be mended; a retrain on nothing would make it worse."""
    found = one(RNG.normal(size=ROWS), pa.array([None] * 500, pa.float64()), mode=mode)
    assert found.verdict == "drift"
    assert found.broken
    assert not found.retrain
    assert "mend the source" in found.reason


def test_all_missing_on_both_sides_is_no_news():
    empty = pa.array([None] * 500, pa.float64())
    assert one(empty, empty).verdict == "insufficient"


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_half_missing_alarms(mode):
    values = np.where(np.arange(500) % 2, np.nan, RNG.normal(size=500))
    assert one(RNG.normal(size=ROWS), values, mode=mode).verdict == "drift"


@pytest.mark.parametrize("mode", ["exact", "profile"])
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_missing_rows_alarm_and_call_for_no_retrain(mode, share):
    """What is there has not moved: the source is to be mended. So few rows left that they cannot be judged: broken."""
    values = np.where(RNG.random(ROWS) < share, np.nan, RNG.normal(size=ROWS))
    report = compare(column(RNG.normal(size=ROWS)), column(values), mode=mode)
    assert report["v"].verdict == "drift"
    assert report["v"].broken is (share > 0.9)
    assert not report.retrain
    assert report.psi_overall < 0.1
    if share > 0.9:
        assert "of current rows are missing, of the reference 0%" in report["v"].reason


def test_few_rows_are_no_more_missing_than_before():
    """97 % missing in both windows: too few to judge, and nothing broke."""
    values = [np.where(RNG.random(n) < 0.97, np.nan, RNG.normal(size=n)) for n in (20_000, ROWS)]
    assert one(*values).verdict == "insufficient"


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_new_category_is_named(mode):
    found = one(RNG.choice(["a", "b"], ROWS), RNG.choice(["a", "b", "c"], 500), mode=mode)
    assert found.verdict == "drift"
    assert found.new_categories == ("c",)
    assert "new category: c" in found.reason


def test_one_row_of_a_new_category_is_no_drift():
    found = one(RNG.choice(["a", "b"], ROWS), np.append(RNG.choice(["a", "b"], 499), "c"))
    assert found.verdict == "stable"


@pytest.mark.parametrize("mode", ["exact", "profile"])
@pytest.mark.parametrize("given", [np.array([0, 1]), np.array([5])], ids=["flag", "constant"])
def test_numbers_that_the_reference_lacks(mode, given):
    found = one(RNG.choice(given, ROWS), RNG.choice(given * 2 + 1, 500), mode=mode)
    assert found.verdict == "drift"
    assert found.retrain


def test_every_one_of_a_thousand_categories_renamed():
    names = np.array([f"k{i}" for i in range(1000)])
    found = one(RNG.choice(names, ROWS), np.char.add("new ", RNG.choice(names, 500)))
    assert found.p < 1e-50
    assert not found.retrain
    assert "every category is new" in found.reason


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_lost_column(mode):
    report = compare(
        pa.table({"v": RNG.normal(size=ROWS), "w": RNG.normal(size=ROWS)}), column(RNG.normal(size=500)), mode=mode
    )
    assert report["w"].verdict == "drift"
    assert report["w"].broken
    assert not report.retrain
    assert report["v"].verdict == "stable"


def test_new_column_is_not_judged():
    report = compare(column(RNG.normal(size=ROWS)), pa.table({"v": RNG.normal(size=500), "w": RNG.normal(size=500)}))
    assert report["w"].verdict == "insufficient"
    assert report.verdict == "stable"


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_changed_type_is_broken(mode):
    found = one(RNG.normal(size=ROWS), RNG.choice(["1", "2"], 500), mode=mode)
    assert found.verdict == "drift"
    assert found.broken
    assert not found.retrain
    assert "from number to category" in found.reason


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_whole_numbers_that_became_fractions_are_the_same_type(mode):
    assert one(RNG.integers(0, 100, ROWS), RNG.integers(0, 100, 500).astype(float), mode=mode).verdict == "stable"


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_dates_as_strings_are_refused_with_the_cast(mode):
    days = [str(dt.date(2026, 1, 1) + dt.timedelta(days=i % 90)) for i in range(ROWS)]
    with pytest.raises(DataUnusable, match=r"'v' holds dates as strings .* CAST\(v AS DATE\)"):
        one(days, days[:500], mode=mode)


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%m/%d/%Y", "%Y%m%d", "%Y/%m/%d %H:%M", "%d %b %Y", "%B %d, %Y", "%Y-%m"])
def test_dates_in_other_writings_are_dates(form):
    days = [(dt.date(2026, 1, 1) + dt.timedelta(days=i % 90)).strftime(form) for i in range(ROWS)]
    with pytest.raises(DataUnusable, match="holds dates as strings"):
        one(days, days[:500])


def test_codes_are_no_dates():
    codes = RNG.choice(["12-3456", "1.2.10", "20261399", "May"], ROWS)
    assert one(codes, codes[:500]).verdict == "stable"


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_times_finer_than_a_microsecond(mode):
    times = pa.array(RNG.integers(0, 10**18, ROWS), pa.timestamp("ns"))
    assert one(times, times[:500], mode=mode).verdict == "stable"


def test_time_zones():
    """Two zones are the same instants; a zone and none do not compare."""
    instants = pd.date_range("2026-01-01", periods=ROWS, freq="min")
    zoned = pa.array(instants.tz_localize("UTC").as_unit("us"))
    elsewhere = pa.array(instants.tz_localize("UTC").as_unit("us").tz_convert("Asia/Tokyo"))
    assert one(zoned, elsewhere).ks == 0
    naive = one(zoned, pa.array(instants.as_unit("us")))
    assert naive.broken
    assert "zoned time" in naive.reason


@pytest.mark.parametrize("mode", ["exact", "profile"])
def test_infinite_values_are_kept_out_and_counted(mode):
    values = RNG.normal(size=500)
    values[:100] = np.inf
    found = one(RNG.normal(size=ROWS), values, mode=mode)
    assert found.verdict == "drift"
    assert np.isfinite(found.wasserstein)


def test_lists_are_not_compared():
    lists = pa.array([[1.0]] * ROWS)
    assert one(lists, lists).verdict == "insufficient"


def test_large_windows_alarm_at_nothing_but_retrain_only_at_size():
    """A shift of 0.02 standard deviations among a million rows: drift, and no retrain."""
    found = one(RNG.normal(size=1_000_000), RNG.normal(0.02, size=200_000), mode="profile")
    assert found.verdict == "drift"
    assert found.psi < 0.002
    assert not found.retrain


def test_suppression_keeps_quiet_and_says_so():
    report = compare(column(RNG.normal(size=ROWS)), column(RNG.normal(1, size=500)), suppressed={"v": "moving house"})
    assert report.verdict == "stable"
    assert report["v"].reason == "suppressed (it would have alarmed): moving house"


def test_calibrated_limit_keeps_quiet_below_it():
    a, b = column(RNG.normal(size=ROWS)), column(RNG.normal(0.5, size=500))
    assert compare(a, b)["v"].verdict == "drift"
    assert compare(a, b, limits={"v": 5.0})["v"].verdict == "stable"


def test_a_wrong_call_is_one_line():
    a = column(RNG.normal(size=ROWS))
    with pytest.raises(UsageProblem, match="neither window has a column 'w'; "):
        compare(a, a, columns=["w"])
    with pytest.raises(UsageProblem, match="mode is 'quick'"):
        compare(a, a, mode="quick")
    with pytest.raises(DataUnusable, match="int"):
        compare(3, a)
    with pytest.raises(UsageProblem, match=r"columns is 'v'; it must be a list of names, \['v'\]"):
        compare(a, a, columns="v")
    for wrong in ({"alpha": 2}, {"alpha": 0}, {"min_rows": 0}, {"min_psi": float("nan")}, {"weights": [1, 2]}):
        with pytest.raises(UsageProblem, match=next(iter(wrong))):
            compare(a, a, **wrong)


@pytest.mark.parametrize(
    "rows",
    [pa.table([np.zeros(ROWS)] * 2, names=["v", "v"]), pd.DataFrame(np.zeros((ROWS, 2)), columns=["v", "v"])],
    ids=["Arrow", "pandas"],
)
def test_two_columns_of_one_name(rows):
    with pytest.raises(DataUnusable, match="'v'"):
        compare(rows, column(RNG.normal(size=ROWS)))


def test_numbers_that_no_table_holds():
    with pytest.raises(DataUnusable, match="no table of typed columns"):
        compare(pd.DataFrame({"v": RNG.normal(size=ROWS) + 1j}), column(RNG.normal(size=ROWS)))


@pytest.mark.parametrize("other", [{"w": [1.0]}, {"v": [1]}], ids=["another column", "another type"])
def test_files_of_two_schemas(tmp_path, other):
    for name, rows in (("1", {"v": [1.0]}), ("2", other)):
        pq.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    with pytest.raises(DataUnusable, match=r"2\.parquet: column 'v' is (missing|int64), in 1\.parquet double"):
        compare(tmp_path, column(RNG.normal(size=ROWS)))


def test_delta_folder_is_not_read_as_parquet(tmp_path):
    """Reading the files behind a Delta table would bring deleted rows back."""
    import deltalake

    deltalake.write_deltalake(str(tmp_path / "t"), column(RNG.normal(size=300)))
    with pytest.raises(DataUnusable, match="is a Delta table"):
        compare(str(tmp_path / "t"), column(RNG.normal(size=300)))
