# Everything from a machine that has python3, venv, git and make. After any target the environment is .venv/.
PYTHON ?= python3
UV_VERSION := 0.13.9
DIR ?= mlgates-quickstart
SCALE ?= small
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test check format lock prove wheel clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/.stamp: requirements.lock pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	# bytecode once, here: the suites start many processes, and some environments never write it
	.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --require-hashes -r requirements.lock
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
	.venv/bin/python -m compileall -q pytest_mlgates gates
	# pytest keeps its own bytecode of other plugins' modules: compiled at every start, it costs over two CPU seconds
	.venv/bin/python -m pytest -VV >/dev/null
	touch $@

setup: .venv/.stamp  ## make .venv with locked dependencies

quickstart: setup  ## run the whole ring once (DIR=…, SCALE=small|full)
	.venv/bin/mlgates quickstart --dir $(DIR) --scale $(SCALE)

test: setup  ## run the test suite
	.venv/bin/python -m pytest -n 3 --dist worksteal -q

check: setup  ## lint, format, types, import rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup  ## format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

lock: setup  ## resolve the dependencies again
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras --group dev \
		pyproject.toml -o requirements.lock

prove: setup  ## kill loops, races and error rates at full size (hours)
	MLGATES_PROVE=1 .venv/bin/python -m pytest -q

wheel: setup  ## build dist/*.whl
	.venv/bin/uv build --quiet --no-build-isolation --python .venv/bin/python

clean:  ## remove what the targets made
	rm -rf .venv dist mlgates-quickstart .pytest_cache .mypy_cache .ruff_cache
