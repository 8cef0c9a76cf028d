# Each target makes the virtual environment it needs; a second call finds it there and starts at once.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
TITLE  ?= The Lighthouse Keeper's Daughter
CONFIG ?= configs/plots-bpe.toml
SOURCE ?=
ARGS   ?=

# A title may hold any character a shell or make finds special, so it travels in the environment, never expanded.
override TITLE  := $(value TITLE)
override SOURCE := $(value SOURCE)
export TITLE SOURCE

RUNTIME = $(VENV)/.runtime
SERVE   = $(VENV)/.serve
TRAIN   = $(VENV)/.train
DEV     = $(VENV)/.dev
MUTANTS = $(VENV)-mutants
PYTEST  = $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help plot serve train demo docs man reference test test-browser mutants check check-all lint format clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

plot: $(RUNTIME) ## write a plot: make plot TITLE="The Lighthouse Keeper's Daughter"
	@$(BIN)/movieplotgpt generate --title="$$TITLE" $(ARGS)

serve: $(SERVE) ## an API and a page with the published models: make serve [ARGS="--port 8080"]
	@$(BIN)/movieplotgpt serve $(ARGS)

train: $(TRAIN) ## train the default model: make train SOURCE=wiki_movie_plots_deduped.csv [CONFIG=...] [ARGS=...]
	$(BIN)/movieplotgpt train $(CONFIG) $(if $(SOURCE),--source "$$SOURCE") $(ARGS)

demo: $(TRAIN) requirements-dev.txt ## docs/demo: the Office model in a browser, with no server of ours (needs npm)
	PYTHON="$(abspath $(BIN))/python" sh docs/demo/build.sh
	@echo "python3 -m http.server -d docs/demo 8001   # then open http://127.0.0.1:8001/"

docs: $(DEV) ## the documentation as a site in build/site; a broken link is an error
	$(BIN)/python docs/reference/build.py --check
	$(BIN)/zensical build --strict

man: $(DEV) ## build/movieplotgpt.1, the manual page
	$(BIN)/python docs/reference/build.py --man build/movieplotgpt.1

reference: $(TRAIN) ## docs/reference: the command line and the settings, from the code
	$(BIN)/python docs/reference/build.py

test: $(DEV) ## the tests, under three minutes, no network
	$(PYTEST) -m "not slow and not browser"

test-browser: $(DEV) ## the page in a real browser: Debian's chromium
	$(PYTEST) tests/browser

mutants: $(DEV) $(MUTANTS)/.installed ## which small faults the tests miss, out of a hundred: an hour [ARGS="--only text/splits.py"]
	$(MUTANTS)/bin/python benchmarks/mutants.py --python "$(abspath $(BIN))/python" $(ARGS)

check: lint ## test, and ruff, mypy --strict, import-linter: before each commit
	$(PYTEST) -m "not slow and not browser"

check-all: lint ## check, and the slow tests: oracles, fuzz, real data (MOVIEPLOTGPT_DATA=folder)
	$(PYTEST)

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell src docs configs *.md

format: $(DEV) ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove caches and builds; the environment, data and runs stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "MoviePlotGPT needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) >&2
	$(BIN)/python -m pip install --no-compile --disable-pip-version-check -r requirements.txt -e . >&2
	$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >&2 || true # on all cores; pip takes one
	@touch $@

$(SERVE): $(RUNTIME) requirements-dev.txt
	grep -v '^-r' requirements-dev.txt >$(VENV)/constraints.txt # pip installs what a file of constraints includes
	$(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/constraints.txt -e ".[serve]" >&2
	@touch $@

$(TRAIN): requirements-train.txt $(RUNTIME)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-train.txt >&2
	@touch $@

$(DEV): requirements-dev.txt $(TRAIN)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt >&2
	@touch $@

$(MUTANTS)/.installed: requirements-mutants.txt
	$(PYTHON) -m venv $(MUTANTS) >&2
	$(MUTANTS)/bin/python -m pip install --disable-pip-version-check -r requirements-mutants.txt >&2
	@touch $@
