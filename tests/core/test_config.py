"""Settings: what is accepted, and that every mistake is reported at once with its key and the fix."""

import pytest

from pytest_mlgates.config import CHECKS, GATES, TEMPLATE, find_settings, load_settings, parse_settings
from pytest_mlgates.errors import ConfigError

GOOD = {"models": {"churn-*": {"task": "binary", "target": "churned", "holdout": "lh_gold.churn_holdout"}}}


def model(**changes):
    return {"models": {"churn-*": {**GOOD["models"]["churn-*"], **changes}}}


def test_the_template_is_valid_and_says_what_is_in_force(tmp_path):
    (tmp_path / "mlgates.toml").write_text(TEMPLATE)
    settings = load_settings(start=tmp_path, env={})
    churn = settings.model("churn")
    assert (churn.gates.performance.min_ratio, churn.gates.calibration.max_ece, churn.metric) == (0.95, 0.10, "auc")
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert settings.lakehouse == str(tmp_path / "lakehouse")
    assert churn.required[:5] == GATES
    assert set(churn.required[5:]) < set(CHECKS)
    assert "bounds" not in churn.required  # nothing declared


def test_all_mistakes_are_reported_at_once_with_the_nearest_key():
    raw = {
        "lakehuose": "x",
        "models": {
            "churn-*": {
                "task": "classification",
                "target": 3,
                "gates": {"performance": {"min_ration": 0.9, "floor": "high"}, "calibrations": {}},
            }
        },
    }
    with pytest.raises(ConfigError) as caught:
        parse_settings(raw)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 7
    for part in (
        "lakehuose: unknown key; did you mean 'lakehouse'?",
        "models.\"churn-*\".gates.performance.min_ration: unknown key; did you mean 'min_ratio'?",
        "performance.floor: expected a number, got 'high'",
        "calibrations: unknown key; did you mean 'calibration'?",
        "target: expected a string, got 3",
        "holdout: missing",
        "'regression', 'binary' or 'multiclass'",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"regulated": True}, "needs sensitive"),
        ({"gates": {"performance": {"min_ratio": -1}}}, "greater than 0"),
        ({"gates": {"latency": {"calls": 0}}}, "greater than or equal to 1"),
        ({"gates": {"latency": {"calls": 10.5}}}, "expected a whole number"),
        ({"on_inconclusive": "pass"}, "'block' or 'warn'"),
        ({"regulated": "yes"}, "expected true or false"),
        ({"gates": 3}, "expected a table"),
    ],
)
def test_a_wrong_value_names_key_and_limit(changes, part):
    with pytest.raises(ConfigError, match=part):
        parse_settings(model(**changes))


def test_no_models_table_is_an_error():
    with pytest.raises(ConfigError, match="no \\[models"):
        parse_settings({"lakehouse": "x"})


def test_own_name_wins_over_a_glob_and_no_match_is_an_error():
    raw = {"models": {"a*": GOOD["models"]["churn-*"], "ab": {**GOOD["models"]["churn-*"], "target": "own"}}}
    settings = parse_settings(raw)
    assert settings.model("ab").target == "own"
    assert settings.model("ac").target == "churned"
    with pytest.raises(ConfigError, match=r"no \[models.* matches 'zz'"):
        settings.model("zz")


def test_the_digest_follows_the_thresholds_and_nothing_else():
    plain = parse_settings(model()).digest("churn-1")
    assert plain == parse_settings({**model(), "lakehouse": "elsewhere"}).digest("churn-1")
    assert plain != parse_settings(model(gates={"calibration": {"max_ece": 0.2}})).digest("churn-1")
    assert plain != parse_settings(model(holdout="other.csv")).digest("churn-1")


def test_settings_are_found_upwards_and_in_pyproject(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.mlgates.models.churn]\ntask = "binary"\ntarget = "y"\nholdout = "h.csv"\n')
    assert find_settings(below) == tmp_path / "pyproject.toml"
    assert load_settings(start=below, env={}).model("churn").target == "y"
    (below / "mlgates.toml").write_text(TEMPLATE)
    assert find_settings(below) == below / "mlgates.toml"


def test_the_environment_fills_in_what_the_file_leaves_out(tmp_path):
    (tmp_path / "mlgates.toml").write_text('[models.churn]\ntask = "binary"\ntarget = "y"\nholdout = "h.csv"\n')
    env = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "MLGATES_LAKEHOUSE": "/data"}
    settings = load_settings(start=tmp_path, env=env)
    assert (settings.tracking_uri, settings.lakehouse) == ("http://127.0.0.1:5000", "/data")


@pytest.mark.parametrize("content", ["models = [", "\xff".encode("latin-1")])
def test_an_unreadable_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "mlgates.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"mlgates\.toml"):
        load_settings(path, env={})


def test_no_file_at_all_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match="mlgates init"):
        load_settings(start=tmp_path, env={})
