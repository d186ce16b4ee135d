"""A run that leaves a gate out, or pretends, promotes nothing: a real run each, then a real promotion."""

import shutil

import pytest

from pytest_mlgates.cli import main
from pytest_mlgates.registry.store import MlflowRegistry

from .conftest import GOOD, SHUFFLED, DemandProject

MARKED = """
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.{mark}(reason="known"))
"""


@pytest.fixture
def project(gates, demand, pytester, tmp_path):
    """A copy of the registry and the tables, so that promotions of one test are not in the next."""
    copy = DemandProject(tmp_path / "copy")
    copy.folder.mkdir()
    shutil.copy(demand.folder / "mlflow.db", copy.folder / "mlflow.db")
    shutil.copytree(demand.folder / "lakehouse", copy.folder / "lakehouse")
    (pytester.path / "mlgates.toml").write_text(copy.settings)
    registry = MlflowRegistry(copy.uri)
    for version in (GOOD, SHUFFLED):
        if "mlgates.evidence_id" in registry.get("demand", str(version)).tags:  # left by another test
            registry.client.delete_model_version_tag("demand", str(version), "mlgates.evidence_id")
    return registry


def refused(pytester, capsys, registry, version):
    capsys.readouterr()
    settings = str(pytester.path / "mlgates.toml")
    code = main(["--settings", settings, "promote", "demand", str(version), "--to", "Staging", "--reason", "it was green"])
    assert code == 1
    assert registry.get("demand", str(version)).stage == "None"
    return capsys.readouterr().err


@pytest.mark.parametrize("words", [["-k", "performance or calibration"], ["-k", "no_such_gate"]], ids=["some", "none, exit 5"])
def test_a_selection_by_k(gates, project, pytester, capsys, words):
    done = gates("--model-name", "demand", "--model-version", GOOD, *words)
    assert done.ret != 0
    assert "demand v1 stays in None: it has no evidence" in refused(pytester, capsys, project, GOOD)


def test_a_deselected_gate(gates, project, pytester, capsys):
    done = gates("--model-name", "demand", "--model-version", GOOD, "--deselect=test_gate_4_latency.py")
    done.stdout.fnmatch_lines(["* 1 deselected *"])
    assert done.ret != 0
    assert "demand v1 stays in None: it has no evidence" in refused(pytester, capsys, project, GOOD)


def test_gates_marked_xfail(gates, project, pytester, capsys):
    pytester.makeconftest(MARKED.format(mark="xfail"))
    done = gates("--model-name", "demand", "--model-version", SHUFFLED, "-k", "performance")
    assert done.ret != 0
    said = refused(pytester, capsys, project, SHUFFLED)
    assert "gate performance: fail" in said or "it has no evidence" in said


def test_gates_marked_skip(gates, project, pytester, capsys):
    pytester.makeconftest(MARKED.format(mark="skip"))
    done = gates("--model-name", "demand", "--model-version", GOOD)
    assert done.ret != 0
    assert "demand v1 stays in None: it has no evidence" in refused(pytester, capsys, project, GOOD)


def test_a_run_without_the_plugin(gates, project, pytester, capsys):
    done = gates("-p", "no:mlgates", "--model-name", "demand", "--model-version", GOOD, subprocess=True)
    assert done.ret == 4
    assert "demand v1 stays in None: it has no evidence" in refused(pytester, capsys, project, GOOD)
