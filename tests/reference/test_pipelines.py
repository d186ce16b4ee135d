"""The pipelines as commands: exit code, console lines, one-line errors."""

import importlib.util
import json
from pathlib import Path

import pyarrow as pa
import pytest

from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.tables import FACT

PIPELINES = Path(__file__).parents[2] / "pipelines"


def pipeline(name):
    spec = importlib.util.spec_from_file_location(f"pipeline_{name}", PIPELINES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def project(tmp_path, monkeypatch, trained):
    """A project folder on the session's registry and an empty lakehouse; tables are its own."""
    settings = [
        f"tracking_uri = {json.dumps(trained.tracker.uri)}",
        'lakehouse = "lakehouse"',
        '[models."casino-slot-revenue-forecast-*"]',
        'task = "regression"',
        'target = "revenue"',
        'holdout = "lh_gold.slot_revenue_holdout"',
    ]
    (tmp_path / "mlgates.toml").write_text("\n".join(settings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_INTENT", raising=False)
    return tmp_path


def test_synthesise_then_train(project, capsys):
    assert pipeline("synthesise")(["--properties", "2", "--machines", "3", "--days", "60"]) == 0
    out = capsys.readouterr().out
    assert "lh_gold.fact_daily_slot_revenue version 0: 360 rows written, 2026-02-26 to 2026-04-26" in out
    assert "120 property-days with every input" in out
    assert pipeline("train")(["--only", "challenger", "--n-estimators", "5", "--intent", "exploratory"]) == 0
    out = capsys.readouterr().out
    assert "Loaded 120 rows from lh_gold.fact_daily_slot_revenue" in out
    assert "Registered: casino-slot-revenue-forecast-challenger v" in out


def test_more_days_are_appended(project, capsys):
    assert pipeline("synthesise")(["--properties", "1", "--machines", "1", "--days", "40"]) == 0
    more = ["--properties", "1", "--machines", "1", "--append", "--end-date", "2026-05-03"]
    assert pipeline("synthesise")([*more, "--shift-from", "2026-04-27", "--level-shift", "1.4"]) == 0
    assert "version 1: 7 rows written, 2026-04-27 to 2026-05-03" in capsys.readouterr().out
    assert Lakehouse(project / "lakehouse").read(FACT).num_rows == 47


def test_a_string_play_date_stops_training_with_one_line(project, capsys):
    assert pipeline("synthesise")(["--properties", "1", "--machines", "1", "--days", "40"]) == 0
    store = Lakehouse(project / "lakehouse")
    table = store.read(FACT)
    at = table.schema.get_field_index("play_date")
    store.overwrite(FACT, table.set_column(at, "play_date", table.column("play_date").cast(pa.string())))
    capsys.readouterr()
    assert pipeline("train")([]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "cast to DATE in Silver before promoting to Gold" in shown.err


def test_an_empty_lakehouse_is_named(project, capsys):
    assert pipeline("train")([]) == 1
    error = capsys.readouterr().err
    assert "lh_gold.fact_daily_slot_revenue is not in the lakehouse" in error
    assert error.count("\n") == 1


def test_an_unknown_intent_is_a_usage_error(project, capsys):
    assert pipeline("train")(["--intent", "production"]) == 4
    assert "MLFLOW_RUN_INTENT" in capsys.readouterr().err
    assert pipeline("train_lending")(["--intent", "x"]) == 4


def test_the_lending_pipeline_registers_both_models(project, capsys):
    assert pipeline("train_lending")([]) == 0
    out = capsys.readouterr().out
    assert "Loaded 1,989 rows" in out
    assert "Registered: loan-approval-baseline v" in out
