# Two commands on a fresh machine, with nothing but Python ≥ 3.11 and pip:
#
#   make quickstart    set up, then train, score and try a small detector
#   make test          set up, then run the tests
#
# PYTHON names the interpreter, VENV the folder of the virtual environment. pip takes the registry's torch, a CUDA build of
# several GB; on a machine without a GPU `make quickstart INDEX=https://download.pytorch.org/whl/cpu` takes the small one.

PYTHON ?= python3
VENV ?= .venv
INDEX ?=
# The tests of a file stay together: they share what takes long to make. A process takes about 2 GB.
SIDE_BY_SIDE = -n auto --maxprocesses 4 --dist loadfile
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: quickstart test install-dev check docs clean

quickstart: $(VENV)/.installed
	$(VENV)/bin/python tools/train_net.py
	$(VENV)/bin/python tools/infer.py data/shapes/test --output output/quickstart/pictures

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE)

install-dev: $(VENV)/.installed-dev

# What a change must pass: format, lint, types and tests.
check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE)

# The docstrings as pages, in docs/api.
ROOMS = $(patsubst %/__init__.py,%,$(wildcard detector/*/__init__.py))
SINGLE = $(filter-out detector/__init__ detector/__main__,$(basename $(wildcard detector/*.py)))
docs: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pdoc --output-directory docs/api $(subst /,.,$(ROOMS) $(SINGLE))

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: | $(VENV)/bin/python
	$(if $(INDEX),$(PIP) install torch torchvision --index-url $(INDEX))
	touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.torch
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.torch
	$(PIP) install --editable ".[dev]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info docs/api
