# Each goal makes its own virtual environment, `.venv`, and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= auto

.PHONY: demo test test-all lint types floors check table3 bench clean

demo: $(BIN)/ddad-installed
	$(BIN)/ddad demo --out demo --overwrite

test: $(BIN)/ddad-dev-installed
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-all: $(BIN)/ddad-dev-installed
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(BIN)/ddad-dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(BIN)/ddad-dev-installed
	$(BIN)/mypy

floors: $(BIN)/ddad-dev-installed
	$(BIN)/lint-imports

check: lint types floors test

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("ddad needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

$(BIN)/ddad-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(BIN)/ddad-dev-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(BIN)/ddad-installed

# The tables of benchmarks/results and README.md: hours on two cores; finished runs are kept.
DATASETS ?= ../shared/datasets
BACKBONES := --backbone ae-u --backbone ae --backbone memae
table3: $(BIN)/ddad-installed
	$(BIN)/ddad benchmark brain-tumor --data $(DATASETS)/brain_tumor $(BACKBONES) --out benchmarks/results/brain-tumor
	$(BIN)/ddad benchmark brain-tumor --data $(DATASETS)/brain_tumor $(BACKBONES) --split data.leakfree.json \
		--out benchmarks/results/brain-tumor-leakfree
	$(BIN)/ddad benchmark custom --data $(DATASETS)/chest_xray $(BACKBONES) --out benchmarks/results/chest-xray
	$(BIN)/python benchmarks/readme_results.py

# The published procedure, `fast` and `paper` side by side: about 20 minutes on two cores that do nothing else.
bench: $(BIN)/ddad-installed
	$(BIN)/python benchmarks/speed/bench.py $(DATASETS)/brain_tumor --out benchmarks/results/speed

clean:
	rm -rf .venv demo
