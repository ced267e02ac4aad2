# Two commands do everything: make demo, make test.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test format bench bench-check bench-claims torture properties fuzz soak clean

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

bench-claims: .venv/installed
	$(BIN)/python -m bench.claims

torture: .venv/tested
	$(BIN)/python -m bench.torture

properties: .venv/tested
	GOODFIT_EXAMPLES=50000 $(BIN)/python -m pytest --timeout 0 tests/trust/test_properties.py

fuzz: .venv/tested
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	mkdir -p build/fuzz
	for one in recipe table run name; do \
		mkdir -p build/fuzz/$$one && $(BIN)/python -m bench.fuzz $$one build/fuzz/$$one tests/trust/corpus/$$one \
			-max_total_time=$(or $(SECONDS),3600) -timeout=5 -rss_limit_mb=2048 -artifact_prefix=build/fuzz/$$one- || exit 1; \
	done

soak: .venv/installed
	$(BIN)/python -m bench.soak fits 1000
	$(BIN)/python -m bench.soak steps 100000

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
