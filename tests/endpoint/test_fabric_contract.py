"""Our Fabric shapes against Microsoft's published OpenAPI, where it lies beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from pytest_mlgates.endpoint import fabric
from pytest_mlgates.endpoint.definition import Definition
from pytest_mlgates.endpoint.schema import ErrorAnswer, FabricAnswer, InputSchema
from pytest_mlgates.ports import Column

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "fabric-rest-api"
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"Microsoft's OpenAPI files are not at {REFERENCE}")


@pytest.fixture(scope="module")
def definitions():
    return json.loads((REFERENCE / "mlModel" / "definitions.json").read_text())["definitions"]


@pytest.fixture
def endpoint():
    found = Definition("default", "1", trafficSplit={"1": 100.0, "2": 0.0})
    return SimpleNamespace(definition=found, status="Succeeded", failure="", uri="")


def assert_fits(value, name, definitions):
    """Required keys there, no key unknown, enums kept."""
    wanted = definitions[name]
    assert set(wanted.get("required", [])) <= set(value)
    assert set(value) <= set(wanted["properties"]) | {"continuationToken", "continuationUri"}
    for key, given in value.items():
        reference = wanted["properties"].get(key, {}).get("$ref", "").rpartition("/")[2]
        if "enum" in definitions.get(reference, {}):
            assert given in definitions[reference]["enum"]


def test_versions_and_endpoint_have_fabrics_keys_and_words(endpoint, definitions):
    for version in ("1", "2", "3"):
        assert_fits(fabric._version(endpoint, version), "MLModelEndpointVersionInfo", definitions)
    assert_fits(fabric._endpoint(endpoint), "MLModelEndpoint", definitions)


def test_answers_to_scoring_have_fabrics_keys(definitions):
    answer = json.loads(msgspec.json.encode(FabricAnswer("dataframe", "values", [[1.0]])))
    assert_fits(answer, "ScoreDataResponse", definitions)
    assert set(json.loads(msgspec.json.encode(ErrorAnswer("InvalidInput", "m")))) >= {"errorCode", "message"}


def test_fabrics_own_scoring_example_is_read():
    example = json.loads((REFERENCE / "mlModel" / "examples" / "ScoreMLModelEndpoint.json").read_text())
    schema = InputSchema([Column(f"x{i}", "double") for i in range(10)])
    rows = schema.parse(json.dumps(example["parameters"]["scoreDataRequest"]).encode())
    assert rows.fabric
    assert len(rows.values) == len(example["responses"]["200"]["body"]["predictions"])


def test_every_endpoint_path_of_the_reference_is_answered(definitions):
    from pytest_mlgates.endpoint.schema import BadRequest

    swagger = json.loads((REFERENCE / "mlModel" / "swagger.json").read_text())
    manager = SimpleNamespace(find=lambda *_: None, get=_no_endpoint, new=_no_endpoint)
    unanswered = []
    for path, methods in swagger["paths"].items():
        _, _, rest = path.partition("/endpoint")
        if "/endpoint" not in path or rest.endswith("/score"):
            continue
        parts = [p.replace("{name}", "1") for p in rest.strip("/").split("/") if p]
        for method in methods:
            try:
                fabric.route(manager, method.upper(), "m", parts, b'{"scaleRule": "AlwaysOn"}' if "versions" in rest else b"{}")
            except BadRequest as error:
                if "no such resource" in str(error):
                    unanswered.append(f"{method} {path}")
    assert unanswered == []


def _no_endpoint(*_):
    from pytest_mlgates.endpoint.schema import BadRequest

    raise BadRequest("no endpoint", status=404)
