# `make demo` and `make test` set everything up on a fresh machine. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
# The FAISS wheel: with a GPU's driver there, the GPU one. The two must never be installed together.
FAISS ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# e.g. an index of CPU-only torch: make setup PIP_ARGS='--extra-index-url ...'
PIP_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.minesweep-$(FAISS)

.DEFAULT_GOAL := help
.PHONY: help setup wheel demo train dashboard studies pictures found docs docs-serve test test-full versions check bench-peers bench clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv and install everything into it (once)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[$(FAISS),joblib,slurm,bayes,dashboards,docs,dev,text,images]'
	@rm -f $(VENV)/.minesweep-*
	@touch $@

demo: $(STAMP) ## Does mining help? On embedded data: no account, no network, a minute or two
	$(BIN)/python src/sweep.py sweeps/does_it_help.yaml dataset=digits study=demo --until-sure --max-seeds 12 --launcher joblib --jobs 2 logger=tensorboard trainer.progress=false

train: $(STAMP) ## OHEM on MNIST
	$(BIN)/python src/train.py

dashboard: $(STAMP) ## A page over all of runs/, and TensorBoard beside it, until Ctrl-C
	$(BIN)/python src/dashboard.py

studies: $(STAMP) ## Every study of the documentation, resumable, with an estimate first: make studies STUDIES='nk rho'
	$(BIN)/python docs/hooks/studies.py $(STUDIES)

pictures: $(STAMP) ## The pictures of the studies' pages, from results/
	$(BIN)/python docs/hooks/pictures.py

found: $(STAMP) ## The README's table of what was found and its picture, from results/
	$(BIN)/python docs/hooks/found.py

# Without the theme's notice about its successor, at each build.
docs: $(STAMP) ## The documentation, into site/; nothing in it comes from another host
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: $(STAMP) ## The documentation at http://127.0.0.1:8000, until Ctrl-C
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

wheel: $(STAMP) ## dist/minesweep-*.whl, with configuration and sweep files inside
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

test: $(STAMP) ## The tests, without the slow ones
	$(BIN)/python -m pytest -q -n 2

test-full: $(STAMP) ## All tests
	$(BIN)/python -m pytest -q -n 2 -m ''

versions: $(STAMP) ## The tests with the lowest and newest versions and other Pythons; hours
	$(BIN)/python tests/versions.py

check: $(STAMP) ## ruff, mypy, and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench-peers: $(STAMP) ## Install what `make bench` measures against
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[$(FAISS),bench]'
	$(BIN)/python -m pip install --quiet --no-deps -r benchmarks/peers.txt

bench: bench-peers ## Every speed measurement against its peer; half an hour on a quiet machine
	$(BIN)/python benchmarks/bench.py

clean: ## Remove .venv and caches; data/ and runs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
