# make demo: install and show what crosshape does. make test: install and run the tests.
# make check: the quick part of them, with lint and types. make long: hundreds of seeded kills.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

# Tests of whole programs, which `make check` leaves to `make test`.
WHOLE := add benchmark crash crash_train demo docs duplicates evaluate learning library main_job places results search segmentation server

.PHONY: demo test long check clean

demo: $(READY)
	$(BIN)/crosshape demo demo

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

long: $(READY)
	CROSSHAPE_LONG=1 $(BIN)/python -m pytest -m long

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src
	$(BIN)/python -m pytest -n 2 -m "not slow and not real" -x $(WHOLE:%=--ignore=tests/test_%.py)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) demo build dist
