# Everything runs in a virtual environment that the first command makes: a machine with Python 3.10+ needs nothing else.
PYTHON ?= python3
VENV ?= .venv
BUNDLE ?= rsanet
JOBS ?= 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test lint

help:
	@echo "make demo [BUNDLE=$(BUNDLE)]  made-up data, a short training, evaluation and prediction of one bundle"
	@echo "make test [JOBS=$(JOBS)]        all tests, in that many processes"
	@echo "make lint                 ruff, mypy and the linter of the bundles' configurations"

demo: $(INSTALLED)
	$(BIN)/python -m tools.demo $(BUNDLE)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.lint_configs

# PyTorch first: it is by far the largest, and a failure there should not be hidden among a hundred packages.
$(INSTALLED): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev,report]' -c constraints.txt
	touch $@
