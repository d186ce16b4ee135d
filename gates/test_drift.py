"""Drift of a model's rows: one item per input and drift type (``pytest --model-name NAME --model-version V --mlgates-drift``)."""

import pytest

from pytest_mlgates.services.drift_gate import drift_result


@pytest.mark.mlgate("drift")
def test_drift(drift_run, drift_item, judge):
    judge(drift_result(drift_run, drift_item))
