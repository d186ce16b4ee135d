"""From machine-day facts to the property-day rows of the model: inputs, target, split and the permanent holdout.

A row has no lag where the property has no revenue 7 or 30 days before it. The synthesised lakehouse holds the month before
the fact table at property-day grain (`synthesise.HISTORY`), so there every property-day has both lags; without that table
the first 30 days are aggregated, but are not rows of the model.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa

from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.ports import TableStore
from pytest_mlgates.reference.synthesise import HISTORY
from pytest_mlgates.tables import FACT, HOLDOUT, SILVER

FEATURES_TABLE = "lh_gold.slot_revenue_features"
KEYS = ["property_id", "play_date"]
FEATURES = ["day_of_week", "is_holiday", "promo_active", "lag_7_revenue", "lag_30_revenue"]
TARGET = "revenue"
LAGS = (7, 30)
HOLDOUT_SHARE, VALIDATION_SHARE = 0.15, 0.15

_FACT_COLUMNS = [*KEYS, TARGET, "is_holiday", "promo_active"]
_ROW = [("property_id", pa.int64()), ("play_date", pa.date32()), *((f, pa.float64()) for f in FEATURES)]
FEATURES_SCHEMA = pa.schema([*_ROW, (TARGET, pa.float64())])
SILVER_SCHEMA = pa.schema([*_ROW, (TARGET, pa.float64()), ("predicted_revenue", pa.float64())])


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """Rows by their part, each ordered by property and date; no date is in two parts.

    On the first training the parts follow each other in time. Once the holdout is permanent, later dates join training and
    validation: the last of the dates that are not in the holdout are validation.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    holdout: pd.DataFrame
    holdout_version: int


def property_days(store: TableStore, *, until: dt.date | None = None) -> tuple[pd.DataFrame, int]:
    """Aggregate the fact table to property-days and add the model's inputs.

    Parameters
    ----------
    store
        The lakehouse.
    until
        The last date to read; all of them when absent.

    Returns
    -------
    frame, version
        One row a property and date, ordered so, with ``FEATURES`` as float64 (a lag that is not known is NaN) and the day's
        revenue in dollars, rounded to the cent; and the version of the fact table that was read.

    Raises
    ------
    DataUnusable
        ``play_date`` is no DATE, or there are no rows.
    """
    version = store.version(FACT)
    facts = store.read(FACT, columns=_FACT_COLUMNS, version=version)
    require_date(facts.schema.field("play_date").type, FACT)
    daily = _daily(facts)
    first = daily.play_date.min()
    if store.exists(HISTORY):
        before = store.read(HISTORY, columns=_FACT_COLUMNS)
        require_date(before.schema.field("play_date").type, HISTORY)
        before_frame = _daily(before)
        daily = pd.concat([before_frame[before_frame.play_date < first], daily])
    if until is not None:
        daily = daily[daily.play_date <= until]
    if daily.empty or first > daily.play_date.max():
        raise DataUnusable(f"{FACT} has no rows{f' up to {until}' if until else ''}; fill it with pipelines/synthesise.py")
    frame = _with_inputs(daily)
    return frame[frame.play_date >= first].reset_index(drop=True), version


def write_features(store: TableStore, frame: pd.DataFrame) -> None:
    """Write the model's rows (`FEATURES_TABLE`, both lags known) and every property-day (the silver table, for batch scoring).

    Predictions that the silver table holds already are kept. Nothing is written where the tables hold just these rows
    already, so that daily runs make no versions without a change.
    """
    rows = with_lags(frame)
    _overwrite_if_new(store, FEATURES_TABLE, pa.Table.from_pandas(rows, FEATURES_SCHEMA, preserve_index=False))
    if store.exists(SILVER):
        before = pd.DataFrame(store.read(SILVER, columns=[*KEYS, "predicted_revenue"]).to_pandas())
        scored = frame.merge(before.astype({"predicted_revenue": "float64"}), on=KEYS, how="left")
    else:
        scored = frame.assign(predicted_revenue=np.nan)
    silver = pa.Table.from_pandas(scored, SILVER_SCHEMA, preserve_index=False)
    _overwrite_if_new(store, SILVER, silver)


def with_lags(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have every input."""
    return frame.dropna(subset=FEATURES).reset_index(drop=True)


def split(store: TableStore, frame: pd.DataFrame) -> Split:
    """Split 70/15/15 by date, write the holdout once, and use the one that is there ever after.

    The holdout is the last 15 % of the dates of the first training. It is permanent: a later call reads it as it was stored,
    and leaves all its keys out of training, also where the fact table was corrected or re-made since.

    Raises
    ------
    DataUnusable
        Too few dates to give each part one, or none outside the holdout.
    """
    if not store.exists(HOLDOUT):
        dates = np.sort(frame.play_date.unique())
        size = round(len(dates) * HOLDOUT_SHARE)
        if size < 1:
            raise DataUnusable(f"{len(dates)} dates cannot be split 70/15/15; at least 4 with both lags are needed")
        held = frame[frame.play_date >= dates[-size]]
        store.overwrite(HOLDOUT, pa.Table.from_pandas(held[[*KEYS, *FEATURES, TARGET]], FEATURES_SCHEMA, preserve_index=False))
    version = store.version(HOLDOUT)
    holdout = read_holdout(store, version)
    rest = frame[~frame.play_date.isin(set(holdout.play_date))]
    dates = np.sort(rest.play_date.unique())
    size = round(len(dates) * VALIDATION_SHARE / (1 - HOLDOUT_SHARE))
    if size < 1 or size >= len(dates):
        raise DataUnusable(f"{len(dates)} dates outside the holdout {HOLDOUT} leave none for training; synthesise more days")
    later = rest.play_date >= dates[-size]
    return Split(rest[~later].reset_index(drop=True), rest[later].reset_index(drop=True), holdout, version)


def read_holdout(store: TableStore, version: int) -> pd.DataFrame:
    """Read the holdout in the order of its keys; the position in it is ``row_id`` of the expected predictions."""
    table = store.read(HOLDOUT, columns=[*KEYS, *FEATURES, TARGET], version=version)
    return pd.DataFrame(table.to_pandas()).sort_values(KEYS).reset_index(drop=True)


def restated_rows(frame: pd.DataFrame, holdout: pd.DataFrame) -> int:
    """Count holdout rows whose revenue in today's fact table is another than when the holdout was stored."""
    both = holdout[[*KEYS, TARGET]].merge(frame[[*KEYS, TARGET]], on=KEYS, suffixes=("", "_now"))
    return int((~np.isclose(both[TARGET], both[f"{TARGET}_now"], rtol=1e-9)).sum())


def require_date(kind: pa.DataType, table: str) -> None:
    """Refuse a ``play_date`` that is no DATE. Raises DataUnusable."""
    if not pa.types.is_date(kind):
        raise DataUnusable(
            f"{table}.play_date is {kind}, expected DATE (dates cannot be subtracted otherwise: cannot resolve 'datediff'); "
            "cast to DATE in Silver before promoting to Gold: CAST(play_date AS DATE)"
        )


def _daily(facts: pa.Table) -> pd.DataFrame:
    # one thread: the order of summation, and so the last bits of a sum, must not depend on the machine
    grouped = facts.group_by(KEYS, use_threads=False).aggregate(
        [(TARGET, "sum"), ("is_holiday", "max"), ("promo_active", "max")]
    )
    daily = pd.DataFrame(grouped.to_pandas()).rename(
        columns={f"{TARGET}_sum": TARGET, "is_holiday_max": "is_holiday", "promo_active_max": "promo_active"}
    )
    daily[TARGET] = daily[TARGET].round(2)
    return daily


def _with_inputs(daily: pd.DataFrame) -> pd.DataFrame:
    frame = daily.sort_values(KEYS).reset_index(drop=True)
    frame["day_of_week"] = [date.weekday() for date in frame.play_date]
    known = frame.set_index(KEYS)[TARGET]
    for lag in LAGS:
        # by date, not by row: a property that was closed for a day must not be given another day's revenue
        earlier = [date - dt.timedelta(days=lag) for date in frame.play_date]
        wanted = pd.MultiIndex.from_arrays([frame.property_id, earlier], names=KEYS)
        frame[f"lag_{lag}_revenue"] = known.reindex(wanted).to_numpy()
    frame[FEATURES] = frame[FEATURES].astype("float64")
    return frame[[*KEYS, *FEATURES, TARGET]]


def _overwrite_if_new(store: TableStore, name: str, rows: pa.Table) -> None:
    if store.exists(name):
        there = store.read(name)
        if there.column_names == rows.column_names and there.num_rows == rows.num_rows:
            order = [(key, "ascending") for key in KEYS]
            if there.sort_by(order).combine_chunks().equals(rows.sort_by(order).combine_chunks()):
                return
    store.overwrite(name, rows)
