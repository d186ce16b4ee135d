"""Estimators: pure functions on arrays, each with its uncertainty. Nothing here reads a file, a clock or the environment."""

from pytest_mlgates.stats.arrays import NotEnough
from pytest_mlgates.stats.calibration import (
    CalibrationError,
    calibration_error,
    observed_expected,
    probability_bins,
    quantile_bins,
    smooth_calibration_error,
)
from pytest_mlgates.stats.comparison import Comparison, compare
from pytest_mlgates.stats.delong import auc, auc_difference
from pytest_mlgates.stats.groups import error_ratio, group_codes, group_table, named_columns, parity_ratio, rate_gap
from pytest_mlgates.stats.interval import Measured, adjusted_confidence, from_influence, rows_to_settle
from pytest_mlgates.stats.metrics import METRICS, TASKS, Metric, Problem, infer_task, terms
from pytest_mlgates.stats.proportions import quantile_interval, share_bounds, share_difference, share_ratio, wilson
from pytest_mlgates.stats.tail import FEWEST_CALLS, LOOKS, TailShare, tail_share

__all__ = [
    "FEWEST_CALLS",
    "LOOKS",
    "METRICS",
    "TASKS",
    "CalibrationError",
    "Comparison",
    "Measured",
    "Metric",
    "NotEnough",
    "Problem",
    "TailShare",
    "adjusted_confidence",
    "auc",
    "auc_difference",
    "calibration_error",
    "compare",
    "error_ratio",
    "from_influence",
    "group_codes",
    "group_table",
    "infer_task",
    "named_columns",
    "observed_expected",
    "parity_ratio",
    "probability_bins",
    "quantile_bins",
    "quantile_interval",
    "rate_gap",
    "rows_to_settle",
    "share_bounds",
    "share_difference",
    "share_ratio",
    "smooth_calibration_error",
    "tail_share",
    "terms",
    "wilson",
]
