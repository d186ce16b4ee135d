"""Every command in docs/promotion.md, run as it is written."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from .world import World

TEXT = (Path(__file__).parents[2] / "docs" / "promotion.md").read_text("utf-8")


def test_the_commands_of_the_page_work_as_they_are_written(world: World):
    for _ in range(2):
        world.add_version()
    world.promote("1", "Staging")
    world.hotfix("1")
    world.promote("2", "Staging")
    for words in (["init", "-q"], ["add", "mlgates.toml"], ["commit", "-qm", "base"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=world.folder, check=True)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 12
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "mlgates"
        done = world.mlgates(*words)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert world.stages() == {"1": "Production", "2": "Archived"}
    assert world.problems() == []
