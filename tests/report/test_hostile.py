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


WHY = ("--reason", ALL, "--actor", ALL)
COMMANDS = [
    ("registry",), ("registry", NAME), ("registry", NAME, "--json"), ("registry", ALL), ("expect", NAME, "2"),
    ("plan", "--model-name", NAME, "--model-version", "2"), ("evidence", "show", NAME, "2"), ("evidence", "show", NAME, "2", "--json"),
    ("evidence", "verify", NAME, "2"), ("evidence", "verify", NAME, "1"), ("report", NAME, "2"), ("report", NAME, "99"),
    ("dashboard",), ("readiness", NAME), ("readiness", NAME, "--markdown"), ("readiness", ALL), ("verify", NAME), ("doctor",),
    ("doctor", "--explain", ALL), ("cleanup",), ("lakehouse", "compact", ALL), ("promote", NAME, "1", "--to", "Staging", *WHY),
    ("promote", NAME, "2", "--to", "Staging", *WHY), ("promote", NAME, "2", "--to", ALL, *WHY), ("rollback", NAME, *WHY),
    ("reconcile",), ("audit", "list"), ("audit", "list", "--model", NAME), ("audit", "verify"),
    ("challenger", "status", "--champion", NAME, "--challenger", NAME), ("settings", "show"), ("settings", "show", "--model", NAME),
    ("settings", "diff", ALL), ("lint", ALL), ("drift", "--model", NAME), ("drift", "calibrate", "--model", NAME),
    ("drift", "suppress", NAME, "--feature", ALL, "--reason", ALL, "--until", "2099-01-01"), ("alerts", "list"),
    ("alerts", "list", "--json"), ("alerts", "evaluate"), ("alerts", "test", ALL), ("retrain", "list"), ("retrain", "approve", ALL),
    (ALL,), ("registry", f"--{ALL}"),
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda w: " ".join(w)[:24].replace("<", ""))
def test_commands_print_one_line_a_thing(hostile, words):
    """No control or direction character, no line that a name began, no secret, no traceback; and an exit code that we know."""
    done = hostile.world.mlgates(*words)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1, 3, 4)
    assert not FORBIDDEN & set(said), said
    assert not [line for line in said.splitlines() if line.startswith("lines")], said
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


def test_what_is_exported_can_be_read_back(hostile):
    """Control and direction characters are escapes in JSON lines, and the values are whole."""
    path = hostile.world.folder / "audit.jsonl"
    assert hostile.world.mlgates("audit", "export", "--format", "jsonl", "--output", str(path)).returncode == 0
    text = path.read_text("utf-8")
    assert not FORBIDDEN & set(text)
    assert {json.loads(line)["model_name"] for line in text.splitlines()} == {NAME}
    rows = json.loads(hostile.world.mlgates("readiness", NAME, "--json").stdout)
    assert len(rows) == 12


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("https://ghp_token1234@host/x", "https://***@host/x"),
        ("abfss://container@account.dfs.core.windows.net/x", "abfss://container@account.dfs.core.windows.net/x"),
        ("https://h/x?client_secret=abc&x-functions-key=abc&n=1", "https://h/x?client_secret=***&x-functions-key=***&n=1"),
        ("Authorization: Bearer abc.def-ghi_jkl==", "Authorization: Bearer ***"),
        ('{"a": "see \\"http://u:p@h/?token=abc\\""}', '{"a": "see \\"http://***@h/?token=***\\""}'),
    ],
)
def test_what_is_redacted_without_being_known(said, shown):
    """User info, keys in a query and bearer tokens, also inside JSON, which stays JSON."""
    assert redaction.redacted(said) == shown


def test_an_address_in_the_settings_is_known(monkeypatch):
    """Also its parts alone, as an address would write them, and the path that a chat service hands out."""
    monkeypatch.setattr(redaction, "_registered", set())
    redaction.register_addresses({"a": [{"url": "smtp://u:p%40ss-word-1@h"}, "http://h/?k=from-the-query"]})
    redaction.register_address("https://hooks.example/services/T0000/xxxxSECRETPARTxxxx", path=True)
    for part in ("p@ss-word-1", "p%40ss-word-1", "from-the-query", "xxxxSECRETPARTxxxx"):
        assert redaction.redacted(f"so {part}.") == "so ***."
    assert redaction.redacted("https://hooks.example/services") == "https://hooks.example/services"


def test_what_is_secret():
    """Variables named like secrets, and the user info and signature of an address; short values stay."""
    assert redaction.named_secrets({"PWD": "/home/somebody", "SMTP_PASS": "y" * 9, "X_ACCOUNT_KEY": "z" * 9}) == {
        "y" * 9,
        "z" * 9,
    }
    assert redaction.named_secrets({"A_TOKEN": "x" * 12, "HOME": "/home/somebody", "B_SECRET": "short"}) == {"x" * 12}
    assert redaction.redacted("at https://u:pw@host/x?sig=abc&n=1") == "at https://***@host/x?sig=***&n=1"


def test_json_and_evidence_survive(hostile):
    """What is written for programs can be read back."""
    done = hostile.world.mlgates("readiness", NAME, "--json")
    assert len(json.loads(done.stdout)) == 12
    from pytest_mlgates.services import evidence_store

    found = evidence_store.latest(hostile.world.registry, hostile.world.registry.get(NAME, "2"))
    assert len(evidence_report(found)) < 400_000
