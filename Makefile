# Two commands for a newcomer: `make quickstart` and `make test`. Both make a virtual environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Each test process gets one thread: the processes share the cores.
TEST_PROCESSES ?= 2

.PHONY: quickstart test lint types unit clean

quickstart: $(VENV)/.installed
	$(BIN)/dl_lib train --config-file playground/Quickstart

test: lint types unit

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

unit: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES)

$(VENV)/.installed: setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'dl_lib needs Python 3.10 or newer; name one: make PYTHON=python3.12. Received: '"$$($(PYTHON) --version)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[quickstart,test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
