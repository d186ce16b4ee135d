"""Inputs, split and the permanent holdout."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pytest_mlgates.errors import DataUnusable, UsageProblem
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.reference import features as f
from pytest_mlgates.reference.synthesise import HISTORY, Scale, extend, fact, synthesise
from pytest_mlgates.tables import FACT, HOLDOUT, SILVER

SCALE = Scale(properties=3, machines=2, days=60)


@pytest.fixture
def store(tmp_path):
    lakehouse = Lakehouse(tmp_path)
    synthesise(lakehouse, SCALE)
    return lakehouse


def test_a_string_play_date_is_refused_with_the_cast_in_silver(tmp_path):
    store = Lakehouse(tmp_path)
    table = fact(SCALE)
    at = table.schema.get_field_index("play_date")
    store.overwrite(FACT, table.set_column(at, "play_date", table.column("play_date").cast(pa.string())))
    with pytest.raises(DataUnusable, match=r"play_date is string, expected DATE.*cast to DATE in Silver") as caught:
        f.property_days(store)
    assert "\n" not in str(caught.value)
    assert "CAST(play_date AS DATE)" in str(caught.value)


def test_inputs_agree_with_a_plain_loop(store):
    frame, _ = f.property_days(store)
    assert len(frame) == 3 * 60
    revenue = {}
    for table in (HISTORY, FACT):
        for row in store.read(table).to_pylist():
            key = row["property_id"], row["play_date"]
            revenue[key] = revenue.get(key, 0.0) + row["revenue"]
    for row in frame.itertuples():
        assert row.revenue == pytest.approx(revenue[row.property_id, row.play_date], abs=0.01)
        assert row.day_of_week == row.play_date.weekday()
        for lag in (7, 30):
            before = revenue[row.property_id, row.play_date - dt.timedelta(days=lag)]
            assert getattr(row, f"lag_{lag}_revenue") == pytest.approx(before, abs=0.01)


def test_every_row_has_both_lags_where_the_month_before_is_known(store):
    frame, _ = f.property_days(store)
    assert not frame.isna().any().any()


def test_without_the_month_before_rows_without_a_lag_are_no_rows_of_the_model(tmp_path):
    store = Lakehouse(tmp_path)
    store.overwrite(FACT, fact(SCALE))
    frame, _ = f.property_days(store)
    assert len(frame) == 3 * 60
    assert len(f.with_lags(frame)) == 3 * 30


def test_a_missing_day_gives_no_lag_instead_of_a_neighbours(store):
    closed = SCALE.end - dt.timedelta(days=10)
    rows = store.read(FACT, where=f"NOT (property_id = 1 AND play_date = '{closed}')")
    store.overwrite(FACT, rows)
    frame, _ = f.property_days(store)
    after = frame[(frame.property_id == 1) & (frame.play_date == closed + dt.timedelta(days=7))]
    assert after.lag_7_revenue.isna().all()


def test_the_split_is_in_order_and_shares_no_date(store):
    frame, _ = f.property_days(store)
    parts = f.split(store, frame)
    assert parts.train.play_date.max() < parts.validation.play_date.min()
    assert parts.validation.play_date.max() < parts.holdout.play_date.min()
    dates = [part.play_date.nunique() for part in (parts.train, parts.validation, parts.holdout)]
    assert dates == [42, 9, 9]  # 70/15/15 of 60


def test_the_holdout_is_written_once_and_stays_when_days_are_added(store):
    frame, _ = f.property_days(store)
    first = f.split(store, frame)
    extend(store, Scale(properties=3, machines=2, end=SCALE.end + dt.timedelta(days=14)))
    longer, _ = f.property_days(store)
    second = f.split(store, longer)
    assert store.version(HOLDOUT) == first.holdout_version == second.holdout_version
    pd.testing.assert_frame_equal(first.holdout, second.holdout)
    held = set(first.holdout.play_date)
    assert not held & (set(second.train.play_date) | set(second.validation.play_date))
    assert second.validation.play_date.max() == SCALE.end + dt.timedelta(days=14)


def test_corrected_facts_are_counted_and_do_not_reach_the_holdout(store):
    frame, _ = f.property_days(store)
    parts = f.split(store, frame)
    assert f.restated_rows(frame, parts.holdout) == 0
    changed = frame.copy()
    changed.loc[changed.index[-2:], "revenue"] += 1.0
    assert f.restated_rows(changed, parts.holdout) == 2
    pd.testing.assert_frame_equal(f.split(store, changed).holdout, parts.holdout)


def test_features_and_silver_tables_are_written_once_for_the_same_rows(store):
    frame, _ = f.property_days(store)
    f.write_features(store, frame)
    f.write_features(store, frame)
    assert (store.version(f.FEATURES_TABLE), store.version(SILVER)) == (0, 0)
    assert store.read(SILVER).column("predicted_revenue").null_count == len(frame)
    assert store.read(f.FEATURES_TABLE).column_names == [*f.KEYS, *f.FEATURES, f.TARGET]


def test_predictions_in_the_silver_table_are_kept_when_days_are_added(store):
    frame, _ = f.property_days(store)
    f.write_features(store, frame)
    store.overwrite(SILVER, pa.Table.from_pandas(frame.assign(predicted_revenue=5.0), f.SILVER_SCHEMA, preserve_index=False))
    extend(store, Scale(properties=3, machines=2, end=SCALE.end + dt.timedelta(days=2)))
    longer, _ = f.property_days(store)
    f.write_features(store, longer)
    silver = store.read(SILVER).to_pandas()
    assert np.isnan(silver[silver.play_date > SCALE.end].predicted_revenue).all()
    assert (silver[silver.play_date <= SCALE.end].predicted_revenue == 5.0).all()


def test_until_reads_no_later_day(store):
    last = SCALE.end - dt.timedelta(days=20)
    frame, _ = f.property_days(store, until=last)
    assert frame.play_date.max() == last
    with pytest.raises(DataUnusable, match="has no rows up to"):
        f.property_days(store, until=SCALE.start - dt.timedelta(days=1))


def test_too_few_dates_are_refused(tmp_path):
    store = Lakehouse(tmp_path)
    synthesise(store, Scale(properties=1, machines=1, days=3))
    frame, _ = f.property_days(store)
    with pytest.raises(DataUnusable, match="cannot be split 70/15/15"):
        f.split(store, frame)
    assert not store.exists(HOLDOUT)


def test_scale_is_checked_before_anything_is_written(tmp_path):
    with pytest.raises(UsageProblem):
        synthesise(Lakehouse(tmp_path), Scale(days=0))
    assert Lakehouse(tmp_path).tables() == []
