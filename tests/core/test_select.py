"""Which versions a name and a spec mean; an empty selection is an error, never a silent pass."""

import dataclasses

import pytest

from pytest_mlgates.errors import ModelNotFound, UsageProblem
from pytest_mlgates.ports import ModelVersion
from pytest_mlgates.services.select import select_versions, version_at

VERSIONS = {
    "churn": [
        ModelVersion("churn", "1", stage="Archived"),
        ModelVersion("churn", "2", stage="Production", aliases=("champion",)),
        ModelVersion("churn", "10", stage="Staging", aliases=("challenger",)),
    ],
    "churn-b": [ModelVersion("churn-b", "1")],
    "empty": [],
}


@dataclasses.dataclass
class InMemoryRegistry:
    """The four reading methods of the port that selection uses."""

    uri: str = "memory"

    def names(self):
        return sorted(VERSIONS)

    def versions(self, name):
        return VERSIONS[name]

    def get(self, name, version):
        for found in VERSIONS[name]:
            if found.version == version:
                return found
        raise ModelNotFound(f"no version {version}")


@pytest.mark.parametrize(
    ("names", "specs", "expected"),
    [
        (["churn"], ["2"], ["churn 2"]),
        (["churn"], ["1,2"], ["churn 1", "churn 2"]),
        (["churn"], ["2", "2,latest"], ["churn 2", "churn 10"]),
        (["churn"], ["all"], ["churn 1", "churn 2", "churn 10"]),
        (["churn"], ["staging"], ["churn 10"]),
        (["churn"], ["@champion"], ["churn 2"]),
        (["churn"], ["challenger"], ["churn 10"]),
        (["churn*"], ["1"], ["churn 1", "churn-b 1"]),
        (["churn", "churn-b"], ["latest"], ["churn 10", "churn-b 1"]),
    ],
)
def test_what_is_meant(names, specs, expected):
    assert [f"{v.name} {v.version}" for v in select_versions(InMemoryRegistry(), names, specs)] == expected


@pytest.mark.parametrize(
    ("names", "specs", "message"),
    [
        (["chrun"], ["1"], "did you mean 'churn'"),
        (["x*"], ["1"], "'x\\*' is not in the registry"),
        (["churn"], ["3"], "no version 3"),
        (["churn"], ["@nobody"], "with alias @nobody"),
        (["churn-b"], ["Production"], "in stage Production.*v1 \\(None\\)"),
        (["churn"], ["newest"], "write a number, latest, all"),
        (["empty"], ["latest"], "register one first"),
        (["empty"], ["all"], "register one first"),
    ],
)
def test_nothing_behind_it_is_an_error_that_says_what_there_is(names, specs, message):
    with pytest.raises(ModelNotFound, match=message):
        select_versions(InMemoryRegistry(), names, specs)


def test_no_version_is_a_usage_error():
    with pytest.raises(UsageProblem, match="--model-version"):
        select_versions(InMemoryRegistry(), ["churn"], [])


@pytest.mark.parametrize(
    ("uri", "version"), [("models:/churn/Production", "2"), ("models:/churn@challenger", "10"), ("models:/churn/1", "1")]
)
def test_model_references(uri, version):
    assert version_at(InMemoryRegistry(), uri).version == version


@pytest.mark.parametrize("uri", ["churn", "models:/churn", "runs:/x/model", "models:/"])
def test_other_text_is_refused(uri):
    with pytest.raises(UsageProblem, match="models:/NAME/Production"):
        version_at(InMemoryRegistry(), uri)
