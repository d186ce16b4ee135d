"""Estimators: pure functions on arrays, each with its uncertainty. Nothing here reads a file, a clock or the environment.

Estimators, which take arrays and return an `Estimate` (value, low, high, n, method, confidence):

    metric, difference, ratio        R², RMSE, MAE, MAPE, AUC, accuracy, F1, log-loss, Brier score, any scikit-learn scorer by name;
                                     of one model, and paired against a baseline on the same rows
    expected_calibration_error       debiased; binary, of the top label, class-wise, of a regressor
    smooth_calibration_error         without bins
    observed_expected                ratio of observed to expected events
    demographic_parity_ratio, equal_opportunity_difference, equalized_odds_difference, group_error_ratio
    quantile_interval                of any quantile, by order statistics
    wilson, share_ratio, share_difference

    e_value                          of two models watched side by side, an `EValue`
    rows_to_settle                   the rows at which an INCONCLUSIVE verdict would be settled

Building blocks of the gates, which take data that were checked before:

    compare                          a candidate against a baseline, with the margin that gate 1 judges (`Comparison`)
    tail_share                       the share of calls over an objective, also when slow calls come in runs
    calibration_error                of a table from `probability_bins` or `quantile_bins`
    parity_ratio, rate_gap, error_ratio
                                     worst pair of a `group_table`, with the one-sided bounds of gate 3
    auc, auc_difference, terms, from_influence, tail_df
                                     a `Measured`: value and standard error
    adjusted_confidence, share_bounds, group_codes, named_columns, infer_task
"""

from pytest_mlgates.results import Estimate
from pytest_mlgates.stats.arrays import NotEnough
from pytest_mlgates.stats.calibration import (
    CalibrationError,
    calibration_error,
    observed_expected,
    probability_bins,
    quantile_bins,
)
from pytest_mlgates.stats.comparison import Comparison, compare
from pytest_mlgates.stats.delong import auc, auc_difference
from pytest_mlgates.stats.estimators import (
    demographic_parity_ratio,
    difference,
    equal_opportunity_difference,
    equalized_odds_difference,
    expected_calibration_error,
    group_error_ratio,
    metric,
    ratio,
    smooth_calibration_error,
)
from pytest_mlgates.stats.evalue import EValue, e_value
from pytest_mlgates.stats.groups import error_ratio, group_codes, group_table, named_columns, parity_ratio, rate_gap
from pytest_mlgates.stats.interval import Measured, adjusted_confidence, from_influence, rows_to_settle, tail_df
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
    "EValue",
    "Estimate",
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
    "demographic_parity_ratio",
    "difference",
    "e_value",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "error_ratio",
    "expected_calibration_error",
    "from_influence",
    "group_codes",
    "group_error_ratio",
    "group_table",
    "infer_task",
    "metric",
    "named_columns",
    "observed_expected",
    "parity_ratio",
    "probability_bins",
    "quantile_bins",
    "quantile_interval",
    "rate_gap",
    "ratio",
    "rows_to_settle",
    "share_bounds",
    "share_difference",
    "share_ratio",
    "smooth_calibration_error",
    "tail_df",
    "tail_share",
    "terms",
    "wilson",
]
