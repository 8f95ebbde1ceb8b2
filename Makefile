# make demo | make test: each sets itself up in .venv (bootstrap.py), without root and without anything but the package index.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
WORKERS ?= 2

.PHONY: demo test test-slow lint format docs dist setup clean

# What the demo needs; `make demo ARGS="--minutes 2"` passes arguments on.
demo: .venv/.ready
	@$(BIN)/trimask demo $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

# The first run fetches the judges (about 390 MB) into .venv/judges; TRIMASK_JUDGES names another folder.
test-slow: .venv/.ready-dev .venv/.ready-eval .venv/.ready-scale .venv/.ready-track .venv/.ready-examples
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

format: .venv/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, to be opened as a file: site/index.html.
docs: .venv/.ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A source archive and a wheel, without isolation: with the setuptools of .venv.
dist: .venv/.ready-dev
	@test -z "$$(git status --porcelain src 2>/dev/null)" || \
		echo "trimask: warning: src/ differs from the last commit, and goes into the archives as it is" >&2
	$(BIN)/python -m build --no-isolation --outdir dist

setup: .venv/.ready-dev

clean:
	rm -rf .venv build dist site src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# One stamp for each set of libraries.
.venv/.ready: pyproject.toml constraints.txt bootstrap.py
	$(call bootstrap,serve)

.venv/.ready-dev: .venv/.ready
	$(call bootstrap,dev)

.venv/.ready-eval: .venv/.ready
	$(call bootstrap,eval-offline)

.venv/.ready-scale: .venv/.ready
	$(call bootstrap,scale)

.venv/.ready-track: .venv/.ready
	$(call bootstrap,track)

.venv/.ready-examples: .venv/.ready
	$(call bootstrap,examples)

define bootstrap
@if [ -z "$(PYTHON)" ]; then echo "trimask: no Python 3.11 or newer found: install one, or name it: make PYTHON=/path/to/python3 …" >&2; exit 1; fi
@$(PYTHON) bootstrap.py $(1)
@touch $@
endef
