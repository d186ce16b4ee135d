"""NannyML's packaged data: their published figures, and no alarm but the five documented ones.

The two files are read from the wheel (nothing of it is imported); the figures are those of its documentation for version
0.13 (tutorials "Univariate Drift Detection", "Realized Performance" for binary classification and for regression).
"""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from pytest_mlgates.drift import compare
from pytest_mlgates.drift.performance import auc, performance_drift, rmse

VERSION = "0.13.1"
KS = {"debt_to_income_ratio": [0.01576, 0.01268, 0.01734, 0.0128, 0.01918, 0.00824, 0.01058, 0.01002, 0.01068, 0.0068]}
AUC = [0.970962, 0.970248, 0.976282, 0.967721, 0.969886, 0.96005, 0.95853, 0.959041, 0.963094, 0.957556]
RMSE = [
    1069.172249,
    1067.645853,
    1062.412729,
    1076.236810,
    1060.323378,
    910.818035,
    910.875061,
    890.104943,
    914.284947,
    908.810035,
]
INPUTS = [
    "car_value", "salary_range", "debt_to_income_ratio", "loan_length", "repaid_loan_on_prev_car", "size_of_downpayment",
    "driver_tenure", "y_pred_proba", "y_pred",
]  # fmt: skip
DRIFTED = {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car", "y_pred_proba"}


@pytest.fixture(scope="module")
def data():
    """A reader of the wheel's files; the wheel is fetched once into the cache (MLGATES_NANNYML_WHEEL names one by hand)."""
    named = os.environ.get("MLGATES_NANNYML_WHEEL")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlgates" / "nannyml"
    wheel = Path(named) if named else folder / f"nannyml-{VERSION}-py3-none-any.whl"
    if not wheel.is_file():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(folder),
            f"nannyml=={VERSION}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if not wheel.is_file():
            pytest.skip(f"nannyml {VERSION} cannot be fetched ({done.stderr.strip()[-200:]}); name it in MLGATES_NANNYML_WHEEL")
    archive = zipfile.ZipFile(wheel)
    return lambda name: pd.read_csv(io.BytesIO(archive.read(f"nannyml/datasets/data/{name}.csv")))


@pytest.fixture(scope="module")
def loans(data):
    frames = [data("synthetic_car_loan_reference"), data("synthetic_car_loan_analysis")]
    return [f.assign(y_pred=f.y_pred.astype(str)) for f in frames]


@pytest.mark.parametrize("chunk", range(10))
def test_car_loans(loans, chunk):
    """Chunks 0-4 are quiet; in 5-9 exactly the five documented columns drift; KS within 5e-4 of the (binned) published one."""
    reference, analysis = loans
    found = compare(reference[INPUTS], analysis[INPUTS].iloc[5000 * chunk : 5000 * (chunk + 1)])
    assert {f.feature for f in found.drifted} == (DRIFTED if chunk >= 5 else set())
    for feature, published in KS.items():
        assert found[feature].ks == pytest.approx(published[chunk], abs=5e-4)


def test_realised_auc(data, loans):
    rows = loans[1].merge(data("synthetic_car_loan_analysis_target"), on="id")
    found = [round(auc(c["repaid"], c["y_pred_proba"]), 6) for _, c in rows.groupby(rows.index // 5000)]
    assert found == AUC


def test_realised_rmse_and_the_metric_that_disagrees(data):
    """To every published digit. In the drifted chunks the RMSE improves while the MAPE worsens: one metric alone is blind."""
    reference = data("regression_synthetic_reference")
    analysis = data("regression_synthetic_analysis").merge(data("regression_synthetic_analysis_targets"), on="id")
    chunks = [c for _, c in analysis.groupby(analysis.index // 6000)]
    assert [round(rmse(c["y_true"], c["y_pred"]), 6) for c in chunks] == RMSE
    then = (reference["y_true"], reference["y_pred"])
    blocks = reference.index // 6000
    found = [performance_drift("regression", (c["y_true"], c["y_pred"]), then, reference_blocks=blocks) for c in chunks]
    assert [f.verdict.value for f in found] == ["stable"] * 5 + ["drift"] * 5
    assert all(f.disagree and f.get("rmse").improved and f.get("mape").low > 0 for f in found[5:])
