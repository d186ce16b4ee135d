"""The whole ring, once, as a newcomer runs it."""

import datetime as dt
import subprocess
import sys

import pytest
from deltalake import DeltaTable

from pytest_mlgates.cli import main
from pytest_mlgates.pages import document
from pytest_mlgates.quickstart import CHALLENGER, Quickstart
from pytest_mlgates.registry.store import MlflowRegistry
from pytest_mlgates.services import evidence_store
from pytest_mlgates.wiring import Project
from tests.report.traced import read, untrue

MLGATES = [sys.executable, "-c", "import sys; from pytest_mlgates.cli import main; sys.exit(main())"]


def mlgates(*words, cwd):
    return subprocess.run([*MLGATES, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, timeout=900)


@pytest.mark.slow(100)
def test_the_ring_closes(tmp_path):
    """Exit code 0, a line per step, real tables, a Production version, and commands that work on what it left."""
    folder = tmp_path / "qs"
    done = mlgates("quickstart", "--dir", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("step ") :]
    for title, _ in Quickstart(tmp_path).steps:
        assert any(line.startswith(title) and "  ok  " in line for line in table.splitlines()), title
    for name in ("fact_daily_slot_revenue", "ml_promotion_audit", "ml_drift_metrics", "ml_champion_challenger", "ml_alerts"):
        assert DeltaTable(str(folder / "lakehouse" / "lh_gold" / name)).version() >= 0
    for page in ("evidence.html", "operations.html"):
        assert f"  {folder / page}" in done.stdout
        assert CHALLENGER in (folder / page).read_text("utf-8")
    assert_the_pages_say_what_was_found(folder)
    registry = MlflowRegistry(f"sqlite:///{folder}/mlflow.db")
    stages = {v.version: v.stage for v in registry.versions(CHALLENGER)}
    assert stages["2"] == "Production"
    assert stages["3"] == "Staging"
    assert main(["--settings", str(folder / "mlgates.toml"), "audit", "verify"]) == 0
    refused = mlgates("quickstart", "--dir", folder, cwd=tmp_path)
    assert refused.returncode == 4
    assert "--fresh replaces it" in refused.stderr


def assert_the_pages_say_what_was_found(folder):
    """Every number on both pages against the sealed evidence, and against the tables as they are read here again."""
    project = Project.open(folder / "mlgates.toml")
    sealed = evidence_store.latest(project.registry, project.registry.get(CHALLENGER, "2"))
    told = read((folder / "evidence.html").read_text("utf-8"))
    assert len(told.found) > 100
    assert untrue(told, dict(sealed.body)) == []
    told = read((folder / "operations.html").read_text("utf-8"))
    written = next(moment for path, _, moment, _ in told.found if path == "/created")
    found = document(project, now=dt.datetime.fromisoformat(written))
    assert len(told.found) > 100
    assert untrue(told, found) == []


def test_a_folder_with_somebodys_files_is_left_alone(tmp_path, capsys):
    """--fresh removes only what an earlier quickstart made."""
    (tmp_path / "thesis.txt").write_text("three years of work")
    assert main(["quickstart", "--dir", str(tmp_path), "--fresh"]) == 4
    assert "nothing is removed" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()
