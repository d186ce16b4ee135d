"""Following a stage: every run and gate changes the registry's file, and few of those changes concern an endpoint."""

import os
import shutil
import subprocess

from pytest_mlgates.endpoint.routes import RoutesFile
from pytest_mlgates.serving import RegistrySource, write_first_routes
from pytest_mlgates.wiring import Project
from tests.endpoint.serving_project import move


def test_only_a_moved_stage_starts_a_process(settings, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    shutil.copytree(settings.parent, folder)
    source, state = RegistrySource(Project.open(folder / settings.name)), RoutesFile(tmp_path / "state")
    write_first_routes(source, state, "ridge", "Production")
    assert state.read().targets[0].version == "1"
    asked, run = [], subprocess.run

    def seen(command, *args, **kwargs):
        asked.append(command)
        return run(command, *args, **kwargs)

    monkeypatch.setattr("pytest_mlgates.serving.subprocess.run", seen)
    later = (folder / "mlflow.db").stat().st_mtime + 10
    os.utime(folder / "mlflow.db", (later, later))  # somebody logged a run
    source.follow(state)
    assert asked == []
    move(folder, "ridge", "2", "Production")
    os.utime(folder / "mlflow.db", (later + 10, later + 10))
    source.follow(state)
    assert len(asked) == 1
    assert state.read().targets[0].version == "2"
