"""A scaled-down run of benchmarks/interval_coverage.py: no estimator's interval is far from its nominal coverage."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"


def load():
    spec = importlib.util.spec_from_file_location("interval_coverage", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["interval_coverage"] = module
    spec.loader.exec_module(module)
    module.TRUTH_ROWS = 150_000
    return module


COVERAGE = load()


@pytest.mark.parametrize("study", [s for s in COVERAGE.studies() if not s.slow], ids=lambda s: s.name)
def test_interval_holds_the_truth_about_95_times_in_100(study):
    held, of = COVERAGE.coverage(study, 300, 200, seed=4)
    assert not COVERAGE.outside(study, held, of), f"{held} of {of}"


def test_a_wrong_interval_is_found_out():
    """The same simulation with intervals of half the width does not pass."""
    import dataclasses

    study = next(s for s in COVERAGE.studies() if s.name == "r2")

    def narrow(*data):
        e = study.estimate(*data)
        return dataclasses.replace(e, low=(e.low + e.value) / 2, high=(e.high + e.value) / 2)

    held, of = COVERAGE.coverage(dataclasses.replace(study, estimate=narrow, truth=None), 300, 300, seed=4)
    assert COVERAGE.outside(study, held, of)
