# Everything runs in a virtual environment that the first command makes: a machine with Python 3.10+ needs nothing else.
PYTHON ?= python3
VENV ?= .venv
BUNDLE ?= rsanet
JOBS ?= 2
# MONAI Label needs versions of packages that the bundles do without: an environment of its own.
LABEL_VENV ?= .venv-label
DATA ?=
PORT ?= 8000
OPTIONS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LABEL_PYTHON := $(abspath $(LABEL_VENV))/bin/python
LABEL_INSTALLED := $(LABEL_VENV)/.installed

.PHONY: help demo test lint label-environment label-server test-label test-export test-predict

help:
	@echo "make demo [BUNDLE=$(BUNDLE)]  made-up data, a short training, evaluation and prediction of one bundle"
	@echo "make test [JOBS=$(JOBS)]        the tests, in that many processes; the three targets below have those that take longer"
	@echo "make lint                 ruff, mypy and the linter of the bundles' configurations"
	@echo "make label-server BUNDLE=$(BUNDLE) DATA=FOLDER [PORT=$(PORT)] [OPTIONS=...]"
	@echo "                          MONAI Label with that bundle, or several: BUNDLE=rsanet,zoom_resunet"
	@echo "make test-export          exports of all bundles, run in a fresh environment without the repository; ONNX, torch.export"
	@echo "                          and torch.compile of every network"
	@echo "make test-predict         predictions that are killed, spread over a cluster, and looked at in a browser"
	@echo "make test-label           tests with a MONAI Label server, in an environment that label-environment makes"

demo: $(INSTALLED)
	$(BIN)/python -m tools.demo $(BUNDLE)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not forms"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.lint_configs

label-environment: $(LABEL_INSTALLED)

label-server: $(LABEL_INSTALLED)
	$(LABEL_PYTHON) -W ignore -m tools.label_server '$(BUNDLE)' '$(DATA)' --port $(PORT) $(OPTIONS)

test-export: $(INSTALLED)
	$(BIN)/python -m pytest tests_export --timeout=1800
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m forms

test-predict: $(INSTALLED)
	$(BIN)/python -m pytest tests_predict -n $(JOBS) --dist loadfile --timeout=900

test-label: $(INSTALLED) $(LABEL_INSTALLED)
	LABEL_PYTHON=$(LABEL_PYTHON) $(BIN)/python -m pytest tests_label

$(LABEL_INSTALLED): label/constraints.txt label/make_environment.sh label/torchvision_operators.py
	label/make_environment.sh $(LABEL_VENV) $(PYTHON)
	touch $@

# PyTorch first: it is by far the largest, and a failure there should not be hidden among a hundred packages.
$(INSTALLED): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev,report,tracking,dicom,cluster,fast]' -c constraints.txt
	touch $@
