# `make demo` and `make test` need nothing but Python 3.11 or 3.12: they make their own environment in .venv.
#
#   PYTHON   the interpreter to make it with (otherwise python3.11, python3.12 or python3, the first that runs)
#   VENV     where it lies

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
OUT ?= runs/demo
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# MovieLens-1M: SOURCE is a directory with ratings and features; the fixed tasks lie beside it where there are any.
SOURCE ?=
RUNS ?= runs/ml1m
# Further options, such as ARGS="--features genres_only --out results.json".
ARGS ?=
TASKS ?= $(if $(SOURCE),$(wildcard $(SOURCE)/../../peers/ml-1m_tasks.parquet))
VALIDATION ?= $(if $(SOURCE),$(wildcard $(SOURCE)/../../peers/ml-1m_validation.parquet))

.PHONY: help demo test test-slow test-browser test-tfx tfx-env lint ml1m ml1m-tune source bench bench-smoke bench-serving bench-batch bench-feedback bench-gpu bench-peers-env lock env clean distclean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

# An environment that was moved, or whose interpreter has gone, is made again although its stamp is there.
ifneq ($(shell test ! -e $(VENV)/.unfinished && $(BIN)/python -c 'print("runs")' 2>/dev/null),runs)
.PHONY: $(STAMP)
endif

$(STAMP): requirements/dev.txt requirements/environment.sh requirements/python_environment.sh pyproject.toml
	@PYTHON="$(PYTHON)" requirements/environment.sh "$(VENV)"
	@touch $@

env: $(STAMP) ## make the environment alone

demo: $(STAMP) ## synthetic data, meta-training, evaluation, export, serving: the whole way (OUT=runs/demo)
	@$(BIN)/python -m tfmeta demo --out "$(OUT)" </dev/null

# One thread a process: with more, as many workers as cores would wait for each other.
WORKERS ?= 2
ONE_THREAD := TF_NUM_INTRAOP_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# What measures time, memory or the machine comes after the rest, alone.
test: $(STAMP) ## the fast tests, on two cores (WORKERS=2)
	@failed=; \
	$(ONE_THREAD) $(BIN)/python -m pytest -m "not slow and not serial" -n $(WORKERS) --dist loadfile </dev/null \
	  || failed=1; \
	$(BIN)/python -m pytest -m "serial and not slow" </dev/null || failed=1; \
	test -z "$$failed"

test-slow: $(STAMP) ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow </dev/null

# Debian's chromium, driven through its DevTools protocol; TFMETA_SCREENSHOTS=DIR keeps pictures of the page.
test-browser: $(STAMP) ## click through the page of tfmeta serve in chromium, installed by apt-get where it is missing
	@if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then \
	  as=; test "$$(id -u)" = 0 || as="sudo -n"; \
	  { command -v apt-get >/dev/null && $$as apt-get update -q && \
	    DEBIAN_FRONTEND=noninteractive $$as apt-get install -q -y --no-install-recommends chromium; } || { \
	    echo "The browser tests require chromium, and apt-get cannot install it here. Install the package 'chromium' by hand, then run 'make test-browser' again." >&2; \
	    exit 2; }; \
	fi
	@$(BIN)/python -m pytest -m browser tests/browser </dev/null

# TFX cannot be installed beside the rest, so its pipeline has an environment, and a run of its tests, of its own.
TFX_VENV ?= .venv-tfx
TFX_STAMP := $(TFX_VENV)/.installed

ifneq ($(shell test ! -e $(TFX_VENV)/.unfinished && $(TFX_VENV)/bin/python -c 'print("runs")' 2>/dev/null),runs)
.PHONY: $(TFX_STAMP)
endif

$(TFX_STAMP): requirements/tfx.txt requirements/tfx_no_deps.txt requirements/tfx_environment.sh requirements/python_environment.sh \
    pyproject.toml
	@PYTHON="$(PYTHON)" requirements/tfx_environment.sh "$(TFX_VENV)"
	@touch $@

tfx-env: $(TFX_STAMP) ## the environment of the TFX pipeline in .venv-tfx (Python 3.11)

test-tfx: $(TFX_STAMP) ## run the TFX pipeline from data to a pushed model, and compile it (under 3 minutes)
	@$(TFX_VENV)/bin/python -m pytest tests/tfx $(ARGS) </dev/null

# What a benchmark is told about MovieLens-1M.
ML1M = --source "$(SOURCE)" --tasks "$(TASKS)" --validation "$(VALIDATION)" --runs "$(RUNS)" $(ARGS)

ml1m: $(STAMP) source ## MovieLens-1M: train three seeds, evaluate, write benchmarks/results (SOURCE=DIR)
	@$(BIN)/python -m benchmarks.ml1m $(ML1M) </dev/null

ml1m-tune: $(STAMP) source ## choose the hyper-parameters for ml1m on its validation users and items (SOURCE=DIR)
	@$(BIN)/python -m benchmarks.ml1m_tune $(ML1M) </dev/null

source:
	@test -n "$(SOURCE)" || { echo "A directory with MovieLens-1M is required: make ml1m SOURCE=DIR" >&2; exit 2; }
	@test -d "$(SOURCE)" || { echo "SOURCE=$(SOURCE) is not a directory." >&2; exit 2; }

# Parts of `make bench` in this order; each writes benchmarks/results/<part>.json and leaves an older file if it fails.
BENCH_VENV ?= .venv-bench
BENCH ?= train_speed scaling serving_cost serving startup embedding_scale input_speed
BENCH_STAMP := $(BENCH_VENV)/.installed
export BENCH_VENV

bench: $(STAMP) $(BENCH_STAMP) ## all speed benchmarks beside JAX and PyTorch, and a table of them (under 15 minutes)
	@failed=; for part in $(BENCH); do \
	  if [ -e benchmarks/$$part.py ]; then \
	    echo "== $$part" >&2; $(BIN)/python -m benchmarks.$$part </dev/null || failed="$$failed $$part"; \
	  fi; \
	done; \
	$(BIN)/python -m benchmarks.bench_table; \
	$(BIN)/python -m benchmarks.bench_table --write docs/performance.md; \
	test -z "$$failed" || { echo "Failed:$$failed" >&2; exit 1; }

bench-serving: $(STAMP) ## the embedded server beside in-process calls; ARGS=--sweep varies request batching (under 5 minutes)
	@$(BIN)/python -m benchmarks.serving $(ARGS) </dev/null

bench-batch: $(STAMP) ## batch scoring beside the bare signature (ARGS="--users 1000000")
	@$(BIN)/python -m benchmarks.batch $(ARGS) </dev/null

bench-feedback: $(STAMP) ## refreshing, never refreshing and training from scratch through time (ARGS="--data drift")
	@$(BIN)/python -m benchmarks.feedback $(ARGS) </dev/null

bench-gpu: $(STAMP) ## W1's training step on a GPU; says so where there is none
	@$(BIN)/python -m benchmarks.gpu </dev/null

bench-peers-env: $(BENCH_STAMP) ## the environment of the peers in .venv-bench: JAX, and PyTorch where its CPU build is found

$(BENCH_STAMP): $(STAMP) requirements/bench.txt requirements/bench_environment.sh
	@requirements/bench_environment.sh "$(BENCH_VENV)" "$(BIN)/python"
	@touch $@

bench-smoke: $(STAMP) ## every learner on small synthetic data: its loss falls and adaptation helps (under 3 minutes)
	@$(BIN)/python -m benchmarks.bench_smoke $(ARGS) </dev/null

lint: $(STAMP) ## ruff
	@$(BIN)/ruff check .

lock: $(STAMP) ## resolve requirements/dev.txt again
	uv pip compile --universal --no-emit-index-url --no-header --python-version 3.11 --extra test --extra tune --extra tfrs --extra otel --extra batch --extra kfp \
	  pyproject.toml requirements/dev.in -o requirements/dev.txt -q
	uv pip compile --universal --no-emit-index-url --no-header --python-version 3.11 requirements/bench.in \
	  -o requirements/bench.txt -q
	uv pip compile --universal --no-emit-index-url --no-header --python-version 3.11 \
	  pyproject.toml requirements/tfx.in -o requirements/tfx.txt -q

clean: ## remove what tests and builds leave behind
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## and the environment
	rm -rf "$(VENV)"
