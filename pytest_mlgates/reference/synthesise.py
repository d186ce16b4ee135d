"""Slot revenue at machine-day grain, made up from a seed.

A property's revenue on a day is drawn first, and then split among its machines. So the property-day figures, which the
models see, do not depend on how many machines there are: a table of 10 machines a property trains the same models as one
of 140. Every draw belongs to one property and one date, whatever the window: a longer window, or a later one, repeats the
days that it shares with a shorter, and new days can be appended.

What the figures hold: a level per property, a weekly cycle, an annual cycle, pay days (monthly), holidays, two promotion
days a week and property, and noise. What no linear model of the five inputs catches: in the properties with an odd number
promotions fill the weekdays, in the others the weekends; and a holiday makes a weekday busy, but a weekend hardly busier.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.ports import TableStore
from pytest_mlgates.reference.holidays import holidays
from pytest_mlgates.tables import FACT

HISTORY = "lh_silver.daily_slot_history"
WARM_UP_DAYS = 30  # the longest lag of the model's inputs
DEFAULT_END = dt.date(2026, 4, 26)

FACT_SCHEMA = pa.schema(
    [
        ("property_id", pa.int64()),
        ("machine_id", pa.int64()),
        ("play_date", pa.date32()),
        ("revenue", pa.float64()),
        ("is_holiday", pa.int8()),
        ("promo_active", pa.int8()),
    ]
)
HISTORY_SCHEMA = pa.schema(
    [
        ("property_id", pa.int64()),
        ("play_date", pa.date32()),
        ("revenue", pa.float64()),
        ("is_holiday", pa.int8()),
        ("promo_active", pa.int8()),
    ]
)

_EPOCH = dt.date(2020, 1, 6)  # a Monday; draws are counted from here, so no window may begin earlier
_PROMOTION_DAYS_A_WEEK = 2
_LOWEST_LEVEL, _HIGHEST_LEVEL = 222_000.0, 560_000.0  # dollars a property-day before the multipliers below
_WEEKDAY = np.array([0.86, 0.82, 0.86, 0.93, 1.15, 1.30, 1.08])  # Monday first; mean 1
_ANNUAL, _HALF_YEARLY, _PAY_DAYS = 0.05, 0.02, 0.03
_LIFT_STRONG, _LIFT_WEAK = 0.45, 0.05  # of a promotion, on the days that it suits and on the others
_HOLIDAY_WEEKDAY, _HOLIDAY_WEEKEND = 0.40, 0.10
_NOISE = 0.04  # standard deviation of the logarithm
_MACHINE_SHAPE = 12.0  # gamma shape of a machine's share of a day: about 29 % variation from day to day
_FRIDAY = 4

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How much to make up.

    Attributes
    ----------
    properties, machines
        Properties, and machines in each.
    days
        Dates in the fact table, the last of them ``end``.
    end
        The last date.
    seed
        Whole number that fixes every figure.
    shift_from, level_shift
        From the date on, revenue is multiplied by ``level_shift``: a change of the world for the drift run to find.
    """

    properties: int = 20
    machines: int = 140
    days: int = 365
    end: dt.date = DEFAULT_END
    seed: int = 7
    shift_from: dt.date | None = None
    level_shift: float = 1.0

    def __post_init__(self) -> None:
        for name in ("properties", "machines", "days"):
            if getattr(self, name) < 1:
                raise UsageProblem(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise UsageProblem(f"seed is {self.seed}; it must not be negative")
        if not self.level_shift > 0:
            raise UsageProblem(f"level shift is {self.level_shift}; it is a factor on revenue and must be above 0")
        if self.start - dt.timedelta(days=WARM_UP_DAYS) < _EPOCH:
            earliest = _EPOCH + dt.timedelta(days=WARM_UP_DAYS)
            raise UsageProblem(
                f"the first date would be {self.start}; the earliest is {earliest}: take a later end or fewer days"
            )

    @property
    def start(self) -> dt.date:
        """The first date in the fact table."""
        return self.end - dt.timedelta(days=self.days - 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Synthesised:
    """What was written."""

    rows: int
    version: int
    start: dt.date
    end: dt.date


def synthesise(store: TableStore, scale: Scale | None = None) -> Synthesised:
    """Write the fact table anew, and the month before it at property-day grain.

    The month before (`HISTORY`) is there so that the 30-day lag is known from the first date of the fact table on.
    """
    scale = scale or Scale()
    table = fact(scale)
    store.overwrite(HISTORY, history(scale))
    version = store.overwrite(FACT, table)
    return Synthesised(table.num_rows, version, scale.start, scale.end)


def extend(store: TableStore, scale: Scale) -> Synthesised:
    """Append the days after the fact table's last date, up to ``scale.end``; earlier days stay as they are.

    Raises
    ------
    UsageProblem
        When the table already reaches ``scale.end``.
    """
    last = pc.max(store.read(FACT, columns=["play_date"]).column("play_date")).as_py()
    days = (scale.end - last).days
    if days < 1:
        raise UsageProblem(f"{FACT} already reaches {last}; give an end after it")
    wanted = dataclasses.replace(scale, days=days)
    table = fact(wanted)
    return Synthesised(table.num_rows, store.append(FACT, table), wanted.start, wanted.end)


def fact(scale: Scale) -> pa.Table:
    """Return the machine-day rows, ordered by property, date and machine (shape: properties × days × machines)."""
    days = _Days(scale.start, scale.days)
    columns: dict[str, list[npt.NDArray[np.generic]]] = {field.name: [] for field in FACT_SCHEMA}
    for number in range(1, scale.properties + 1):
        revenue, promo = _property_days(number, days, scale)
        shape = (scale.days, scale.machines)
        columns["property_id"].append(np.full(scale.days * scale.machines, number))
        columns["machine_id"].append(np.tile(np.arange(1, scale.machines + 1), scale.days))
        columns["play_date"].append(np.repeat(days.dates, scale.machines))
        columns["revenue"].append(_split(revenue, number, days, scale).ravel())
        columns["is_holiday"].append(np.broadcast_to(days.holiday[:, None], shape).astype(np.int8).ravel())
        columns["promo_active"].append(np.broadcast_to(promo[:, None], shape).astype(np.int8).ravel())
    return pa.table({name: np.concatenate(parts) for name, parts in columns.items()}, schema=FACT_SCHEMA)


def history(scale: Scale) -> pa.Table:
    """Return the property-day rows of the 30 days before the fact table."""
    days = _Days(scale.start - dt.timedelta(days=WARM_UP_DAYS), WARM_UP_DAYS)
    parts = []
    for number in range(1, scale.properties + 1):
        revenue, promo = _property_days(number, days, scale)
        columns = [
            pa.array(np.full(WARM_UP_DAYS, number)),
            pa.array(days.dates),
            pa.array(np.round(revenue, 2)),
            pa.array(days.holiday.astype(np.int8)),
            pa.array(promo.astype(np.int8)),
        ]
        parts.append(pa.table(columns, schema=HISTORY_SCHEMA))
    return pa.concat_tables(parts)


def content_digest(table: pa.Table) -> str:
    """``sha256:`` over names, types and values of a table, in the order of its rows, whatever its chunks."""
    digest = hashlib.sha256()
    for field in table.schema:
        digest.update(f"{field.name} {field.type}\n".encode())
        values = table.column(field.name).combine_chunks()
        digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes())
    return f"sha256:{digest.hexdigest()}"


class _Days:
    """The calendar of a window: what is the same for every property."""

    def __init__(self, start: dt.date, count: int) -> None:
        self.offset = (start - _EPOCH).days
        dates = [start + dt.timedelta(days=i) for i in range(count)]
        self.dates = np.array(dates, dtype="datetime64[D]")
        busy = frozenset().union(*(holidays(year) for year in range(dates[0].year, dates[-1].year + 1)))
        self.holiday: Flags = np.array([date in busy for date in dates])
        self.weekday = np.array([date.weekday() for date in dates])
        turn = 2 * np.pi * np.array([date.timetuple().tm_yday for date in dates]) / 365.25
        month_day = np.array([date.day for date in dates])
        pay_day = (month_day <= 3) | ((month_day >= 15) & (month_day <= 17))
        # the annual cycle is highest in mid-July and lowest in mid-January
        annual = 1 + _ANNUAL * np.sin(turn - 2 * np.pi * 105 / 365.25) + _HALF_YEARLY * np.cos(2 * turn)
        self.season: Floats = annual * (1 + _PAY_DAYS * pay_day) * _WEEKDAY[self.weekday]


def _property_days(number: int, days: _Days, scale: Scale) -> tuple[Floats, Flags]:
    """Revenue in dollars and whether a promotion runs, shape (days,) each, of property ``number`` (from 1)."""
    position = (number - 1) / max(scale.properties - 1, 1) if scale.properties > 1 else 0.5
    level = _LOWEST_LEVEL * (_HIGHEST_LEVEL / _LOWEST_LEVEL) ** position
    promo = _promotions(number, days, scale.seed)
    weekend = days.weekday >= _FRIDAY
    suits = weekend if number % 2 == 0 else ~weekend
    lift = np.where(promo, np.where(suits, _LIFT_STRONG, _LIFT_WEAK), 0.0)
    crowd = np.where(days.holiday, np.where(weekend, _HOLIDAY_WEEKEND, _HOLIDAY_WEEKDAY), 0.0)
    # drawn from the first day there is, so that a date's noise does not depend on the window
    noise = np.random.default_rng([scale.seed, number, 0]).standard_normal(days.offset + len(days.dates))[days.offset :]
    # a full floor cannot be filled twice: the stronger of the two lifts counts
    revenue = level * days.season * np.exp(_NOISE * noise) * (1 + np.maximum(lift, crowd))
    if scale.shift_from is not None:
        revenue = np.where(days.dates >= np.datetime64(scale.shift_from), revenue * scale.level_shift, revenue)
    return revenue, promo


def _promotions(number: int, days: _Days, seed: int) -> Flags:
    """Two promotion days in every week from Monday to Sunday, shape (days,)."""
    weeks = (days.offset + len(days.dates)) // 7 + 1
    order = np.random.default_rng([seed, number, 1]).random((weeks, 7)).argsort(axis=1)
    chosen: Flags = order.argsort(axis=1) < _PROMOTION_DAYS_A_WEEK
    return chosen.ravel()[days.offset : days.offset + len(days.dates)]


def _split(revenue: Floats, number: int, days: _Days, scale: Scale) -> Floats:
    """Split each day's revenue among the machines, in whole cents, shape (days, machines)."""
    share = np.empty((len(revenue), scale.machines))
    for row in range(len(revenue)):
        share[row] = np.random.default_rng([scale.seed, number, 2, days.offset + row]).gamma(
            _MACHINE_SHAPE, size=scale.machines
        )
    machine = np.random.default_rng([scale.seed, number, 3]).gamma(_MACHINE_SHAPE, size=scale.machines)
    share *= machine
    # what rounding leaves over goes to the last machine, so that the day's sum does not depend on how many machines share it
    cents = np.floor(share / share.sum(axis=1, keepdims=True) * revenue[:, None] * 100)
    cents[:, -1] += np.round(revenue * 100) - cents.sum(axis=1)
    return np.asarray(cents / 100, dtype=np.float64)
