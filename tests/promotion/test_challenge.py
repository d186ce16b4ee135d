"""Champion/challenger on real models, a real registry and a real table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from pytest_mlgates.errors import ConfigError, DataUnusable, LakehouseError, ModelNotFound, PromotionRefused
from pytest_mlgates.services import challenge
from pytest_mlgates.tables import CHALLENGER

from .children import fork_server
from .world import HOLDOUT, MODEL, World

DAILY = "lh_gold.daily"
FIRST = dt.date(2026, 3, 1)
TODAY = FIRST + dt.timedelta(days=60)
SETTINGS = f'[models.{MODEL}.drift]\ntable = "{DAILY}"\ntime_column = "play_date"'


def daily(number: int = 60, *, late: dict[int, int] | None = None, missing: tuple[int, ...] = ()) -> pd.DataFrame:
    """Twelve rows a day of revenue = 3 x + noise; ``late[day]`` rows of a day have no actual yet."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "play_date": [FIRST + dt.timedelta(days=d) for d in range(number) for _ in range(12)],
            "x": rng.uniform(10, 20, 12 * number),
        }
    )
    frame["revenue"] = 3 * frame["x"] + rng.normal(0, 1, len(frame))
    for day, rows in (late or {}).items():
        frame.loc[frame.index[12 * day : 12 * day + rows], "revenue"] = np.nan
    return frame[~frame["play_date"].isin([FIRST + dt.timedelta(days=d) for d in missing])]


def write(world: World, frame: pd.DataFrame) -> None:
    world.lake.overwrite(DAILY, pa.Table.from_pandas(frame, preserve_index=False))


def add_model(world: World, slope: float, stage: str, name: str = MODEL) -> str:
    x = pd.DataFrame({"x": [0.0, 1.0]})
    model = LinearRegression().fit(x, [0.0, slope])
    mlflow.set_tracking_uri(world.uri)
    mlflow.set_registry_uri(world.uri)
    if mlflow.get_experiment_by_name("models") is None:
        mlflow.create_experiment("models", str(world.folder / "runs"))
    mlflow.set_experiment("models")
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            model, name="model", registered_model_name=name, pip_requirements=[],
            signature=mlflow.models.infer_signature(x, model.predict(x)), serialization_format="cloudpickle",
        )  # fmt: skip
    version = str(info.registered_model_version)
    world.judge(world.registry.get(name, version))
    world.promote(version, "Staging", name)
    if stage == "Production":
        world.hotfix(version, name=name)
    return version


@pytest.fixture
def rivals(make_world: Callable[..., World]) -> World:
    """v1, Production, is off by a fifth; v2, Staging, is right."""
    world = make_world(more=SETTINGS)
    add_model(world, 2.4, "Production")
    add_model(world, 3.0, "Staging")
    write(world, daily())
    return world


def evaluate(world: World, today: dt.date = TODAY, **options: object) -> challenge.Evaluation:
    pair = challenge.find_pair(world.registry, world.settings, MODEL, MODEL)
    return challenge.evaluate(world.registry, world.lake, world.settings, *pair, today=today, **options)


def table(world: World) -> pd.DataFrame:
    return world.lake.read(CHALLENGER).to_pandas().sort_values(["eval_date", "stage"])


def test_a_day_is_scored_once_for_both_with_the_right_numbers(rivals: World):
    done = evaluate(rivals)
    assert done.scored == (TODAY - dt.timedelta(days=1),)
    assert evaluate(rivals).scored == ()
    rows = table(rivals)
    assert list(rows["stage"]) == ["Production", "Staging"]
    assert list(rows["version"]) == ["1", "2"]
    last = daily().tail(12)
    error = (2.4 * last["x"] - last["revenue"]).to_numpy()
    assert rows["rmse"].iloc[0] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert rows["mape"].iloc[0] == pytest.approx(np.mean(np.abs(error) / last["revenue"]))
    spread = np.sum((last["revenue"] - last["revenue"].mean()) ** 2)
    assert rows["r2"].iloc[0] == pytest.approx(1 - np.sum(error**2) / spread)
    assert list(rows["n"]) == [12, 12]


def test_missed_days_are_filled_in_and_late_actuals_are_a_gap_until_they_come(rivals: World):
    write(rivals, daily(late={57: 3}, missing=(58,)))
    evaluate(rivals, TODAY - dt.timedelta(days=4))
    done = evaluate(rivals)
    assert [day.isoformat() for day in done.scored] == ["2026-04-26", "2026-04-29"]
    assert dict(done.gaps) == {
        FIRST + dt.timedelta(days=57): "3 of 12 actuals are not there yet",
        FIRST + dt.timedelta(days=58): "no rows",
    }
    assert (done.race.days, done.race.best_streak) == (3, 2)
    write(rivals, daily())
    again = evaluate(rivals)
    assert [day.isoformat() for day in again.scored] == ["2026-04-27", "2026-04-28"]
    assert (again.race.best_streak, again.gaps, again.race.gaps) == (5, (), ())
    assert len(table(rivals)) == 10


def test_a_first_day_whose_actuals_come_late_is_scored_when_they_are_there(rivals: World):
    write(rivals, daily(late={58: 12}))
    early = evaluate(rivals, TODAY - dt.timedelta(days=1))
    assert (early.scored, len(early.gaps), early.race.days) == ((), 1, 0)
    write(rivals, daily())
    assert [day.isoformat() for day in evaluate(rivals).scored] == ["2026-04-28", "2026-04-29"]
    assert evaluate(rivals).scored == ()


def test_an_infinite_actual_is_a_gap(rivals: World):
    frame = daily()
    frame.loc[frame.index[-1], "revenue"] = np.inf
    write(rivals, frame)
    assert dict(evaluate(rivals).gaps) == {TODAY - dt.timedelta(days=1): "1 of 12 actuals are infinite"}


@pytest.mark.prove
def test_processes_that_evaluate_at_once_score_every_day_once(rivals: World):
    context = fork_server()
    children = [context.Process(target=evaluate_in_child, args=(rivals.folder,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 4
    rows = table(rivals)
    assert len(rows) == 2 * 20
    assert not rows.duplicated(["eval_date", "stage"]).any()


def evaluate_in_child(folder: object) -> None:
    world = World(folder, f"sqlite:///{folder}/mlflow.db")  # type: ignore[arg-type]
    evaluate(world, since=TODAY - dt.timedelta(days=20))


def test_a_better_challenger_reaches_production_without_a_hotfix(rivals: World):
    evaluate(rivals, since=TODAY - dt.timedelta(days=7))
    with pytest.raises(PromotionRefused, match=r"champion revenue v1: 7 of 7 days won.*missing: an e-value of 20"):
        rivals.promote("2", "Production")
    evaluate(rivals, since=FIRST)
    done = rivals.promote("2", "Production")
    assert (done.archived, rivals.stages()) == (("1",), {"1": "Archived", "2": "Production"})
    assert rivals.problems() == []


def test_the_race_is_between_two_versions_and_does_not_pass_to_the_next(rivals: World):
    evaluate(rivals, since=FIRST)
    add_model(rivals, 2.9, "Staging")
    with pytest.raises(PromotionRefused, match="revenue v1 and revenue v3 were never compared"):
        rivals.promote("3", "Production")


def test_a_baseline_model_is_the_champion_where_the_model_has_no_production_version(make_world: Callable[..., World]):
    world = make_world(more='baseline = "models:/base/Production"\n' + SETTINGS)
    text = (world.folder / "mlgates.toml").read_text()
    drift = SETTINGS.replace(MODEL, "base")
    extra = f'[models.base]\ntask = "regression"\ntarget = "revenue"\nholdout = "{HOLDOUT}"\n{drift}\n'
    (world.folder / "mlgates.toml").write_text(text.replace("[policy]", extra + "[policy]"))
    add_model(world, 2.4, "Production", "base")
    add_model(world, 3.0, "Staging")
    write(world, daily())
    pair = challenge.find_pair(world.registry, world.settings, "base", MODEL)
    challenge.evaluate(world.registry, world.lake, world.settings, *pair, today=TODAY, since=FIRST)
    assert world.promote("1", "Production").to_stage == "Production"


def test_what_is_missing_is_named(rivals: World):
    rivals.promote("2", "None")
    with pytest.raises(ModelNotFound, match="no Staging version"):
        challenge.find_pair(rivals.registry, rivals.settings, MODEL, MODEL)
    rivals.promote("2", "Staging")
    with pytest.raises(LakehouseError, match="has no column 'day'"):
        evaluate(rivals, time_column="day")
    write(rivals, daily().assign(play_date=lambda f: f["play_date"].astype(str)))
    with pytest.raises(DataUnusable, match="play_date is string, expected DATE"):
        evaluate(rivals)
    rivals.write_settings()
    with pytest.raises(ConfigError, match="no table of inputs and actuals by day"):
        evaluate(rivals)


def test_the_command_shows_the_race(rivals: World, capsys: pytest.CaptureFixture[str]):
    from pytest_mlgates.cli import main

    settings = ["--settings", str(rivals.folder / "mlgates.toml")]
    words = ["--champion", MODEL, "--challenger", MODEL]
    assert main([*settings, "challenger", "run", *words, "--since", "2026-04-10", "--today", "2026-04-30"]) == 0
    assert "20 days scored (2026-04-10 to 2026-04-29), 0 scored before, 0 gaps" in capsys.readouterr().out
    assert main([*settings, "challenger", "status", *words]) == 0
    shown = capsys.readouterr().out
    assert main([*settings, "challenger", "status"]) == 0  # every race there is
    assert capsys.readouterr().out == shown
    assert "days 20, wins 20, in a row 20 (longest 20)" in shown
    assert "missing: an e-value of 20" in shown
    assert main([*settings, "challenger", "run", *words, "--wins", "3"]) == 4
