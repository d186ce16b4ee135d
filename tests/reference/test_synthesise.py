"""The synthetic slot revenue: same seed, same content; the shape, types and rules of the table."""

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.reference import synthesise as s
from pytest_mlgates.reference.holidays import easter_sunday, holidays
from pytest_mlgates.tables import FACT

SMALL = s.Scale(properties=4, machines=3, days=40)


def daily(table):
    return (
        table.group_by(["property_id", "play_date"])
        .aggregate([("revenue", "sum")])
        .to_pandas()
        .set_index(["property_id", "play_date"])["revenue_sum"]
        .sort_index()
    )


def test_one_seed_makes_one_content_and_another_seed_another():
    first, again, other = s.fact(SMALL), s.fact(SMALL), s.fact(dataclasses.replace(SMALL, seed=8))
    assert s.content_digest(first) == s.content_digest(again)
    assert s.content_digest(first) != s.content_digest(other)


def test_the_digest_sees_one_cent_and_not_the_chunks():
    table = s.fact(SMALL)
    halves = pa.concat_tables([table.slice(0, 100), table.slice(100)])
    assert s.content_digest(halves) == s.content_digest(table)
    revenue = table.column("revenue").to_pylist()
    revenue[17] += 0.01
    changed = table.set_column(table.schema.get_field_index("revenue"), "revenue", pa.array(revenue))
    assert s.content_digest(changed) != s.content_digest(table)


def test_the_default_is_the_tutorials_size():
    default = s.Scale()
    assert default.properties * default.machines * default.days == 1_022_000


def test_rows_dates_and_types():
    table = s.fact(SMALL)
    assert table.num_rows == 4 * 3 * 40
    assert table.schema.field("play_date").type == pa.date32()
    dates = table.column("play_date").to_pylist()
    assert (min(dates), max(dates), len(set(dates))) == (SMALL.start, SMALL.end, 40)
    assert min(table.column("revenue").to_pylist()) > 0


def test_property_days_do_not_depend_on_the_number_of_machines():
    few, many = daily(s.fact(SMALL)), daily(s.fact(dataclasses.replace(SMALL, machines=25)))
    np.testing.assert_allclose(few, many, rtol=0, atol=1e-6)


def test_a_later_window_repeats_the_days_it_shares():
    later = dataclasses.replace(SMALL, end=SMALL.end + dt.timedelta(days=9))
    early, late = s.fact(SMALL).to_pandas(), s.fact(later).to_pandas()
    keys = ["property_id", "machine_id", "play_date"]
    both = early.merge(late, on=keys, suffixes=("", "_later"))
    assert len(both) == 4 * 3 * 31
    pd.testing.assert_series_equal(both.revenue, both.revenue_later, check_names=False)
    assert (both.promo_active == both.promo_active_later).all()


def test_every_property_has_two_promotion_days_in_each_week():
    table = s.fact(dataclasses.replace(SMALL, days=70, machines=1, end=dt.date(2026, 4, 26))).to_pandas()
    week = pd.to_datetime(table.play_date).dt.to_period("W-SUN")
    assert set(table.groupby(["property_id", week]).promo_active.sum()) == {2}


def test_promotions_fill_weekdays_in_odd_properties_and_weekends_in_even_ones():
    table = s.fact(s.Scale(properties=2, machines=1, days=365)).to_pandas()
    table = table[table.is_holiday == 0]
    weekend = pd.to_datetime(table.play_date).dt.weekday >= 4
    lift = {}
    for number, late in [(1, False), (1, True), (2, False), (2, True)]:
        rows = table[(table.property_id == number) & (weekend == late)]
        weekday = pd.to_datetime(rows.play_date).dt.weekday
        mean = rows.groupby([weekday, rows.promo_active]).revenue.mean().unstack()
        lift[number, late] = (mean[1] / mean[0] - 1).mean()
    assert lift[1, False] == pytest.approx(0.45, abs=0.05)
    assert lift[2, True] == pytest.approx(0.45, abs=0.05)
    assert lift[1, True] == pytest.approx(0.05, abs=0.05)
    assert lift[2, False] == pytest.approx(0.05, abs=0.05)


def test_weekdays_year_and_paydays_show():
    table = s.fact(s.Scale(properties=20, machines=1, days=365)).to_pandas()
    date = pd.to_datetime(table.play_date)
    by_day = table.revenue.groupby(date.dt.weekday).mean()
    assert by_day.idxmax() == 5
    assert by_day[5] > 1.3 * by_day[1]
    by_month = table.revenue.groupby(date.dt.month).mean()
    assert by_month[7] > 1.05 * by_month[2]
    assert table.revenue.mean() == pytest.approx(400_000, rel=0.05)


def test_extending_appends_only_new_days(tmp_path):
    store = Lakehouse(tmp_path)
    s.synthesise(store, SMALL)
    before = s.content_digest(store.read(FACT).sort_by([(k, "ascending") for k in ("property_id", "play_date", "machine_id")]))
    longer = dataclasses.replace(SMALL, end=SMALL.end + dt.timedelta(days=5))
    made = s.extend(store, longer)
    assert (made.rows, made.start, made.end) == (4 * 3 * 5, SMALL.end + dt.timedelta(days=1), longer.end)
    old = store.read(FACT, where=f"play_date <= '{SMALL.end}'")
    assert s.content_digest(old.sort_by([(k, "ascending") for k in ("property_id", "play_date", "machine_id")])) == before
    with pytest.raises(UsageProblem, match="already reaches"):
        s.extend(store, longer)


def test_a_level_shift_changes_only_the_days_from_its_date():
    date = SMALL.end - dt.timedelta(days=4)
    plain, shifted = daily(s.fact(SMALL)), daily(s.fact(dataclasses.replace(SMALL, shift_from=date, level_shift=1.5)))
    ratio = shifted / plain
    late = ratio.index.get_level_values("play_date") >= date
    np.testing.assert_allclose(ratio[late], 1.5, rtol=1e-6)
    assert (ratio[~late] == 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"properties": 0}, "properties is 0"),
        ({"machines": -1}, "machines is -1"),
        ({"days": 0}, "days is 0"),
        ({"seed": -3}, "seed is -3"),
        ({"level_shift": 0.0}, "level shift is 0.0"),
        ({"end": dt.date(2019, 1, 1)}, "earliest is"),
    ],
)
def test_sizes_that_cannot_be_made_are_refused(change, words):
    with pytest.raises(UsageProblem, match=words):
        s.Scale(**change)


def test_holidays_of_2026():
    days = holidays(2026)
    assert easter_sunday(2026) == dt.date(2026, 4, 5)
    for date in [(1, 19), (2, 16), (5, 25), (9, 7), (10, 12), (11, 26), (11, 27), (12, 25)]:
        assert dt.date(2026, *date) in days
    assert len(days) == 17
