"""What a run prints, word by word: `GOLDEN` is the whole of it but for times and pytest's own banner."""

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
gate         estimate       bounds  limit      n  verdict
performance    0.8761  0.861…0.889  0.704  1,095  PASS
calibration    0.8761  0.861…0.889  0.704  1,095  FAIL
holdout        0.8761  0.861…0.889  0.704  1,095  INCONCLUSIVE
fairness            –            –      –      –  SKIP
latency             –            –      –      –  ERROR"""

LAST = "demand v1: INCOMPLETE, schema, determinism, batch, robustness, feature_leakage, dummy, weak_slices did not report"


@pytest.fixture
def printed(gates, pytester, monkeypatch):
    """Run the five verdicts; return the lines without colours and times."""
    monkeypatch.setenv("COLUMNS", "80")
    pytester.makepyfile(test_own=SUITE)

    def run(*args):
        done = gates("test_own.py", "--model-name", "demand", "--model-version", "1", "--mlgates-no-evidence", *args)
        return [re.sub(r" in \d+\.\d+s", "", line).rstrip() for line in done.outlines]

    return run


def section(lines):
    begin = next(i for i, line in enumerate(lines) if "model release gates" in line)
    rest = [line for line in lines[begin + 1 :] if line]
    return rest[: next((i for i, line in enumerate(rest) if line.startswith(("=", "FAILED", "ERROR ", "SKIPPED"))), len(rest))]


def test_verbose(printed):
    """Each item is its id and its gate's line, whole."""
    lines = printed("-v")
    for name, words in LINES.items():
        shown = next(line for line in lines if line.startswith(f"test_own.py::{name}[v1] "))
        assert re.sub(r"\s+\[ *\d+%\]$", "", shown) == f"test_own.py::{name}[v1] {words}"


def test_the_closing_table(printed):
    """The table as it stands, 80 columns, and last what is to be done next."""
    found = section(printed())
    assert "\n".join(found[:6]) == TABLE
    assert all(len(line) <= 80 for line in found[:6])
    assert found[-1].startswith(LAST)


def test_letters(printed):
    """Without -v a letter each."""
    assert next(line for line in printed() if line.startswith("test_own.py "))[:17] == "test_own.py .FIsE"


def test_quiet(printed):
    """-q keeps the table and the advice."""
    lines = printed("-q")
    assert any(line.startswith(".FIsE") for line in lines)
    assert "\n".join(section(lines)[:6]) == TABLE


def test_no_colour_where_no_terminal(printed):
    """Nothing but text where the output is a file; colours when asked for."""
    assert not [line for line in printed("-v") if "\x1b" in line]
    assert [line for line in printed("-v", "--color=yes") if "\x1b[" in line]


@pytest.mark.slow
def test_workers_print_the_same(printed):
    """Under xdist the verdicts reach the controller whole."""
    lines = printed("-n", "2", "-v")
    for words in LINES.values():
        assert any(words in line for line in lines), words
    assert sorted(section(lines)[:6]) == sorted(TABLE.splitlines())
