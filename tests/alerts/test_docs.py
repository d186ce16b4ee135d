"""Settings and commands of docs/alerts.md, used as they are written, with a receiver up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from pytest_mlgates.alerts import serve
from pytest_mlgates.alerts.inbox import Inbox
from pytest_mlgates.config import load_settings

from .conftest import SECRET, free_port
from .posting import azure, wait_for

TEXT = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text("utf-8")
MODEL = '[models."slots"]\ntask = "regression"\ntarget = "y"\nholdout = "lh_gold.h"\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_settings_and_commands_of_the_page_work_as_they_are_written(tmp_path) -> None:
    port = str(free_port())
    (tmp_path / "mlgates.toml").write_text(MODEL + "\n".join(blocks("toml")).replace("8787", port))
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "retrain.py").write_text("import os; print(os.environ['MLGATES_TRIGGER_REASON'])")
    alert = azure(configurationItems=["slots"])
    alert["data"]["alertContext"] = None
    (tmp_path / "alert.json").write_text(json.dumps(alert))
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MLGATES_WEBHOOK_SECRET": SECRET}
    settings = load_settings(tmp_path / "mlgates.toml", env={})
    receiver = serve.start(settings, port=int(port), log=tmp_path / "receiver.log", env=env)
    try:
        script = "\n".join(blocks("sh")).replace("8787", port)
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (job,) = wait_for(Inbox(serve.inbox_path(settings)), "succeeded")
    finally:
        receiver.terminate()
        receiver.wait(30)
    assert job.model == "slots"
    assert (tmp_path / "mlgates-alerts.db.runs" / f"{job.key}.log").read_text() == "drift_alert\n"
    assert '"status_url"' in done.stdout
    assert "rule evaluated: nothing new" in done.stdout
    assert (tmp_path / "azure" / "alerts.bicep").is_file()


def test_what_the_page_says_of_commands_and_options_is_there() -> None:
    """Words in backticks that begin with mlgates or --mlgates- are commands and options that exist."""
    from pytest_mlgates.cli import COMMANDS

    inline = set(re.findall(r"`(?:pytest )?((?:mlgates|--mlgates)[^`]*)`", TEXT))
    options = {word for text in inline for word in text.split() if word.startswith("--mlgates-")}
    plugin = (Path(__file__).parents[2] / "pytest_mlgates" / "plugin.py").read_text("utf-8")
    assert options
    assert [o for o in options if f'"{o}"' not in plugin] == []
    commands = {text.split()[1] for text in inline if text.startswith("mlgates ")}
    assert commands
    assert commands <= set(COMMANDS)
