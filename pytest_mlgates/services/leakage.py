"""Whether the holdout was held out: what a version's run recorded of its training, beside the holdout of today."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_mlgates import stats
from pytest_mlgates.errors import DataUnusable, nearest

if TYPE_CHECKING:
    from pytest_mlgates.services.evaluate import Candidate, Holdout, Scores


def leakage_evidence(candidate: Candidate, holdout: Holdout, predictions: Scores) -> dict[str, Any]:
    """Return what `checks.holdout` takes to look for shared rows, a holdout that precedes training, and a train-holdout gap.

    What the run did not record is left out, and then not judged.

    Raises
    ------
    DataUnusable
        The settings name a time column that the holdout or the stored training rows lack.
    """
    found: dict[str, Any] = {}
    if (hashes := candidate.hashes(holdout)) is not None:
        found |= {"train_hashes": candidate.training_rows, "holdout_hashes": hashes}
    if column := candidate.settings.gates.holdout.time_column:
        found |= {"train_times": _training_times(candidate, column), "holdout_times": _holdout_times(holdout, column)}
    return found | _scores(candidate, holdout, predictions)


def _training_times(candidate: Candidate, column: str) -> Any:
    times = candidate.training_times(column)
    if times is None:
        raise DataUnusable(
            f"gates.holdout.time_column is {column!r}, and the run of {candidate.label} stored no such column with its training rows; "
            f"add it to mlgates/training_rows.parquet beside row_hash, or take the setting out"
        )
    return times


def _holdout_times(holdout: Holdout, column: str) -> Any:
    if column not in holdout.frame.columns:
        known = [str(c) for c in holdout.frame.columns]
        raise DataUnusable(f"gates.holdout.time_column is {column!r}, which {holdout.source} lacks; {nearest(column, known)}")
    return holdout.frame[column].to_numpy()


def _scores(candidate: Candidate, holdout: Holdout, predictions: Scores) -> dict[str, Any]:
    """The metric of gate 1 on the training rows, as recorded, and on the holdout, as it is; empty where it was not recorded."""
    settings = candidate.settings
    at_training = candidate.training_metrics.get("train", {})
    recorded = at_training.get(settings.metric) if isinstance(at_training, dict) else None
    if not isinstance(recorded, (int, float)) or settings.metric not in stats.METRICS:
        return {}
    try:
        now = stats.metric(holdout.y, predictions, settings.metric, task=settings.task).value
    except DataUnusable:  # gate 1 says what is wrong with it
        return {}
    return {
        "train_score": float(recorded),
        "holdout_score": now,
        "higher_is_better": stats.METRICS[settings.metric].higher_is_better,
    }
