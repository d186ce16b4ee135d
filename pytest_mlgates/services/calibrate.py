"""Per-feature PSI limits from the stable past: each past window against what was before it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.services.monitor import past_comparison
from pytest_mlgates.services.windows import load_windows

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import ModelRegistry, TableStore

MARGIN = 1.25  # past windows are few: the largest of 30 is about the 97th percentile
LEAST = 0.02  # a feature that never moved (a weekday) must not alarm at the first rounding
_MIN_WINDOWS, _MAX_WINDOWS = 4, 30


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """Largest PSI of each feature over past windows times `MARGIN`, and how many windows would have alarmed."""

    limits: dict[str, float]
    windows: int
    window_days: int
    alarms: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)


def calibrate_limits(
    registry: ModelRegistry, store: TableStore, settings: Settings, model: str, *, version: str | None = None
) -> Calibration:
    """Run the comparison for every past window that a full reference precedes, without writing anything.

    The newest window is left out: it is the one that may have drifted.

    Raises
    ------
    DataUnusable
        Fewer than four past windows.
    """
    spec = settings.model(model).drift
    newest = load_windows(store, spec, columns=[], reference=spec.reference_days).current.last
    assert newest is not None
    psi: dict[str, list[float]] = {}
    windows = alarms = 0
    for back in range(1, _MAX_WINDOWS + 1):
        last = newest - dt.timedelta(days=back * spec.current_days)
        midnight = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), dt.UTC)
        windows_then, report = past_comparison(registry, store, settings, model, version, midnight)
        reference = windows_then.reference
        covered = 0 if reference.days is None else np.unique(reference.days).size
        if covered < 0.9 * spec.reference_days:
            break
        windows += 1
        alarms += report.verdict.value == "drift"
        for feature in report.features:
            if feature.psi is not None:
                psi.setdefault(feature.feature, []).append(feature.psi)
    if windows < _MIN_WINDOWS:
        raise DataUnusable(
            f"{spec.table} has {windows} past windows of {spec.current_days} days with {spec.reference_days} days before them, "
            f"{_MIN_WINDOWS} needed; fill in older rows, or take fewer reference days"
        )
    limits = {name: max(MARGIN * max(values), LEAST) for name, values in psi.items()}
    return Calibration(limits, windows, spec.current_days, alarms)
