"""Every command of docs/endpoint.md, as it is written, and its settings."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from pytest_mlgates.config import parse_settings
from tests.endpoint.serving_project import SETTINGS

GUIDE = (Path(__file__).parents[2] / "docs" / "endpoint.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", GUIDE, flags=re.MULTILINE | re.DOTALL))


def commands(title: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", SECTIONS[title], flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Shell:
    """Commands of the guide, in the project's folder, on ports of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"8000": free_port(), "8080": free_port()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MLGATES_"))}
        self.environment = {**kept, "PATH": path, "MLGATES_CONTROL": f"http://127.0.0.1:{self.ports['8080']}"}

    def words(self, line: str) -> list[str]:
        for written, port in self.ports.items():
            line = re.sub(rf"\b{written}\b", port, line)
        return line.split()

    def run(self, line: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            self.words(line), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode in codes, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def serving(self, line: str, written_port: str):
        process = subprocess.Popen(self.words(line), cwd=self.folder, env=self.environment)
        address = f"http://127.0.0.1:{self.ports[written_port]}"
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{address}/health", timeout=2).status_code == 200:
                        break
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def shell(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide")
    for name in ("mlflow.db", "mlgates.toml"):
        shutil.copy(settings.parent / name, folder / name)
    return Shell(folder)


def test_the_settings_of_the_guide_are_settings():
    import tomllib

    block = re.search(r"^```toml\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)[1]
    written = tomllib.loads(block)["models"]["ridge"]["endpoint"]
    whole = tomllib.loads(SETTINGS)
    whole["models"]["*"]["endpoint"] = written
    assert parse_settings(whole).endpoint("ridge").hash_columns == ("player_id",)


@pytest.mark.slow(50)
def test_serve_and_load_test(shell):
    with shell.serving(*commands("Serve"), "8000") as address:
        assert httpx.get(f"{address}/health").json()["model_name"] == "ridge"
        # 1 is no pass: on a machine that is busy with other tests a measurement may be invalid, and says so
        outputs = [shell.run(line, (0, 1)) for line in commands("Load test")]
    assert "against p99 < 200 ms" in outputs[0]
    assert "errors: 0" in outputs[0]
    assert "100/s asked, open loop" in outputs[1]
    assert "ridge v1: " in outputs[2]


@pytest.mark.prove
def test_the_control_plane(shell):
    control, *lines = commands("Many endpoints: the control plane")
    with shell.serving(control, "8080"):
        outputs = {line.split()[2] + str(i): shell.run(line) for i, line in enumerate(lines)}
    found = {key: json.loads(text) for key, text in outputs.items() if text}
    assert found["create0"]["status"] == "Succeeded"
    assert found["update1"]["trafficSplit"] == {"1": 80.0, "2": 20.0}
    assert found["rollback2"]["trafficSplit"] == {"1": 100.0}
    assert found["shadow3"]["shadowVersion"] == "2"
    assert found["get5"]["modelVersion"] == "Production"
    assert found["pause6"]["state"] == "Paused"
