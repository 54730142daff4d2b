# demo: train and test on the embedded default, from nothing.   test: all tests.   check: tests, lint and types.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench tables

PYTHON ?= python3
BIN := .venv/bin
# a thread a process: with more, processes wait for each other's threads, and tests take twice as long
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto
INSTALLED := .venv/installed

help:
	@echo "make demo    install into .venv, train TransMatcher and its controls on drawn people, print the table"
	@echo "make test    install into .venv, run all tests"
	@echo "make check   make test, and lint and types before it"
	@echo "make bench   speed and memory against frozen references"
	@echo "make tables  the tables of README.md and docs/ from what is recorded, and docs/keys.md"

$(INSTALLED): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt torchvision
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/reid run $(addprefix experiments/synthped_, transmatcher.toml embedding.toml untrained.toml)

test: $(INSTALLED)
	$(PYTEST)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks all

tables: $(INSTALLED)
	$(BIN)/python -m benchmarks.pages
