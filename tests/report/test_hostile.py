"""Names from a registry are somebody else's text: through every command that shows them, the pages, CSV, job summary."""

from __future__ import annotations

import csv
import html.parser
import io
import json

import pytest

from pytest_mlgates import redaction
from pytest_mlgates.report.github import job_summary
from pytest_mlgates.report.html import evidence_report
from pytest_mlgates.report.terminal import conclusion, gate_line, table
from pytest_mlgates.results import GateResult, RunReport, Verdict
from tests.promotion.world import World

from .ready import Ready

NAMES = [
    "<img src=x onerror=alert(1)>",
    "@SUM(A1)",
    "two\nlines",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.exe",
    "a`b|c[d](http://x)*e*_f_",
    "</style><script>alert(1)</script>",
    "' onmouseover='alert(1)",
]
ALL = " ".join(NAMES)
NAME = ALL.replace("/", "").replace(":", "")  # the two characters that MLflow refuses
CANARY = "c4n4ry-s3cr3t-value"
FORBIDDEN = set("\x1b\u202e")


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = set()
        self.events = []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.events += [name for name, _ in attrs if name.startswith("on") or name in ("style", "srcdoc")]
        self.events += [value for name, value in attrs if name in ("href", "src") and not value.startswith(("#", "data:,"))]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, empty_registry):
    world = World.make(tmp_path_factory.mktemp("names") / "project", empty_registry)
    found = Ready.build(world, NAME, label=ALL, secret=CANARY)
    yield found
    found.close()


COMMANDS = [
    ("registry",), ("registry", NAME), ("evidence", "show", NAME, "2"), ("audit", "list"), ("readiness", NAME), ("verify", NAME),
    ("readiness", NAME, "--markdown"), ("doctor",), ("cleanup",), ("report", NAME, "2"), ("dashboard",), ("retrain", "list"),
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda w: " ".join(w)[:24].replace("<", ""))
def test_commands_print_one_line_a_thing(hostile, words):
    """No control or direction character, no secret, no traceback."""
    done = hostile.world.mlgates(*words)
    said = done.stdout + done.stderr
    assert not FORBIDDEN & set(said), said
    assert CANARY not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["mlgates-report.html", "mlgates-operations.html"])
def test_pages_hold_no_markup_of_others(hostile, name):
    """Only the elements of the templates, no handler, no address that leads out, no secret."""
    hostile.world.mlgates("report", NAME, "2")
    hostile.world.mlgates("dashboard")
    text = (hostile.world.folder / name).read_text("utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.events == []
    assert not tags.seen & {"script", "img", "iframe", "object", "form", "base"}
    assert not FORBIDDEN & set(text)
    assert CANARY not in text


def test_csv_takes_nothing_for_a_formula(hostile):
    """Every cell of the exported audit, read back, begins with no formula sign."""
    path = hostile.world.folder / "audit.csv"
    done = hostile.world.mlgates("audit", "export", "--format", "csv", "--output", str(path))
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"))))
    assert len(rows) > 1
    assert not [c for row in rows for c in row if c.lstrip()[:1] in ("=", "+", "-", "@")]


@pytest.mark.parametrize("name", NAMES)
def test_terminal_and_job_summary(name):
    """A name cannot break out of its line or its cell."""
    result = GateResult(name, Verdict.FAIL, 1.0, 0.5, 1.5, 2.0, 10, hint=name, summary=name)
    report = RunReport(name, "1", (result,), (name,))
    for line in [gate_line(result), conclusion(report), *table([result])]:
        assert "\n" not in line
        assert not FORBIDDEN & set(line)
    summary = job_summary([report])
    assert "<img" not in summary
    assert "<script" not in summary
    rows = [line for line in summary.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {8}


def test_a_secret_appears_nowhere(make_world, monkeypatch):
    """In the URI, the environment and the settings: it leaves by no command, page or message."""
    monkeypatch.setenv("SOME_API_TOKEN", CANARY)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{CANARY}@h/db")
    world = make_world("canary")
    ready = Ready.build(world, "revenue", label=CANARY, secret=CANARY)
    try:
        for words in (("readiness", "revenue"), ("doctor",), ("dashboard",), ("report", "revenue", "2"), ("settings", "show")):
            done = world.mlgates(*words)
            assert CANARY not in done.stdout + done.stderr, words
        for page in ("mlgates-report.html", "mlgates-operations.html"):
            assert CANARY not in (world.folder / page).read_text("utf-8")
    finally:
        ready.close()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = world.folder / "mlgates.toml"
    broken = settings.read_text().replace(world.uri, f"http://u:{CANARY}@127.0.0.1:1")
    settings.write_text(broken)
    done = world.mlgates("registry")
    assert done.returncode == 1
    assert CANARY not in done.stdout + done.stderr


def test_what_is_secret():
    """Variables named like secrets, and the user info and signature of an address; short values stay."""
    assert redaction.named_secrets({"A_TOKEN": "x" * 12, "HOME": "/home/somebody", "B_SECRET": "short"}) == {"x" * 12}
    assert redaction.redacted("at https://u:pw@host/x?sig=abc&n=1") == "at https://***@host/x?sig=***&n=1"


def test_json_and_evidence_survive(hostile):
    """What is written for programs can be read back."""
    done = hostile.world.mlgates("readiness", NAME, "--json")
    assert len(json.loads(done.stdout)) == 12
    from pytest_mlgates.services import evidence_store

    found = evidence_store.latest(hostile.world.registry, hostile.world.registry.get(NAME, "2"))
    assert len(evidence_report(found)) < 400_000
