"""``--mlgates-prove``: known-bad mutants of the version go through the gates; one that survives names the threshold to mend."""

import pytest

from pytest_mlgates.services.prove import proof_result, prove


@pytest.mark.mlgate("proving")
def test_gate_proving(candidate, holdout, baseline, judge):
    judge(proof_result(prove(candidate, holdout, baseline)))
