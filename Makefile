# Commands for a checkout; each of them first creates the virtual environment .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One thread for each test process: the processes share the cores.
TEST_PROCESSES ?= 2

.PHONY: quickstart test test-extras lint types unit docs clean

quickstart: $(VENV)/.installed
	$(BIN)/dl_lib train --config-file Quickstart

test: lint types unit docs

test-extras: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m extras tests/extras

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files -z | xargs -0 $(BIN)/codespell # tracked files: neither build outputs nor datasets

types: $(VENV)/.installed
	$(BIN)/mypy

unit: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES)

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.installed: setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'dl_lib requires Python 3.10 or newer; use make PYTHON=python3.12. Received: '"$$($(PYTHON) --version)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
