# Every target makes .venv when there is none and installs from pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHARED := $(or $(INSONATE_SHARED),../shared)
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test check format slow soak docs bench catalogue clean

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

setup: $(VENV)/.installed

demo: setup  ## the whole job on the phantom, at most 10 minutes on 2 cores
	OMP_NUM_THREADS=2 $(BIN)/insonate demo --out demo

test: setup  ## the whole suite without the slow marks
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu"

check: setup  ## format, lint, types, direction of imports
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

slow: setup  ## the minutes-long training checks
	$(BIN)/python -m pytest -q -m slow

soak: setup  ## 100,000 damaged media files, each read in a process of its own, 10,000 planted identities; hours
	$(BIN)/python tests/data/hostile_media.py $(SHARED)/tools $(SHARED)/data soak --seeds 100 --random-only
	$(BIN)/python tests/data/planted.py soak/planted --data $(SHARED)/data

docs: setup  ## the documentation, strictly, into site/
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/zensical build --strict

bench: setup  ## every row of benchmarks/ at toy size
	for f in benchmarks/bench_*.py; do $(BIN)/python $$f --size toy || exit 1; done

catalogue: setup  ## names and options of every method, for checks before torch is loaded
	$(BIN)/python -m insonate.recipes.catalogue

clean:
	rm -rf $(VENV) demo runs soak site dist build
