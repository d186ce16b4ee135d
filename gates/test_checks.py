"""Further checks, each an item of its own; ``[models."…".checks]`` switches them off or declares what they judge."""

import pytest

from pytest_mlgates import checks


@pytest.mark.mlgate("schema")
def test_check_schema(candidate, rows, raw_predict, judge):
    judge(checks.schema([(c.name, c.type) for c in candidate.inputs], rows, predict=raw_predict))


@pytest.mark.mlgate("determinism")
def test_check_determinism(rows, raw_predict, judge):
    judge(checks.determinism(raw_predict, rows.head(500)))


@pytest.mark.mlgate("batch")
def test_check_batch(rows, raw_predict, judge):
    judge(checks.single_row_equals_batch(raw_predict, rows.head(500)))


@pytest.mark.mlgate("robustness")
def test_check_robustness(model_settings, rows, raw_predict, judge):
    bounds = model_settings.checks.bounds
    judge(checks.robustness(raw_predict, rows, low=bounds.low, high=bounds.high))


@pytest.mark.mlgate("bounds")
def test_check_bounds(model_settings, predictions, judge):
    bounds = model_settings.checks.bounds
    judge(checks.bounds(predictions, low=bounds.low, high=bounds.high))


@pytest.mark.mlgate("monotonicity")
def test_check_monotonicity(candidate, model_settings, rows, judge):
    judge(checks.monotonicity(candidate.predict, rows.head(2000), model_settings.checks.monotonicity))


@pytest.mark.mlgate("feature_leakage")
def test_check_feature_leakage(model_settings, holdout, rows, judge):
    judge(checks.single_feature_leakage(holdout.y, rows, task=model_settings.task))


@pytest.mark.mlgate("dummy")
def test_check_dummy(model_settings, holdout, predictions, judge):
    judge(checks.better_than_dummy(holdout.y, predictions, task=model_settings.task, confidence=model_settings.confidence))


@pytest.mark.mlgate("weak_slices")
def test_check_weak_slices(model_settings, holdout, predictions, rows, judge):
    judge(
        checks.weak_slices(
            holdout.y,
            predictions,
            rows,
            task=model_settings.task,
            max_ratio=model_settings.checks.max_slice_ratio,
            confidence=model_settings.confidence,
        )
    )


@pytest.mark.mlgate("slices")
def test_check_slices(model_settings, holdout, predictions, judge):
    judge(checks.declared_slices(holdout.y, predictions, holdout.frame, model_settings.checks.slices, task=model_settings.task))
