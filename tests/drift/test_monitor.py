"""A drift run on a real registry and real Delta tables: quiet when nothing moved, loud when something did, written once."""

import concurrent.futures
import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest

from pytest_mlgates.cli import main as mlgates
from pytest_mlgates.errors import DataUnusable, LakehouseError, UsageProblem
from pytest_mlgates.services import drift_records as records
from pytest_mlgates.services.calibrate import calibrate_limits
from pytest_mlgates.services.drift_gate import drift_items, drift_result
from pytest_mlgates.services.monitor import run_drift
from pytest_mlgates.tables import AUDIT, DRIFT_METRICS, DRIFT_SUPPRESSIONS, RETRAIN_TRIGGERS

NOW = dt.datetime(2026, 4, 27, 4, tzinfo=dt.UTC)
TABLE = "lh_gold.slot_revenue_features"


def run(ring, **how):
    return run_drift(ring.registry, ring.store, ring.project.settings, ring.model, **how)


def rows(ring, table=DRIFT_METRICS):
    return ring.store.read(table).to_pylist()


def overall(ring, metric):
    return [r["value"] for r in rows(ring) if r["metric_type"] == metric and r["feature_name"] == records.OVERALL]


def edit(ring, change):
    ring.store.overwrite(TABLE, change(ring.store.read(TABLE)))


def test_unshifted_rows_are_quiet_and_recorded(ring):
    """The tutorial's first run: no drift, a row per feature, no trigger."""
    found = run(ring, now=NOW)
    assert found.verdict == "stable"
    assert found.exit_code == 0
    assert (found.windows.reference.span_days, found.windows.current.span_days) == (90, 7)
    assert found.windows.current.rows.num_rows == 140
    assert str(found.windows.current.last) == "2026-04-26"
    features = {r["feature_name"] for r in rows(ring) if r["metric_type"] == "psi"}
    assert features >= {"day_of_week", "is_holiday", "promo_active", "lag_7_revenue", "lag_30_revenue"}
    assert overall(ring, "psi_overall") == [0.0]
    delta = overall(ring, "performance_rmse_delta_pct")[0]
    assert delta is None or delta <= 0.10
    assert rows(ring, RETRAIN_TRIGGERS) == []
    assert {(r["reference_days"], r["current_days"]) for r in rows(ring)} == {(90, 7)}


@pytest.mark.prove
def test_past_windows_are_quiet(quiet_ring):
    """Seasons, pay days and holidays are no drift: the windows of 20 weeks before, judged as if each were today."""
    for weeks in range(1, 20):
        found = run(quiet_ring, now=NOW - dt.timedelta(weeks=weeks), write=False)
        assert found.verdict != "drift", found.decision


def test_injected_shift_alarms_and_asks_for_a_retrain(ring):
    store = ring.store
    before = store.read(TABLE).sort_by([("property_id", "ascending"), ("play_date", "ascending")])
    records.inject_rows(
        store, ring.project.settings.model(ring.model).drift, ring.model, feature="lag_7_revenue", factor=1.6, now=NOW
    )
    found = run(ring, now=NOW)
    assert found.verdict == "drift"
    assert found.exit_code == 3
    assert [f.feature for f in found.report.drifted] == ["lag_7_revenue"]
    assert found.decision.severity == "P1"
    assert "data drift" in found.decision.sentence
    assert overall(ring, "psi_overall")[0] > 0.20
    assert overall(ring, "performance_rmse_delta_pct")[0] > 0.20
    trigger = rows(ring, RETRAIN_TRIGGERS)
    assert [(t["status"], t["drift_run_id"]) for t in trigger] == [("open", found.run_id)]
    assert any("injected drift" in note for note in found.notes)
    records.undo_injection(store, ring.model, now=NOW)
    after = store.read(TABLE).sort_by([("property_id", "ascending"), ("play_date", "ascending")])
    assert after.equals(before)
    with pytest.raises(UsageProblem, match="no injection"):
        records.undo_injection(store, ring.model, now=NOW)


def test_undo_refuses_to_lose_newer_rows(ring):
    spec = ring.project.settings.model(ring.model).drift
    records.inject_rows(ring.store, spec, ring.model, feature="lag_7_revenue", factor=2.0, now=NOW)
    edit(ring, lambda t: t.slice(0, 5000))
    with pytest.raises(LakehouseError, match="written to since"):
        records.undo_injection(ring.store, ring.model, now=NOW)


def test_same_windows_are_recorded_once(ring):
    first, count = run(ring, now=NOW), len(rows(ring))
    again = run(ring, now=NOW)
    assert (first.written, again.written) == (True, False)
    assert again.run_id == first.run_id
    assert len(rows(ring)) == count
    forced = run(ring, now=NOW, force=True)
    assert forced.run_id != first.run_id
    assert len(rows(ring)) == 2 * count


def test_two_days_are_two_runs(ring):
    """The tutorial's check: after two runs the table has two run ids."""
    run(ring, now=NOW - dt.timedelta(days=1))
    run(ring, now=NOW)
    assert len({r["run_id"] for r in rows(ring)}) == 2


def test_two_at_once_write_once(ring):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: run(ring, now=NOW), range(2)))
    assert sum(f.written for f in found) == 1
    keys = [(r["run_id"], r["feature_name"], r["metric_type"]) for r in rows(ring)]
    assert len(keys) == len(set(keys))


def test_a_run_that_died_before_its_trigger_writes_it_next_time(ring):
    edit(ring, lambda t: shifted(t, "lag_7_revenue", 1.6))
    found = run(ring, now=NOW, write=False)
    records.create_tables(ring.store)
    from pytest_mlgates.services.drift_rows import metric_rows

    spec = ring.project.settings.model(ring.model).drift
    records.append_once(ring.store, DRIFT_METRICS, found.run_id, metric_rows(found, spec))
    again = run(ring, now=NOW)
    assert not again.written
    assert len(rows(ring, RETRAIN_TRIGGERS)) == 1


def recent_days(table, days=7):
    last = dt.date(2026, 4, 26)
    return np.array([(last - day).days < days for day in table["play_date"].to_pylist()])


def shifted(table, column, factor, days=7):
    values = np.where(recent_days(table, days), table[column].to_numpy() * factor, table[column].to_numpy())
    return table.set_column(table.column_names.index(column), column, pa.array(values))


def test_cool_down_keeps_the_second_retrain_back(ring):
    """Drift goes on the next day: recorded and alarming, but the retrain of the day before is given its seven days."""
    edit(ring, lambda t: shifted(t, "lag_7_revenue", 1.6, days=8))
    run(ring, now=NOW - dt.timedelta(days=1))
    later = run(ring, now=NOW)
    assert later.exit_code == 3
    assert [t["status"] for t in sorted(rows(ring, RETRAIN_TRIGGERS), key=lambda t: t["triggered_at"])] == ["open", "cooldown"]
    assert "in cool-down until" in later.trigger["reasons"]


def test_thin_window_gives_no_number_and_no_retrain(ring):
    """4 days are 80 rows: no figure in the table, no trigger, exit code 0."""
    edit(ring, lambda t: shifted(t, "lag_7_revenue", 3.0))
    found = run(ring, current_days=4, now=NOW)
    assert found.verdict == "insufficient"
    assert found.exit_code == 0
    assert overall(ring, "psi_overall") == [None]
    assert overall(ring, "performance_rmse_delta_pct") == [None]
    assert rows(ring, RETRAIN_TRIGGERS) == []


def test_empty_current_window(ring):
    found = run(ring, now=NOW + dt.timedelta(days=60))
    assert found.verdict == "insufficient"
    assert found.decision.severity == "P1"  # no rows at all is worth a call
    assert rows(ring, RETRAIN_TRIGGERS) == []


def test_lost_column_is_mended_not_retrained(ring):
    edit(ring, lambda t: t.drop_columns(["promo_active"]))
    found = run(ring, now=NOW)
    assert found.exit_code == 3
    assert found.decision.triggers == ()
    assert "promo_active is broken" in found.decision.sentence


def test_concept_drift_is_told_from_data_drift(ring):
    """The target changed, the inputs did not."""
    edit(ring, lambda t: shifted(t, "revenue", 1.8))
    found = run(ring, now=NOW)
    assert found.report.verdict == "stable"
    assert found.facts.label.drifted
    assert "inputs stable: concept drift; retrain on fresh labels, review features" in found.decision.sentence
    assert "concept" in found.decision.triggers


def test_suppression_is_recorded_audited_and_ends(ring, capsys):
    edit(ring, lambda t: shifted(t, "lag_7_revenue", 1.6))
    until = (dt.datetime.now(dt.UTC) + dt.timedelta(days=30)).date()
    command = ["--settings", str(ring.folder / "mlgates.toml"), "drift", "suppress", ring.model]
    assert mlgates([*command, "--feature", "lag_7_revenue", "--reason", "moved tills", "--until", str(until)]) == 0
    assert [r["feature"] for r in rows(ring, DRIFT_SUPPRESSIONS)] == ["lag_7_revenue"]
    assert any("moved tills" in r["rationale"] for r in rows(ring, AUDIT))
    found = run(ring, now=dt.datetime.now(dt.UTC).replace(year=2026, month=4, day=27), write=False)
    assert found.report.verdict == "stable"
    assert "moved tills" in found.report["lag_7_revenue"].reason
    assert records.suppressions(ring.store, ring.model, until) == {}
    capsys.readouterr()
    assert mlgates([*command, "--feature", "lag_7_revenues", "--reason", "x", "--until", str(until)]) == 4
    assert "has no input 'lag_7_revenues'; did you mean 'lag_7_revenue'?" in capsys.readouterr().err


def test_calibration_of_the_stable_past(ring):
    found = calibrate_limits(ring.registry, ring.store, ring.project.settings, ring.model)
    assert found.alarms == 0
    assert found.windows >= 10
    assert set(found.limits) == {"day_of_week", "is_holiday", "promo_active", "lag_7_revenue", "lag_30_revenue"}
    assert 0.02 <= found.limits["lag_7_revenue"] < 0.5


def test_text_dates_are_refused_with_the_cast(ring):
    edit(ring, lambda t: t.set_column(1, "play_date", t["play_date"].cast(pa.string())))
    with pytest.raises(DataUnusable, match="expected DATE or TIMESTAMP; cast it in Silver"):
        run(ring)


def test_manual_trigger_and_injected_metric_row(ring):
    records.manual_trigger(ring.store, ring.model, "1", reason="new tills", now=NOW)
    done = records.inject_metric(ring.store, ring.model, "1", now=NOW)
    row = next(r for r in rows(ring) if r["run_id"] == done.injection_id)
    assert (row["metric_type"], row["value"], row["status"]) == ("psi_overall", 0.30, "injected")
    assert records.past_values(ring.store, ring.model, "1", "psi_overall") == []
    assert rows(ring, RETRAIN_TRIGGERS)[0]["reasons"] == "manual: new tills"


def test_command_line(ring, capsys):
    """Exit codes 0, 3 and 4, the JSON's names, and the tutorial's table."""
    command = ["--settings", str(ring.folder / "mlgates.toml"), "drift", "--model", ring.model]
    assert mlgates(command) == 0
    shown = capsys.readouterr().out
    assert "Reference window: 90d (" in shown
    assert "→ No retrain trigger written." in shown
    edit(ring, lambda t: shifted(t, "lag_7_revenue", 1.6))
    assert mlgates([*command, "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert {"run_id", "verdict", "severity", "decision", "features", "prediction", "performance", "concept"} <= set(found)
    names = {"feature", "psi", "ks", "ks_p", "chi2", "cramers_v", "js", "wasserstein", "verdict"}
    assert all(names <= set(f) for f in found["features"])
    assert mlgates(["--settings", str(ring.folder / "mlgates.toml"), "drift", "--model", "nosuch"]) == 4
    assert mlgates([*command, "--reference", "soon"]) == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 2


def test_windows_from_files(ring, tmp_path):
    """Two Parquet files instead of days; and the reference stored at training."""
    import pyarrow.parquet as pq

    table = ring.store.read(TABLE)
    pq.write_table(table.slice(0, 2000), tmp_path / "then.parquet")
    pq.write_table(table.slice(2000, 1500), tmp_path / "now.parquet")
    found = run(ring, reference_days="then.parquet", current_days="now.parquet", write=False)
    assert (found.windows.reference.rows.num_rows, found.windows.current.rows.num_rows) == (2000, 1500)
    trained = run(ring, reference_days="training", write=False, now=NOW)
    assert trained.windows.reference.label.endswith("training")


def test_pytest_items_name_the_input_that_moved(ring, pytester):
    """``--mlgates-drift``: one item per input and drift type, in a run of its own."""
    edit(ring, lambda t: shifted(t, "lag_7_revenue", 1.6))
    settings = str(ring.folder / "mlgates.toml")
    done = pytester.runpytest_inprocess(
        "--model-name", ring.model, "--model-version", "1", "--mlgates-drift", "-v", "--mlgates-settings", settings
    )
    shown = done.stdout.str()
    assert done.ret == 1, shown + done.stderr.str()
    assert "test_drift[input:lag_7_revenue-v1] FAILED" in shown
    assert "test_drift[input:lag_30_revenue-v1] PASSED" in shown
    assert "test_gate_1" not in shown


def test_items_cover_inputs_and_types(quiet_ring):
    items = drift_items(quiet_ring.registry, quiet_ring.project.settings, quiet_ring.model, "1")
    assert items[0] == "input:day_of_week"
    assert items[-4:] == ["prediction", "label", "performance", "concept"]
    found = run(quiet_ring, now=NOW, write=False)
    assert {drift_result(found, item).verdict.value for item in items} == {"pass"}
