"""The exported files: parsed by what exists offline, and the query run on DuckDB against our own evaluation."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path

import duckdb
import duckdb_kql
import pytest
from pycep import BicepParser

from pytest_mlgates.alerts.azure import export, kql
from pytest_mlgates.alerts.query import bins_by_model
from pytest_mlgates.config import AlertRule, load_settings
from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.tables import DRIFT_METRICS
from pytest_mlgates.wiring import Project

from .conftest import MODEL, NOW, append_metrics, make_settings, metric_row

CHANNELS = [
    {"kind": "email", "to": ["oncall@example.org", "o'brien@example.org"]},
    {"kind": "teams", "url_env": "TEAMS"},
    {"kind": "webhook", "name": "la-retrain", "url": "https://user:planted-password@example.org/hook?sig=planted-signature"},
]


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    return export(
        make_settings(tmp_path, channels=CHANNELS, rule={"model": "casino-*", "escalate": {"P1": 0.25}, "sustained": 3})
    )


def test_the_bicep_file_parses_and_holds_rule_group_and_secure_parameters(files) -> None:
    found = BicepParser().parse(text=files["alerts.bicep"])
    kinds = [r["type"] for r in found["resources"].values()]
    assert sorted(kinds) == ["Microsoft.Insights/actionGroups", *["Microsoft.Insights/scheduledQueryRules"] * 2]
    levels = {r["config"]["name"]: r["config"]["properties"] for r in found["resources"].values() if "Rules" in r["type"]}
    assert {name: one["severity"] for name, one in levels.items()} == {"drift": 2, "drift-P1": 1}
    for one in levels.values():
        criterion = one["criteria"]["allOf"][0]
        assert criterion["failingPeriods"] == {"numberOfEvaluationPeriods": 3, "minFailingPeriodsToAlert": 3}
    assert "> 0.25" in files["rule-drift-P1.kql"]
    secure = [name for name, p in found["parameters"].items() if any(d["type"] == "secure" for d in p.get("decorators", []))]
    assert len(secure) == 2


def test_no_address_with_a_secret_is_written(files) -> None:
    assert "planted" not in "".join(files.values())


def test_the_json_files_are_the_tutorials(files) -> None:
    app = json.loads(files["logic-app.json"])["definition"]
    assert list(app["triggers"]) == ["When_Action_Group_fires"]
    call = app["actions"]["Trigger_Retrain_Pipeline"]["inputs"]
    assert call["uri"].endswith("/jobs/instances?jobType=Pipeline")
    assert set(call["body"]["executionData"]["parameters"]) == {"trigger_reason", "alert_id"}
    pipeline = json.loads(files["pl_retrain.pipeline-content.json"])["properties"]
    assert set(pipeline["parameters"]) == {"trigger_reason", "alert_id"}
    given = json.loads(files["alerts.parameters.json"])["parameters"]
    asked = BicepParser().parse(text=files["alerts.bicep"])["parameters"]
    assert {name for name, p in asked.items() if p["default"] is None} == set(given)
    secure = {name for name, p in asked.items() if any(d["type"] == "secure" for d in p.get("decorators", []))}
    assert secure == {name for name, p in given.items() if "reference" in p}
    assert secure


def test_the_templates_of_the_reference_project_are_what_its_settings_export() -> None:
    root = Path(__file__).parents[2]
    assert {p.name: p.read_text() for p in (root / "pipelines" / "azure").iterdir()} == export(
        load_settings(root / "mlgates.toml", env={})
    ), "run: mlgates azure export"


@pytest.mark.parametrize(
    "rule",
    [
        AlertRule(name="r"),
        AlertRule(name="r", model="casino-*", threshold=0.1),
        AlertRule(name="r", model="casino-slot-revenue-forecast-challenger", aggregate="avg", bin_minutes=30),
        AlertRule(name="r", aggregate="min", metrics=("psi_overall",), window_days=30),
    ],
    ids=range(4),
)
def test_the_exported_query_finds_the_same_bins_as_ours(store, rule) -> None:
    chance = random.Random(5)
    metrics = [
        metric_row(
            chance.choice(
                [chance.uniform(0, 0.4), 0.2, float("nan"), float("inf")] if i % 9 == 0 else [chance.uniform(0, 0.4), 0.2]
            ),
            at=NOW - dt.timedelta(minutes=chance.randrange(600)),
            metric=chance.choice(["psi_overall", "performance_rmse_delta_pct", "psi"]),
            model=chance.choice([MODEL, "casino-other", "loan-approval"]),
            days=chance.choice([7, 30]),
            run=f"r{i}",
        )
        for i in range(120)
    ]
    append_metrics(store, metrics)
    ours = {
        (model, b.start.replace(tzinfo=None), round(b.value, 9))
        for model, bins in bins_by_model(store, rule, since=NOW - dt.timedelta(days=1), now=NOW).items()
        for b in bins
        if b.value > rule.threshold
    }
    rows = store.read(DRIFT_METRICS)
    with duckdb.connect() as connection:
        connection.register("raw", rows)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE WorkspaceMonitoring AS SELECT 'ml_drift_metrics' AS TableName, model_name AS ModelName, metric_type AS"
            " MetricName, current_days || 'd' AS \"Window\", value AS MetricValue,"
            " make_timestamp(epoch_us(run_timestamp)) AS TimeGenerated FROM raw"
        )
        found = connection.execute(duckdb_kql.to_sql(kql(rule)))
        names = [d[0] for d in found.description]
        theirs = {
            (row["ModelName"], row["TimeGenerated"].replace(tzinfo=None), round(row["Value"], 9))
            for row in (dict(zip(names, r, strict=True)) for r in found.fetchall())
        }
    assert theirs == ours
    assert ours


@pytest.mark.parametrize("name", ["Drift", "dr!ift"])
def test_rules_that_would_be_one_in_azure_are_refused(tmp_path, name) -> None:
    settings = make_settings(tmp_path)
    rules = (*settings.alerts.rules, AlertRule(name="dr ift" if "!" in name else name))
    rules = (AlertRule(name="dr-ift"), rules[-1]) if "!" in name else rules
    with pytest.raises(UsageProblem, match="get the same name"):
        export(settings.model_copy(update={"alerts": settings.alerts.model_copy(update={"rules": rules})}))


def test_the_command_writes_the_files(tmp_path) -> None:
    from click.testing import CliRunner

    from pytest_mlgates.cli import cli

    (tmp_path / "mlgates.toml").write_text('[models."m"]\ntask = "regression"\ntarget = "y"\nholdout = "lh_gold.h"\n')
    out = tmp_path / "azure"
    done = CliRunner().invoke(cli, ["--settings", str(tmp_path / "mlgates.toml"), "azure", "export", "--dir", str(out)])
    assert done.exit_code == 0, done.output
    settings = Project.open(tmp_path / "mlgates.toml").settings
    assert {p.name: p.read_text() for p in out.iterdir()} == export(settings)
