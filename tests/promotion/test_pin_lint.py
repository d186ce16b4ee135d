"""A corpus of pins in disguise and innocent look-alikes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlgates.services.pin_lint import lint_paths, lint_text

from .world import World

PINS = [
    (".py", 'm = mlflow.pyfunc.load_model("models:/revenue/3")\n', 1),
    (".py", "import mlflow\n\nVERSION = 3\nname = get()\nm = load(f'models:/{name}/{VERSION}')\n", 5),
    (".py", "def load(name, version):\n    return mlflow.pyfunc.load_model(f'models:/{name}/{version}')\n", 2),
    (".py", "uri = 'models:/' + name + '/' + str(model_version)\n", 1),
    (".py", "uri = '/'.join(['models:', name, '7'])\n", 1),
    (".py", "uri = 'models:/{}/{}'.format(name, 12)\n", 1),
    (".py", "uri = 'models:/{name}/{version}'.format(name=n, version=v)\n", 1),
    (".py", "uri = 'models:/%s/%d' % (name, 4)\n", 1),
    (".py", "uri = 'models:/%(name)s/%(v)s' % {'name': n, 'v': '4'}\n", 1),
    (".py", "mv = client.get_model_version('revenue', 3)\n", 1),
    (".py", "mv = client.get_model_version(name='revenue', version='3')\n", 1),
    (".py", "PIN = '9'\nmv = MlflowClient().get_model_version(NAME, PIN)\n", 2),
    (".py", "uri = os.environ.get('MODEL_URI', 'models:/cat.schema.revenue/11')\n", 1),
    (".py", "subprocess.run('mlflow models serve -m models:/revenue/5 -p 80', shell=True)\n", 1),
    (".py", "udf = spark_udf(\n    spark,\n    'models:/revenue'\n    '/3',\n)\n", 3),
    (".py", "path = os.path.join('models:/revenue', '2')\n", 1),
    (".py", "conf = {'model': {'uri': b'models:/revenue/8'}}\n", 1),
    (".py", "vs = client.search_model_versions(\"name='revenue' and version_number = 3\")\n", 1),
    (".sql", "SELECT ml_predict('models:/revenue/3', x) FROM t;\n", 1),
    (".sql", "-- score\nSELECT ml_predict(\n  'models:/' || name || '/' || CAST(model_version AS STRING), x)\nFROM t;\n", 3),
    (".sql", "SELECT ml_predict(concat_ws('/', 'models:', 'revenue', 4), x) FROM t;\n", 1),
    (".yaml", "job:\n  env:\n    MODEL_URI: models:/revenue/3  # the good one\n", 3),
    (".py", "uri = 'models:/revenue/'\nuri += '3'\nload(uri)\n", 2),
    (".py", "parts = ['models:', 'revenue', '3']\nuri = '/'.join(parts)\n", 2),
    (".py", "uri = 'models:/{0}/{1}'.format(*['revenue', 3])\n", 1),
    (".py", "uri = f\"models:/revenue/{os.getenv('MODEL', '3')}\"\n", 1),
    (".py", "uri = PurePosixPath('models:/revenue').joinpath('3')\n", 1),
    (".py", "mv = client.get_model_version(**{'name': 'revenue', 'version': 3})\n", 1),
    (".py", "mv = getattr(client, 'get_model_version')('revenue', 3)\n", 1),
    (".py", "class Pins:\n    REVENUE = 4\n\nmv = client.get_model_version('revenue', Pins.REVENUE)\n", 4),
    (".py", "for n in (1, 2):\n    load(f'models:/revenue/{n}')\n", 2),
    (".py", "a, b = 'revenue', 3\nload(f'models:/{a}/{b}')\n", 2),
    (".py", "cfg = {'pin': {'n': 3}, 'n': 3}\nload(f\"models:/revenue/{cfg['n']}\")\n", 2),
    (".py", "def f(n: int):\n    return load(f'models:/revenue/{n}')\n", 2),
    (".py", "load('models:/revenue/%i' % n)\n", 1),
    (".py", "load('models:/revenue/N'.replace('N', '3'))\n", 1),
    (".py", "load('models:/revenue/' + ('3' if fast else 'Production'))\n", 1),
    (".py", "uri = 'models:/revenue'\nif pinned:\n    uri = uri + '/3'\n", 3),
    (".py", "print(load('models:/revenue/3').predict(x))\n", 1),
    (".py", "m = load('models:/my model/3')\n", 1),
    (".py", "m = load_model('revenue', version=3)\n", 1),
    (".py", "r = get('http://h/api/2.0/mlflow/model-versions/get?name=revenue&version=3')\n", 1),
    (".py", "# Databricks notebook source\n# MAGIC %sql\n# MAGIC SELECT ml_predict('models:/revenue/3', x)\n", 3),
    (".py", 'spark.sql(f"""\n  SELECT ml_predict(\'models:/revenue/{version}\', x)\n""")\n', 1),
    (".sql", "DECLARE n INT DEFAULT 3;\nSELECT ml_predict('models:/revenue/' || n, x);\n", 2),
    (".sql", "SELECT ml_predict(format_string('models:/%s/%d', name, n), x);\n", 1),
    (".yaml", "env: {URI: models:/revenue/3}\n", 1),
    (".py", "load('models:/revenue/'.rstrip('/') + '/' + '3')\n", 1),
    (".py", "parts = ['models:', 'revenue']\nparts.append('8')\nload('/'.join(parts))\n", 3),
    (".py", "get = client.get_model_version\nmv = get('revenue', str(3))\n", 2),
    (".py", "PINS = {'revenue': 3}\nfor name, n in PINS.items():\n    load(f'models:/{name}/{n}')\n", 3),
    (".py", "PINS = {'revenue': '3'}\ndef f(name):\n    load(f'models:/{name}/{PINS[name]}')\n", 3),
    (".py", "def wanted():\n    return 3\nload(f'models:/revenue/{wanted()}')\n", 3),
    (".py", "def f(n):\n    load('models:/revenue/' + str(n))\nf(3)\n", 2),
    (".py", "class C:\n    n: int = 3\nc = C()\nload(f'models:/revenue/{c.n}')\n", 4),
    (".py", "class V(Enum):\n    REVENUE = 3\nload(f'models:/revenue/{V.REVENUE.value}')\n", 3),
    (".py", "load('models:/{c[name]}/{c[n]}'.format(c={'name': 'revenue', 'n': 3}))\n", 1),
    (".py", "mv = client.get_model_version(*('revenue', '3'))\n", 1),
    (".py", "get(url + '/x')\nget('http://h/mlflow/model-versions/get', params={'name': 'revenue', 'version': '3'})\n", 2),
    (".py", "p.add_argument('--number', default='3')\na = p.parse_args()\nload(f'models:/revenue/{a.number}')\n", 3),
    (".py", "class S:\n    def __init__(self, n):\n        self.uri = f'models:/revenue/{n}'\nS(3)\n", 3),
    (".py", "def f(n):\n    load(f'models:/revenue/{n}')\nPythonOperator(python_callable=f, op_kwargs={'n': 3})\n", 2),
    (".py", "load(Template('models:/$name/$n').substitute(name='revenue', n=3))\n", 1),
    (".yaml", "env:\n  NUMBER: '3'\nrun: serve -m models:/revenue/${NUMBER}\n", 3),
    (
        ".yaml",
        "inputs:\n  number:\n    type: string\n    default: '3'\nrun: serve -m models:/revenue/${{ inputs.number }}\n",
        5,
    ),
    (".sql", "SELECT p('models:/revenue/{{ var(\"number\", 3) }}', x) FROM t;\n", 1),
    (".sql", "{% set number = 3 %}\nSELECT p('models:/revenue/{{ number }}', x) FROM t;\n", 2),
]

INNOCENT = [
    (".py", 'm = mlflow.pyfunc.load_model("models:/revenue/Production")\n'),
    (".py", 'm = mlflow.pyfunc.load_model("models:/revenue@champion")\n'),
    (".py", "m = load(f'models:/{name}/{stage}')\n"),
    (".py", "STAGE = 'Production'\nm = load('models:/{}/{}'.format(name, STAGE))\n"),
    (".py", '"""Never write models:/revenue/3 in a consumer."""\n'),
    (".py", "x = 1  # was models:/revenue/3\n"),
    (".py", "mv = client.get_model_version(name, version)\nurl = 'https://host/models/revenue/3'\n"),
    (".py", "print(f'registered models:/{name}/{version}')\nlog.info('made models:/revenue/3')\n"),
    (".py", "mv = client.get_model_version_by_alias('revenue', 'champion')\n"),
    (".py", "client.transition_model_version_stage('revenue', version=3, stage='Staging')\n"),
    (".py", "m = load('models:/m-3fa9c1/')\nrun = load('runs:/abc/3')\n"),
    (".py", "m = load('models:/2026/Production')\nn = load('models:/forecast-v3/Staging')\n"),
    (".py", "uri = 'models:/revenue/3'  # mlgates: allow-pin the audit replays this very version\n"),
    (".sql", "-- models:/revenue/3 was the old one\nSELECT ml_predict('models:/revenue/Production', x) FROM t;\n"),
    (".sql", "SELECT ml_predict('models:/' || name || '/' || stage, x), a || '/3' FROM t;\n"),
    (".py", "def a():\n    v = 'Staging'\n    load(f'models:/{NAME}/{v}')\n\ndef b():\n    v = other()\n"),
    (".py", "stage = os.getenv('STAGE', 'Production')\nload(f'models:/{NAME}/{stage}')\n"),
    (".py", "version_stage = pick()\nload(f'models:/{NAME}/{version_stage}')\n"),
    (".py", "assert ok, f'models:/{name}/3 is bad'\n"),
    (".py", "parser.add_argument('--model', help='such as models:/revenue/3')\n"),
    (".py", "for stage in ('Staging', 'Production'):\n    load(f'models:/{NAME}/{stage}')\n"),
    (".py", "PATTERN = re.compile(r'models:/([^/]+)/(\\d+)')\n"),
    (".py", "sys.stderr.write('models:/revenue/3 is gone')\n"),
    (".py", "for mv in found:\n    client.get_model_version(mv.name, mv.version)\n"),
    (".py", "# Databricks notebook source\n# MAGIC %md\n# MAGIC It was models:/revenue/3\n"),
    (".sql", "SELECT a + 3, 'models:/' || 'rev3' || '/Production' FROM t WHERE version = 3;\n"),
    (".yaml", "# models:/revenue/3\nMODEL_URI: models:/revenue@champion\nversion: 3\nimage: models/revenue/3\n"),
    (".py", "TEMPLATE = 'models:/{}/{}'\n\ndef uri(name, mv):\n    return TEMPLATE.format(name, mv.version)\n"),
    (".yml", 'run: mlflow models serve -m "models:/revenue/${{ inputs.model_version }}"\n'),
    (".py", "uri = f\"models:/revenue/{os.getenv('MODEL_VERSION')}\"\n"),
    (".sql", "SELECT ml_predict('models:/revenue/' + CAST(@version AS varchar), x);\n"),
    (".yaml", "uri: models:/revenue/$(MODEL_VERSION)\n"),
    (".py", "a = parser.parse_args()\nload(f'models:/revenue/{a.version}')\n"),
    (".py", "version = sys.argv[1]\nload('models:/revenue/' + version)\n"),
    (".py", "v = max(client.search_model_versions('x'), key=age).version\nload(f'models:/revenue/{v}')\n"),
    (".py", "for mv in client.search_model_versions('x'):\n    load(f'models:/{mv.name}/{mv.version}')\n"),
    (".py", "made = mlflow.register_model(uri, 'revenue')\nload('models:/{}/{}'.format(made.name, made.version))\n"),
    (".py", "@click.command()\n@click.option('--version')\ndef main(version):\n    load(f'models:/revenue/{version}')\n"),
    (".py", "def f(version):\n    load(f'models:/revenue/{version}')\nf(parser.parse_args().version)\n"),
    (".py", "HELP = 'Never write models:/revenue/3 in a consumer.'\n"),
    (".py", "v = dbutils.widgets.get('version')\nload(f'models:/revenue/{v}')\n"),
    (".sql", "SELECT p('models:/revenue/{{ var(\"version\") }}', x) FROM t;\n"),
]


def test_the_corpus_has_at_least_forty_snippets():
    assert len(PINS) + len(INNOCENT) >= 40


@pytest.mark.parametrize(("suffix", "text", "line"), PINS)
def test_a_pin_is_found_with_its_line(suffix: str, text: str, line: int):
    found = lint_text(text, suffix, "consumer" + suffix)
    assert [pin.line for pin in found] == [line]
    assert found[0].where == f"consumer{suffix}:{line}"
    assert "champion" in found[0].fix


@pytest.mark.parametrize(("suffix", "text"), INNOCENT)
def test_a_look_alike_is_let_through(suffix: str, text: str):
    assert lint_text(text, suffix) == []


def notebook(*cells: tuple[str, str]) -> str:
    made = [
        {"cell_type": kind, "metadata": {}, "outputs": [], "source": text.splitlines(keepends=True)} for kind, text in cells
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


@pytest.mark.parametrize(("suffix", "text", "line"), [p for p in PINS if p[0] == ".py"])
def test_a_pin_in_a_notebook_is_found_with_the_line_of_the_file(suffix: str, text: str, line: int):
    del suffix
    if "# MAGIC" in text:
        pytest.skip("a format of .py files")
    file = notebook(("markdown", "models:/revenue/3"), ("code", "%matplotlib inline\n" + text))
    [pin] = lint_text(file, ".ipynb", "n.ipynb")
    assert pin.place == f"cell 2, line {line + 1}"
    assert json.dumps(text.splitlines(keepends=True)[line - 1])[1:-1] in file.splitlines()[pin.line - 1]


@pytest.mark.parametrize(("suffix", "text"), [p for p in INNOCENT if p[0] == ".py"])
def test_a_look_alike_in_a_notebook_is_let_through(suffix: str, text: str):
    del suffix
    assert lint_text(notebook(("code", text)), ".ipynb") == []


def test_a_cell_of_a_notebook_sees_the_names_of_the_others():
    file = notebook(("code", "wanted = 3\n"), ("code", "load(f'models:/revenue/{wanted}')\n"))
    assert [pin.place for pin in lint_text(file, ".ipynb")] == ["cell 2, line 1"]


def test_notebook_magics_are_read():
    file = notebook(("code", "!mlflow models serve -m models:/revenue/3\n"), ("code", "%%sql\nSELECT f('models:/a/4')\n"))
    assert [pin.place for pin in lint_text(file, ".ipynb")] == ["cell 1, line 1", "cell 2, line 2"]


def test_what_ipython_alone_understands_does_not_hide_a_pin():
    cell = "files = !ls\nhelp?\n%time m = load('models:/revenue/%d' % 3)\n"
    assert [pin.place for pin in lint_text(notebook(("code", cell)), ".ipynb")] == ["cell 1, line 3"]
    timed = "%%time\nwanted = 3\nload(f'models:/revenue/{wanted}')\n"
    assert [pin.place for pin in lint_text(notebook(("code", timed)), ".ipynb")] == ["cell 1, line 3"]


def test_files_that_are_no_python_or_no_notebook_do_not_stop_the_lint(tmp_path: Path):
    (tmp_path / "two.py").write_text("print 'python 2'\nload('models:/x/3')\n")
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "bytes.py").write_bytes(b"x = '\xff\x00'\n")
    pins, count = lint_paths([tmp_path])
    assert count == 3
    assert [pin.where for pin in pins] == [f"{tmp_path}/two.py:2"]


def test_the_command_names_place_and_fix(world: World):
    (world.folder / "score.py").write_text("m = load('models:/revenue/3')\n")
    done = world.mlgates("lint", ".")
    assert done.returncode == 1
    assert "score.py:1: models:/revenue/3 pins a version; use models:/revenue/Production" in done.stdout
    (world.folder / "score.py").write_text("m = load('models:/revenue/Production')\n")
    assert world.mlgates("lint", ".").returncode == 0
    assert world.mlgates("lint", "nosuch").returncode == 4
