# Everything that one does here. `make help` lists it.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
HOME_DIR := data/local

export PREFECT_SERVER_ANALYTICS_ENABLED = false
export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT = false
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS = 120
export DO_NOT_TRACK = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install install-dask run up down reset ui api watch test test-slow check bench soak doctor migration migrate screenshots dictionary lock
.DEFAULT_GOAL := help

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Make .venv and install the pinned requirements

# The lowest is the language that this is written in, the highest what Prefect installs on; `requires-python` says the same.
FITS := (3, 11) <= sys.version_info < (3, 15)
# An environment that does not work is made again. A Python that the system replaced by a newer one finds no package of it.
REMADE := $(if $(filter True,$(shell $(PY) -c 'import sys, pip; print($(FITS))' 2>/dev/null)),,environment)

.PHONY: environment
environment:
	@command -v $(firstword $(PYTHON)) >/dev/null || { echo "Python 3.11 or newer is needed; there is no $(PYTHON). Where it has another name: make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if $(FITS) else "Python 3.11 to 3.14 is needed; this is " + sys.version.split()[0] + ". Try: make run PYTHON=python3.12")'
	@$(PYTHON) $(ALONE) "$$MAKE_ENVIRONMENT"

# One make at a time works on .venv. Whoever has waited finds it done, and does nothing.
ALONE := scripts/alone.py $(VENV).lock

define MAKE_ENVIRONMENT
if $(PY) -c 'import sys, pip; sys.exit(not ($(FITS)))' 2>/dev/null; then exit 0; fi
test ! -e $(VENV) || echo "$(VENV) does not work: its Python is gone, replaced or does not fit, or making it was cut short. Making it again …" >&2
$(PYTHON) -m venv --clear $(VENV)
endef

# The lock is the whole closure, so pip has nothing to resolve: --no-deps, and `pip check` that it is whole. What lies
# beside the lock in .venv, somebody's own packages or those of older tests, may lack something and keeps no run back.
define MAKE_INSTALL
if test -e $(VENV)/.installed && test -z "$$(find requirements.txt -newer $(VENV)/.installed)"; then exit 0; fi
echo "Installing the pinned requirements (about 2 minutes, once) …" >&2
$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements.txt
$(PY) -m pip check | awk -F '[ =[]+' 'NR == FNR { pinned[$$1]; next } $$1 in pinned { print; broken = 1 } END { exit broken }' requirements.txt - >&2
touch $(VENV)/.installed
endef

define MAKE_INSTALL_DEV
if test -e $(VENV)/.installed-dev && test -z "$$(find requirements-dev.txt $(VENV)/.installed -newer $(VENV)/.installed-dev)"; then exit 0; fi
echo "Installing what tests and checks need …" >&2
$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-dev.txt
touch $(VENV)/.installed-dev
endef
export MAKE_ENVIRONMENT MAKE_INSTALL MAKE_INSTALL_DEV

$(VENV)/.installed: requirements.txt $(REMADE)
	@$(PY) $(ALONE) "$$MAKE_INSTALL"

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@$(PY) $(ALONE) "$$MAKE_INSTALL_DEV"

install-dask: install ## What ETL_WORKERS and ETL_DASK_ADDRESS need beside (Dask)
	@$(PY) $(ALONE) "$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-dask.txt"

run: install ## Run the whole pipeline once, on the local stack or on SUPABASE_URL
	@$(PY) -m scripts.run $(ARGS)

up: install ## Start the local stack, or find it, and print its addresses (ARGS=--show-keys: and keys)
	@$(PY) -m local_stack up --home $(HOME_DIR)/stack $(ARGS)

down: install ## Stop the local stack; its data stays
	@$(PY) -m local_stack down --home $(HOME_DIR)/stack

reset: install ## Throw the data of the local stack away and start it with demo data again (ARGS=--empty: without)
	@$(PY) -m local_stack reset --home $(HOME_DIR)/stack $(ARGS)

ui: install ## Prefect server, deployments and worker on this machine; Ctrl-C ends them
	@$(PY) -m scripts.ui $(ARGS)

ifneq (bench,$(firstword $(MAKECMDGOALS)))
api: install ## The reports site and API on this machine, with a demo analyst; Ctrl-C ends it
	@$(PY) -m scripts.api $(ARGS)
endif

watch: install ## Start a run whenever enough has changed; Ctrl-C ends it
	@$(PY) -m scripts.watch $(ARGS)

doctor: install ## Check settings, keys, tables, rights, bucket, clock and disk
	@$(PY) -m scripts.doctor $(ARGS)

migration: install ## Write what tasks/contracts/ asks for as a new migration (ARGS="--into FOLDER" copies all of them)
	@$(PY) -m scripts.migrations new $(ARGS)

migrate: install ## Apply supabase/migrations to SUPABASE_DB_URL (never done unasked)
	@$(PY) -m scripts.migrations $(ARGS)

# On a busy machine a test of real servers can miss its time. What failed beside others runs once more, alone.
suite = $(PY) -m pytest -n 4 --dist loadgroup -q -m "$(1)" $(ARGS) || $(PY) -m pytest --last-failed --last-failed-no-failures none -q -m "$(1)" $(ARGS)

test: $(VENV)/.installed-dev ## The test suite, on stacks of its own
	@$(call suite,not soak and not slow)

test-slow: $(VENV)/.installed-dev ## Tests that wait: for a browser, a watch, whole commands, kills, a changed copy
	@$(call suite,slow and not soak)

check: $(VENV)/.installed-dev ## ruff, formatting, mypy --strict
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy .

bench: $(VENV)/.installed-dev ## Side-by-side measurements, as ratios; one alone by its name: make bench scale
	@$(PY) -m bench $(NAMED) $(ARGS)

# The words after `bench` are names of benches, not goals of make.
ifeq (bench,$(firstword $(MAKECMDGOALS)))
NAMED := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
.PHONY: $(NAMED)
$(NAMED):
	@:
endif

soak: $(VENV)/.installed-dev ## Long random runs: kills, faults, races (hours; a part: ARGS="-k histories")
	@# What fails here is not tried again: a second try would hide what happens once in a hundred times.
	@$(PY) -m pytest -n 4 --dist loadgroup -q -m soak $(ARGS)

screenshots: $(VENV)/.installed-dev ## Remake the pictures of the README
	@$(PY) -m scripts.screenshots

dictionary: install ## Write data/DICTIONARY.md from the contracts
	@$(PY) -m tasks.contracts.dictionary

lock: $(VENV)/.installed-dev ## Pin requirements.in and requirements-dev.in again, with hashes
	@for f in requirements requirements-worker requirements-dask requirements-dev; do \
	  $(VENV)/bin/uv pip compile -q --universal --generate-hashes --no-strip-extras --no-emit-index-url --no-annotate \
	    --python-version 3.11 $$f.in -o $$f.txt; done
