"""What a run prints, word by word: all of it but for times and pytest's own banner."""

import re

import pytest

SUITE = """
    import pytest
    from pytest_mlgates.results import GateResult, Verdict

    def result(gate, verdict, **more):
        return GateResult(gate, verdict, 0.8761, 0.861, 0.889, 0.704, 1095, "R², paired delta method", **more)

    @pytest.mark.mlgate("performance")
    def test_pass(mlgates_target, judge):
        judge(result("performance", Verdict.PASS, summary="R² 0.876 (95% CI 0.861–0.889) ≥ 0.95 × baseline 0.741; n=1,095"))

    @pytest.mark.mlgate("calibration")
    def test_fail(mlgates_target, judge):
        judge(result("calibration", Verdict.FAIL, summary="ECE 0.134 (0.118–0.151) > 0.100", hint="refit the calibrator"))

    @pytest.mark.mlgate("holdout")
    def test_inconclusive(mlgates_target, judge):
        judge(result("holdout", Verdict.INCONCLUSIVE, summary="mean gap 0.05", hint="about 2,000 rows would settle it"))

    def test_skip(mlgates_target, judge):
        judge.skip("fairness", 'domain "casino" is not regulated', "set regulated = true")

    @pytest.mark.mlgate("latency")
    def test_error(mlgates_target, judge):
        from pytest_mlgates.errors import ModelUnusable
        raise ModelUnusable("demand v1 cannot be loaded: the file is gone; log it again")
"""

LINES = {
    "test_pass": "PASSED  R² 0.876 (95% CI 0.861–0.889) ≥ 0.95 × baseline 0.741; n=1,095",
    "test_fail": "FAILED  ECE 0.134 (0.118–0.151) > 0.100; refit the calibrator",
    "test_inconclusive": "INCONCLUSIVE mean gap 0.05; about 2,000 rows would settle it",
    "test_skip": 'SKIPPED domain "casino" is not regulated; set regulated = true',
    "test_error": "ERROR   demand v1 cannot be loaded: the file is gone; log it again",
}

TABLE = """\
============================= model release gates ==============================
gate         estimate     interval  threshold      n  verdict
performance    0.8761  0.861…0.889      0.704  1,095  PASS
calibration    0.8761  0.861…0.889      0.704  1,095  FAIL
holdout        0.8761  0.861…0.889      0.704  1,095  INCONCLUSIVE
fairness            –            –          –      –  SKIP
latency             –            –          –      –  ERROR"""

REST = """\
demand v1: INCOMPLETE, schema, determinism, batch, robustness, feature_leakage,
  dummy, weak_slices did not report; FAIL by calibration; ERROR by latency;
  INCONCLUSIVE by holdout
next: calibration: refit the calibrator"""

SUMMARY = """\
=========================== short test summary info ============================
FAILED  ECE 0.134 (0.118–0.151) > 0.100; refit the calibrator test_own.py::test_fail[v1]
ERROR   demand v1 cannot be loaded: the file is gone; log it again test_own.py::test_error[v1]"""

DETAILS = """\
==================================== ERRORS ====================================
_______________________ ERROR at call of test_error[v1] ________________________
ERROR   demand v1 cannot be loaded: the file is gone; log it again
=================================== FAILURES ===================================
________________________________ test_fail[v1] _________________________________
FAILED  ECE 0.134 (0.118–0.151) > 0.100; refit the calibrator"""

COUNTS = "1 failed, 1 passed, 1 skipped, 1 error, 1 inconclusive"

NORMAL = f"""\
collected 5 items

test_own.py .FIsE                                                        [100%]

{DETAILS}
{SUMMARY}
{TABLE}
{REST}
======= {COUNTS} ========"""

QUIET = f"""\
.FIsE                                                                    [100%]
{DETAILS}
{SUMMARY}
{TABLE}
{REST}
{COUNTS}"""

# one verdict each: the rows, what they come to, and the one thing to do next
SINGLE = {
    "pass": """\
gate         estimate     interval  threshold      n  verdict
performance    0.8761  0.861…0.889      0.704  1,095  PASS
demand v1: INCOMPLETE, holdout, fairness, latency, calibration, schema,
  determinism, batch, robustness, feature_leakage, dummy, weak_slices did not
  report
next: run the whole suite before promoting""",
    "inconclusive": """\
gate     estimate     interval  threshold      n  verdict
holdout    0.8761  0.861…0.889      0.704  1,095  INCONCLUSIVE
demand v1: INCOMPLETE, performance, fairness, latency, calibration, schema,
  determinism, batch, robustness, feature_leakage, dummy, weak_slices did not
  report; INCONCLUSIVE by holdout
next: holdout: about 2,000 rows would settle it""",
    "skip": """\
gate      estimate  interval  threshold  n  verdict
fairness         –         –          –  –  SKIP
demand v1: INCOMPLETE, performance, holdout, latency, calibration, schema,
  determinism, batch, robustness, feature_leakage, dummy, weak_slices did not
  report
next: run the whole suite before promoting""",
    "error": """\
gate     estimate  interval  threshold  n  verdict
latency         –         –          –  –  ERROR
demand v1: INCOMPLETE, performance, holdout, fairness, calibration, schema,
  determinism, batch, robustness, feature_leakage, dummy, weak_slices did not
  report; ERROR by latency
next: latency: demand v1 cannot be loaded: the file is gone; log it again""",
}


@pytest.fixture
def printed(gates, pytester, monkeypatch):
    """Run the five verdicts; return the text after pytest's banner, without times."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("CI", "BUILD_NUMBER"):  # pytest cuts no line of its own summary where it sees these
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(test_own=SUITE)

    def run(*args, item=""):
        done = gates(f"test_own.py{item}", "--model-name", "demand", "--model-version", "1", "--mlgates-no-evidence", *args)
        lines = [re.sub(r" in \d+\.\d+s", "", line).rstrip() for line in done.outlines]
        begin = next((i for i, line in enumerate(lines) if line.startswith("collected")), 0)
        return "\n".join(lines[begin:]).strip("\n")

    return run


def test_normal(printed):
    """Without -v: a letter each, one line a failure, the table, and last what is to be done next."""
    found = printed()
    assert found == NORMAL
    assert all(len(line) <= 80 for line in f"{TABLE}\n{REST}".splitlines())


def test_quiet(printed):
    """-q drops pytest's banner and nothing of ours."""
    assert printed("-q") == QUIET


def test_verbose(printed):
    """Each item is its id and its gate's line, whole; the rest is as without -v."""
    lines = printed("-v").splitlines()
    shown = [re.sub(r"\s+\[ *\d+%\]$", "", line) for line in lines if line.startswith("test_own.py::")]
    assert shown == [f"test_own.py::{name}[v1] {words}" for name, words in LINES.items()]
    assert "\n".join(lines).endswith(f"{SUMMARY}\n{TABLE}\n{REST}\n======= {COUNTS} ========")


@pytest.mark.parametrize("verdict", SINGLE)
def test_one_verdict(printed, verdict):
    """Each verdict by itself."""
    lines = printed(item=f"::test_{verdict}").splitlines()
    begin = next(i for i, line in enumerate(lines) if "model release gates" in line)
    assert "\n".join(line for line in lines[begin + 1 : -1] if line) == SINGLE[verdict]


def test_no_colour_where_no_terminal(printed):
    """Nothing but text where the output is a file; with colours it is the same text."""
    plain = printed("-v")
    assert "\x1b" not in plain
    coloured = printed("-v", "--color=yes")
    assert "\x1b[31mcalibration" in coloured
    assert "\x1b[32mperformance" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured)[-600:] == plain[-600:]


@pytest.mark.slow
def test_workers_print_the_same(printed):
    """Under xdist the verdicts reach the controller whole, in whatever order; the end is the same."""
    lines = printed("-n", "2", "-v")
    for words in LINES.values():
        assert words in lines
    end = lines[lines.index("= model release gates") - 28 :].splitlines()
    assert sorted(end[:7]) == sorted(TABLE.splitlines())
    assert "\n".join(end[7:]).startswith("demand v1: INCOMPLETE, schema,")
    assert end[-2] == "next: calibration: refit the calibrator"
