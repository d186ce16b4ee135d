"""Results: plain values, and the verdict of a whole run."""

import json

import numpy as np
import pytest

from pytest_mlgates.config import GATES
from pytest_mlgates.report.github import job_summary
from pytest_mlgates.report.terminal import conclusion, gate_line, next_step, number, table
from pytest_mlgates.report.text import printable
from pytest_mlgates.results import GateResult, RunReport, Verdict

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202egpj|`@SUM(A1)\n"


def run(*verdicts, warn=False, gates=GATES):
    results = tuple(GateResult(g, v, hint="mend it") for g, v in zip(gates, verdicts, strict=False))
    return RunReport("churn", "3", results, gates, warn)


def test_numpy_and_nan_become_plain_json():
    result = GateResult(
        "g", Verdict.PASS, np.float64(0.5), float("nan"), float("inf"), 1, n=np.int64(3), details={"a": np.arange(2)}
    )
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (data["estimate"], data["low"], data["high"], data["n"], data["details"]) == (0.5, None, None, 3, {"a": [0, 1]})
    assert GateResult.from_dict({**data, "of_a_later_version": 1}) == result


@pytest.mark.parametrize(
    ("verdicts", "warn", "expected"),
    [
        (["pass", "pass", "skip", "pass", "pass"], False, Verdict.PASS),
        (["pass", "fail", "skip", "inconclusive", "pass"], False, Verdict.FAIL),
        (["pass", "fail", "error", "pass", "pass"], False, Verdict.ERROR),
        (["pass", "inconclusive", "skip", "pass", "pass"], False, Verdict.INCONCLUSIVE),
        (["pass", "inconclusive", "skip", "pass", "pass"], True, Verdict.PASS),
        (["pass", "pass", "skip", "pass"], False, Verdict.INCONCLUSIVE),
        (["pass", "pass", "skip", "pass"], True, Verdict.INCONCLUSIVE),
        (["skip"] * 5, False, Verdict.INCONCLUSIVE),
        ([], True, Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict_of_a_run(verdicts, warn, expected):
    report = run(*verdicts, warn=warn)
    assert report.verdict is expected
    assert report.blocks is (expected is not Verdict.PASS)


def test_the_conclusion_names_what_blocks_and_the_next_step_the_first_fix():
    report = run("pass", "inconclusive", "skip", "fail", "pass")
    assert conclusion(report) == "churn v3: FAIL by latency; INCONCLUSIVE by holdout"
    assert next_step(report) == "latency: mend it"
    assert next_step(run("pass", "pass", "skip", "pass")) == "run the whole suite before promoting"
    passed = run("pass", "pass", "skip", "pass", "pass")
    assert next_step(passed, stage="None") == 'mlgates promote churn 3 --to Staging --reason "…"'
    assert next_step(passed, stage="Staging") == 'mlgates promote churn 3 --to Production --reason "…"'
    assert next_step(passed, stage="Production") == "nothing: it serves"
    assert "--mlgates-no-evidence" in next_step(passed, stored=False)
    assert "INCOMPLETE, calibration" in conclusion(run("pass", "pass", "skip", "pass"))
    assert conclusion(run("pass", "pass", "skip", "pass", "pass")) == "churn v3: PASS"


def test_the_table_holds_80_columns_whatever_the_numbers():
    results = [
        GateResult("performance", Verdict.INCONCLUSIVE, -123456.789, -1e9, 1e-9, 12345.678, n=10**7),
        GateResult("a_check_with_a_very_long_name", Verdict.PASS, 0.5, 0.4, 0.6, 0.3, n=12),
    ]
    assert max(map(len, table(results))) <= 80
    assert number(None) == "–"


def test_hostile_names_are_harmless_on_a_terminal_and_in_a_job_summary():
    result = GateResult(HOSTILE, Verdict.FAIL, summary=HOSTILE, hint=HOSTILE)
    report = RunReport(HOSTILE, HOSTILE, (result,), ())
    for text in (gate_line(result), conclusion(report), *table([result])):
        assert not set(text) & {"\x1b", "\u202e", "\n"}
    page = job_summary([report])
    assert "<img" not in page
    assert "\x1b" not in page
    assert all(line.count("|") == 8 for line in page.splitlines() if line.startswith("| "))
    assert printable("a\u2028b") == "a?b"
