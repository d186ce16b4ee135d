"""The notebooks, cell by cell, in a project of their own; they import the public API and define nothing."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.docs.test_readme import churn  # noqa: F401 a fixture

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def code(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(path, folder, **environment):
    """As a kernel would: the cells in order, in one namespace."""
    path_like = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hidden = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MLGATES_"))}
    return subprocess.run(
        [sys.executable, "-c", "\n".join(code(path))], cwd=folder, env={**hidden, "PATH": path_like, **environment},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_thin(path):
    """No definitions, no outputs that were kept, nothing private of ours."""
    document = json.loads(path.read_text("utf-8"))
    assert all(not cell.get("outputs") for cell in document["cells"])
    for cell in code(path):
        for node in ast.walk(ast.parse(cell)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pytest_mlgates"):
                assert not any(a.name.startswith("_") for a in node.names)


@pytest.mark.slow(25)
def test_a_version_is_judged_and_the_verdicts_are_shown(churn):  # noqa: F811 the fixture
    done = run(NOTEBOOKS[-1], churn, MODEL_NAME="churn", MODEL_VERSION="3")
    assert done.returncode == 0, done.stderr
    assert "exit code 0" in done.stdout
    assert json.loads((churn / "gates.json").read_text())["results"]


def test_drift_is_named(tmp_path):
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"a": rng.normal(size=4000), "b": rng.normal(size=4000)})
    frame[:3000].to_parquet(tmp_path / "reference.parquet")
    frame[3000:].assign(b=frame["b"] + 0.8).to_parquet(tmp_path / "current.parquet")
    done = run(NOTEBOOKS[0], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 features moved: ['b']" in done.stdout
