"""What a user sees of `pytest --model-name NAME --model-version V`: items, numbers, exit codes, evidence."""

import json
import re
import sys

import pytest

from tests.plugin.conftest import ANSWERS_NAN, BARE, EXTRA_COLUMN, GOOD, NO_SIGNATURE, SHUFFLED


def gate_lines(result):
    return [line for line in result.outlines if re.search(r"::test_gate_\d_\w+\[v\d+\] [A-Z]", line)]


def words(result):
    return {re.search(r"test_gate_\d_(\w+?)\[", line)[1]: line.split("] ", 1)[1].split()[0] for line in gate_lines(result)}


def no_traceback(result):
    text = "\n".join([*result.outlines, *result.errlines])
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text


def test_five_items_with_their_numbers_exit_code_0_and_evidence(gates, demand, pytester):
    """A good version passes four gates; fairness is skipped with the reason.

    The closing lines name the document that is stored, and the version's tag the same.
    """
    result = gates("--model-name", "demand", "--model-version", GOOD, "-v", "--mlgates-json", "out.json")
    assert result.ret == 0
    assert words(result) == {
        "performance": "PASSED",
        "holdout": "PASSED",
        "fairness": "SKIPPED",
        "latency": "PASSED",
        "calibration": "PASSED",
    }
    performance = next(line for line in gate_lines(result) if "performance" in line)
    assert re.search(r"R² 0\.\d+ \(95% CI 0\.\d+–0\.\d+\) ≥ 0\.95 × baseline 0\.\d+; n=1,500", performance)
    result.stdout.fnmatch_lines(['*SKIPPED domain "retail" is not regulated*', "*demand v1: PASS"])
    rows = json.loads((pytester.path / "out.json").read_text())["results"]
    assert {r["gate"]: r["verdict"] for r in rows}["fairness"] == "skip"
    wanted = {"gate", "model", "version", "verdict", "estimate", "low", "high", "threshold", "n", "method", "hint"}
    assert all(wanted <= set(r) for r in rows)
    assert all(r["low"] <= r["estimate"] for r in rows if r["low"] is not None)
    assert all(r["estimate"] <= r["high"] for r in rows if r["high"] is not None)
    line = next(line for line in result.outlines if line.startswith("evidence "))
    assert line.split()[1] == evidence_of(demand, GOOD)


def test_a_version_trained_on_shuffled_targets_fails_with_metric_threshold_and_hint(gates):
    """The line of the gate that failed says what, how much, and what to do."""
    result = gates("--model-name", "demand", "--model-version", SHUFFLED, "-v")
    assert result.ret == 1
    line = next(line for line in gate_lines(result) if "performance" in line)
    assert re.search(r"FAILED +R² -?0\.\d+ \(9\d.*% CI .*\) < 0\.95 × baseline 0\.\d+; .*; R² is worse", line)
    result.stdout.fnmatch_lines(["*demand v2: FAIL by performance*"])
    no_traceback(result)


def test_versions_ids_and_several_models(gates):
    """1,2 and globs give one item per gate and version."""
    result = gates("--model-name", "demand*", "--model-version", "1", "--collect-only", "-q")
    assert sum("[demand-v1]" in line for line in result.outlines) >= 5
    assert sum("[demand-baseline-v1]" in line for line in result.outlines) >= 5
    result = gates("--model-name", "demand", "--model-version=@challenger,2", "--collect-only", "-q")
    assert sum("[v1]" in line for line in result.outlines) == sum("[v2]" in line for line in result.outlines) >= 5
    result = gates("--model-name", "demand", "--model-version", "challenger", "--collect-only", "-q")
    assert sum("[v1]" in line for line in result.outlines) >= 5


def test_the_environment_names_the_version(gates, monkeypatch):
    """MODEL_NAME and MODEL_VERSION stand in for the options."""
    monkeypatch.setenv("MODEL_NAME", "demand")
    monkeypatch.setenv("MODEL_VERSION", "1")
    result = gates("-v", "-k", "performance")
    assert [line for line in gate_lines(result) if "PASSED" in line]


def test_the_environment_means_nothing_where_no_settings_are(gates, pytester, monkeypatch):
    """MODEL_NAME is a common name: in somebody else's project it is not ours."""
    monkeypatch.setenv("MODEL_NAME", "demand")
    monkeypatch.setenv("MODEL_VERSION", "1")
    (pytester.path / "mlgates.toml").unlink()
    pytester.makepyfile("def test_own(): pass")
    gates().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-name", "demnad", "--model-version", "1"], "*'demnad' is not in the registry*did you mean 'demand'?*"),
        (["--model-name", "demand", "--model-version", "77"], "*no version '77'*its versions: 1, 2*"),
        (["--model-name", "demand", "--model-version", "Staging"], "*no version in stage Staging*"),
        (["--model-name", "demand"], "*--model-name needs --model-version*"),
        (["--model-version", "1"], "*--model-version needs --model-name*"),
        (
            ["--model-name", "demand", "--model-version", "1", "--mlgates-settings", "no.toml"],
            "*no.toml: no such settings file*",
        ),
    ],
)
def test_a_wrong_name_is_a_usage_error_that_names_the_fix(gates, arguments, message):
    """Exit code 4, one line, no traceback."""
    result = gates(*arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    assert len([line for line in result.errlines if line.strip()]) == 1
    no_traceback(result)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("min_ratio", "min_ration", "*min_ration: unknown key; did you mean 'min_ratio'?*"),
        ("floor = 0.5", 'floor = "high"', "*floor: expected a number, got 'high'*"),
        ('[models."demand*"]', '[models."other*"]', "*missing*"),
        ("demand_holdout", "demand_holdouts", "*'lh_gold.demand_holdouts' is not there*"),
        ("tracking_uri =", "tracking_uri", "*not valid TOML*"),
        ("mlflow.db", "nosuch.db", "*no model registry at*nosuch.db*"),
    ],
)
def test_broken_settings_are_named_before_any_model_is_loaded(gates, demand, pytester, old, new, message):
    """Exit code 4 (1 where the registry is not there), one line per mistake, no traceback."""
    pytester.makefile(".toml", mlgates=demand.settings.replace(old, new, 1))
    result = gates("--model-name", "demand", "--model-version", GOOD)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    no_traceback(result)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (NO_SIGNATURE, "no signature with named input columns; log it again with signature="),
        (EXTRA_COLUMN, "needs input column 'stock', which the holdout lh_gold.demand_holdout lacks"),
        (ANSWERS_NAN, "predictions are NaN or infinite"),
    ],
)
def test_a_version_that_cannot_be_judged_is_an_error_in_one_line(gates, version, message):
    """Verdict error on the gate's own line, exit code 1, no traceback."""
    result = gates("--model-name", "demand", "--model-version", version, "-v")
    assert result.ret == 1
    line = next(line for line in gate_lines(result) if "performance" in line)
    assert "ERROR" in line
    assert message in line
    no_traceback(result)


def test_a_version_of_somebody_elses_script_is_judged_as_far_as_possible(gates):
    """No run, no expected predictions: gate 2 is skipped and says how to supply them; the others judge."""
    result = gates("--model-name", "demand", "--model-version", BARE, "-v")
    assert result.ret == 0
    assert words(result)["holdout"] == "SKIPPED"
    assert words(result)["performance"] == "PASSED"
    result.stdout.fnmatch_lines(["*mlgates expect demand 4*"])


def test_a_part_of_the_suite_is_incomplete_and_no_pass(gates, demand):
    """`-k performance` passes one gate; the version is not judged, so the exit code says no and nothing is stored."""
    before = evidence_of(demand, SHUFFLED)
    result = gates("--model-name", "demand", "--model-version", SHUFFLED, "-k", "fairness", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*INCOMPLETE, performance, holdout, latency, calibration, schema,*"])
    assert evidence_of(demand, SHUFFLED) == before


def test_a_holdout_that_was_changed_afterwards_is_an_error(gates, demand, pytester):
    """Some rows are not those that the version was made with: gate 2 says so, and how many."""
    from pytest_mlgates.lakehouse import Lakehouse

    rows = Lakehouse(demand.lakehouse).read("lh_gold.demand_holdout").to_pandas()
    rows.loc[:6, "y"] += 1.0
    rows.to_parquet(pytester.path / "held.parquet")
    pytester.makefile(".toml", mlgates=demand.settings.replace("lh_gold.demand_holdout", "held.parquet"))
    result = gates("--model-name", "demand", "--model-version", GOOD, "-v", "-k", "holdout")
    assert result.ret == 1
    assert words(result) == {"holdout": "ERROR"}
    result.stdout.fnmatch_lines(["*7 of 1,500 rows of the holdout held.parquet were changed*restore the holdout*"])


def evidence_of(demand, version):
    from pytest_mlgates.registry.store import MlflowRegistry

    return MlflowRegistry(demand.uri).get("demand", str(version)).tags.get("mlgates.evidence_id")


@pytest.mark.slow(30)
def test_under_xdist_the_same_verdicts_and_one_document(gates, pytester):
    """Results travel as JSON strings; the controller writes once; predictions are shared."""
    result = gates("--model-name", "demand", "--model-version", "1,2", "-n", "2", "-v", "--mlgates-json", "out.json")
    assert result.ret == 1
    rows = json.loads((pytester.path / "out.json").read_text())["results"]
    verdicts = {(r["version"], r["gate"]): r["verdict"] for r in rows}
    assert verdicts["1", "performance"] == "pass"
    assert verdicts["2", "performance"] == "fail"
    assert sum(line.startswith("evidence ") for line in result.outlines) == 2
    no_traceback(result)


def test_explicit_paths_win_and_a_users_own_test_takes_the_fixtures(gates, pytester):
    """A user's test is parametrized in the same way, and its verdict counts."""
    pytester.makepyfile(
        test_own="""
        import pytest
        from pytest_mlgates.results import GateResult

        @pytest.mark.mlgate("bias")
        def test_bias(predictions, holdout, baseline, thresholds, judge):
            gap = float((predictions - holdout.y).mean())
            judge(GateResult("bias", "pass" if abs(gap) < 1 else "fail", gap, threshold=1.0, n=holdout.rows))

        def test_plain(candidate):
            assert candidate.version.version == "1"
        """
    )
    result = gates("test_own.py", "--model-name", "demand", "--model-version", GOOD, "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_own.py::test_bias[[]v1[]] PASSED*", "*test_own.py::test_plain[[]v1[]] PASSED*"])


def test_the_option_beats_testpaths_and_survives_python_files(gates, pytester):
    """A project with its own testpaths and python_files still gets five gates, and a same-named test does no harm."""
    pytester.makeini("[pytest]\ntestpaths = own\npython_files = check_*.py\n")
    pytester.mkdir("own").joinpath("check_gate_1_performance.py").write_text("def test_own(): assert False\n")
    result = gates("--model-name", "demand", "--model-version", GOOD, "--collect-only", "-q")
    assert sum(line.endswith("[v1]") and "test_gate" in line for line in result.outlines) == 5


def test_inconclusive_blocks_unless_the_settings_say_warn(gates, demand, pytester):
    """Too few rows settle nothing: never shown as a pass; `warn` lets the run pass and still says so."""
    few = demand.settings.replace("lh_gold.demand_holdout", "few.csv").replace("floor = 0.5", "floor = 0.8")
    from tests.plugin.conftest import rows

    rows(30, 5).to_csv(pytester.path / "few.csv", index=False)
    pytester.makefile(".toml", mlgates=few)
    result = gates("--model-name", "demand", "--model-version", GOOD, "-v", "--mlgates-no-evidence")
    assert result.ret == 1
    assert "INCONCLUSIVE" in words(result).values()
    assert "FAILED" not in words(result).values()
    warned = few.replace('domain = "retail"', 'domain = "retail"\non_inconclusive = "warn"')
    pytester.makefile(".toml", mlgates=warned)
    result = gates("--model-name", "demand", "--model-version", GOOD, "-v", "--mlgates-no-evidence")
    assert result.ret == 0
    assert "INCONCLUSIVE" in words(result).values()


def test_hooks_are_told_and_a_job_summary_is_written_where_github_wants_one(gates, pytester, monkeypatch):
    """A conftest hears of each verdict and of the whole run; a Markdown table per version; evidence can be left out."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    pytester.makeconftest(
        """
        def pytest_mlgates_verdict(config, result):
            print("HEARD", result.gate, result.verdict)

        def pytest_mlgates_report(config, report):
            print("WHOLE", report.model, report.verdict)
        """
    )
    result = gates("--model-name", "demand", "--model-version", GOOD, "-s", "--mlgates-no-evidence")
    result.stdout.fnmatch_lines(["*HEARD performance pass*", "*WHOLE demand pass*"])
    result.stdout.no_fnmatch_line("*evidence * stored*")
    text = (pytester.path / "summary.md").read_text()
    assert "demand v1: PASS" in text
    assert text.count("✅") == 4 + 7  # gates, and the further checks


HEAVY = (
    "mlflow",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "deltalake",
    "duckdb",
    "pyarrow",
    "pydantic",
    "click",
    "locust",
    "httpx",
)


def test_a_run_that_does_not_use_it_pays_nothing(pytester):
    """Without our options, nothing but pytest and the standard library is imported."""
    pytester.makepyfile(
        f"""
        import sys

        def test_nothing_heavy():
            assert "pytest_mlgates.plugin" in sys.modules
            assert not [name for name in {HEAVY!r} if name in sys.modules]
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:xdist")
    result.assert_outcomes(passed=1)


def test_importing_the_plugin_imports_the_standard_library_and_pytest_only(pytester):
    """The other half: by import, whatever other plugins do."""
    code = f"import pytest_mlgates.plugin, sys; print([n for n in {HEAVY!r} if n in sys.modules])"
    result = pytester.run(sys.executable, "-c", code)
    result.stdout.fnmatch_lines(["[[][]]"])
