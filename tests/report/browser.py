"""Debian's chromium under Playwright, and axe-core from npm; each absence is a reason to skip."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

AXE = "axe-core@4.14.1"
_WAIT_MS = 180_000  # a busy machine


def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium binary: apt-get install chromium")
    return found


def axe(shared: Path) -> str:
    """The source of axe-core: the file that MLGATES_AXE names, else fetched by npm once a run."""
    named = os.environ.get("MLGATES_AXE")
    if named:
        return Path(named).read_text("utf-8")
    script = shared / "axe.min.js"
    with filelock.FileLock(str(shared / "axe.lock")):
        if not script.is_file():
            if shutil.which("npm") is None:
                pytest.skip("no npm to fetch axe-core with; set MLGATES_AXE to an axe.min.js")
            done = subprocess.run(
                ["npm", "pack", "--silent", AXE], cwd=shared, capture_output=True, text=True, check=False, timeout=120
            )
            packed = shared / done.stdout.strip()
            if done.returncode != 0 or not packed.is_file():
                pytest.skip(f"npm could not fetch {AXE}: {done.stderr.strip()[-200:]}")
            with tarfile.open(packed) as archive:
                member = archive.extractfile("package/axe.min.js")
                assert member is not None
                script.write_bytes(member.read())
    return script.read_text("utf-8")


@contextlib.contextmanager
def opened() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments, timeout=_WAIT_MS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page(browser: Any, *, width: int, scheme: str, bypass_csp: bool = False) -> Iterator[tuple[Any, list[str], list[str]]]:
    """A page with what it said on its console (errors of scripts and of the policy too) and what it asked for."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bypass_csp)
    shown = context.new_page()
    shown.set_default_timeout(_WAIT_MS)
    said: list[str] = []
    asked: list[str] = []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    shown.on("request", lambda request: asked.append(request.url))
    try:
        yield shown, said, asked
    finally:
        context.close()
