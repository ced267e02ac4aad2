# Two commands do everything: make demo, make test.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test format bench bench-check torture clean

demo: .venv/installed
	$(BIN)/goodfit train digits

test: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

format: .venv/tested
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/installed
	$(BIN)/python -m bench.main

bench-check: .venv/installed
	$(BIN)/python -m bench.check.main

torture: .venv/tested
	$(BIN)/python -m bench.torture

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
