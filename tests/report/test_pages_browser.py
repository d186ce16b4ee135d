"""Both pages in a real browser: nothing runs, nothing is asked for, nothing is out of reach."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from urllib.parse import quote

import httpx
import pytest

from tests.promotion.world import World

from . import browser
from .ready import Ready

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>@SUM(A1)\u202e\x1b[31mred\n"
CANARY = "c4n4ry-s3cr3t-value"
LOOKS = [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory, empty_registry):
    """Both pages of a project whose names, slices and features are hostile."""
    if shutil.which("chromium") is None:
        pytest.skip("no chromium binary: apt-get install chromium")
    world = World.make(tmp_path_factory.mktemp("hostile") / "project", empty_registry)
    found = Ready.build(world, HOSTILE, label=HOSTILE, secret=CANARY)
    out = world.folder / "report.html"
    assert world.mlgates("report", HOSTILE, "2", "--out", str(out)).returncode == 0
    operations = world.folder / "operations.html"
    assert world.mlgates("dashboard", "--out", str(operations)).returncode == 0
    yield world, {"report": out, "operations": operations}
    found.close()


@pytest.fixture(scope="module")
def chromium():
    with browser.opened() as found:
        yield found


_TEXTS = """() => [...document.querySelectorAll('main *')].filter(
  e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && e.checkVisibility()
    && !e.closest('title, desc, .hidden'))"""
TINY = f"() => ({_TEXTS})().filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML.slice(0, 80))"
OUTSIDE = f"""() => ({_TEXTS})().filter(e => !e.closest('.scroll, foreignObject')).filter(e => {{
  const r = e.getBoundingClientRect();
  return r.width && (r.left < -1 || r.right > document.documentElement.clientWidth + 1);
}}).map(e => e.outerHTML.slice(0, 80))"""
"""Text that is shown smaller than 12 px, or reaches beyond the page: the text of pictures too."""


def _shared(factory):
    """The folder that all workers of a run share."""
    base = factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


def _violations(page, script):
    """What axe-core finds serious or critical, with the folded parts opened."""
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    page.evaluate(script)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["report", "operations"])
def test_clean_from_a_file(pages, chromium, kind):
    """No console message, no request but the page, no sideways scrolling, at both widths in light and dark."""
    path = pages[1][kind]
    for width, scheme in LOOKS:
        with browser.page(chromium, width=width, scheme=scheme) as (page, said, asked):
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, (
                width,
                scheme,
            )
            assert page.evaluate("document.querySelectorAll('img, script, iframe').length") == 0
            hidden = "[...document.querySelectorAll('.badge')].filter(b => b.getBoundingClientRect().left < 0).map(b => b.textContent)"
            assert page.evaluate(hidden) == []
            assert page.evaluate(TINY) == []
            assert page.evaluate(OUTSIDE) == []
            assert said == []
            assert [a for a in asked if not a.startswith("data:")] == [path.as_uri()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["report", "operations"])
def test_accessible(pages, chromium, kind, tmp_path_factory):
    """axe-core finds no serious or critical violation, folded parts opened, light and dark, wide and narrow."""
    script = browser.axe(_shared(tmp_path_factory))
    for width, scheme in LOOKS[:2]:
        with browser.page(chromium, width=width, scheme=scheme, bypass_csp=True) as (page, _, _):
            page.goto(pages[1][kind].as_uri())
            assert _violations(page, script) == [], (width, scheme)


@pytest.mark.slow
def test_clean_from_the_server(pages, chromium, tmp_path_factory):
    """`--serve` answers on loopback only, with the policy as a header; one request, no console message; keyboard reaches the content."""
    world, _ = pages
    command = [
        sys.executable,
        "-c",
        "import sys; from pytest_mlgates.cli import main; sys.exit(main())",
        "dashboard",
        "--serve",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, cwd=world.folder, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        operations = re.search(r"http://127\.0\.0\.1:\d+/", line).group()
        script = browser.axe(_shared(tmp_path_factory))
        for uri in (operations, f"{operations}report/{quote(HOSTILE, safe='')}/2"):
            for width, scheme in LOOKS:
                with browser.page(chromium, width=width, scheme=scheme) as (page, said, asked):
                    answer = page.goto(uri)
                    assert answer.status == 200
                    assert "default-src 'none'" in answer.headers["content-security-policy"]
                    page.keyboard.press("Tab")
                    assert page.evaluate("document.activeElement.textContent") == "To the content"
                    assert said == []
                    assert [a for a in asked if not a.startswith("data:")] == [uri]
            with browser.page(chromium, width=390, scheme="dark", bypass_csp=True) as (page, _, _):
                page.goto(uri)
                assert _violations(page, script) == []
        for path, status in (("report/nobody/1", 404), ("elsewhere", 404)):
            answer = httpx.get(operations + path)
            assert (answer.status_code, "Traceback" in answer.text) == (status, False)
    finally:
        process.terminate()
        process.wait(30)
