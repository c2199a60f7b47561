# Needs Python 3.11 to 3.13 and make; everything else is installed into .venv.

# The first interpreter on the path that will do; or name one: make setup PYTHON=python3.12
PYTHON ?= $(or $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) and print("$(name)")' 2>/dev/null))),python3)
BIN := .venv/bin
STAMP := .venv/.made-from-lock
DEPLOY_STAMP := .venv/.holds-deploy-lock
DBT_STAMP := .venv-dbt/.made-from-lock
DLT_STAMP := .venv-dlt/.made-from-lock
LOCK_OPTIONS := --quiet --no-strip-extras --generate-hashes --allow-unsafe \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --no-annotate

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export CUSTOM_COMPILE_COMMAND := make lock
# Containers like to set it; hundreds of processes of the tests would each compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo dev test check campaign bench format docs dbt lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv from requirements.lock, with the command .venv/bin/enrich

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "Python 3.11, 3.12 or 3.13 is needed; name one: make setup PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "Creating .venv"; $(PYTHON) -m venv .venv; }
	@echo "Installing the packages of requirements.lock into .venv (minutes the first time)"
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@
	@echo "Ready: $(BIN)/enrich"

demo: setup ## Play a whole night on simulated providers, then say what to look at
	@$(BIN)/enrich demo

dev: setup ## Run everything together with Dagster's UI
	@$(BIN)/enrich dev

$(DBT_STAMP): requirements-dbt.lock | $(STAMP)
	@test -x .venv-dbt/bin/python || { echo "Creating .venv-dbt"; $(BIN)/python -m venv .venv-dbt; }
	@echo "Installing the packages of requirements-dbt.lock into .venv-dbt (a minute the first time)"
	@.venv-dbt/bin/python -m pip install -qq --no-deps --require-hashes --only-binary :all: -r requirements-dbt.lock
	@touch $@

test: check $(DBT_STAMP) ## Check, then run the tests
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# What the image holds beyond: the executors' packages. The lock has the same versions, so that it only adds.
$(DEPLOY_STAMP): requirements-deploy.lock | $(STAMP)
	@echo "Adding the packages of requirements-deploy.lock to .venv (a minute the first time)"
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes --only-binary :all: -r requirements-deploy.lock
	@touch $@

campaign: setup $(if $(filter celery deploy,$(NAME)),$(DEPLOY_STAMP)) ## Put one promise to the proof: NAME=crash SCALE=short|full|0.1 SEED=7
	@$(BIN)/python -m enrich_pipeline_tests.campaigns $(NAME) \
		$(if $(SCALE),--scale $(SCALE)) $(if $(SEED),--seed $(SEED))

# One of the contenders that this pipeline is compared with.
$(DLT_STAMP): requirements-dlt.lock | $(STAMP)
	@test -x .venv-dlt/bin/python || { echo "Creating .venv-dlt"; $(BIN)/python -m venv .venv-dlt; }
	@echo "Installing the packages of requirements-dlt.lock into .venv-dlt (a minute the first time)"
	@.venv-dlt/bin/python -m pip install -qq --no-deps --require-hashes --only-binary :all: -r requirements-dlt.lock
	@touch $@

bench: setup $(if $(filter contenders,$(NAME)),$(DLT_STAMP)) ## Measure one promise about speed: NAME=contenders|latency|marts|overlap|rates|scale|selection ARGS="--help"
	@$(BIN)/python -m enrich_pipeline_tests.bench $(NAME) $(ARGS)

check: setup ## Lint, formatting, types, directions of imports
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup ## Format the code and repair what ruff can
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

docs: setup ## Write docs/tables.md and dbt's sources anew from the comments in the database
	@$(BIN)/python -m enrich_pipeline.reports.table_docs

dbt: $(DBT_STAMP) ## Run dbt on the database of PGHOST, PGUSER, ...: ARGS="source freshness"
	@.venv-dbt/bin/dbt $(or $(ARGS),build) --project-dir dbt --profiles-dir dbt

lock: setup ## Renew the lock files from what they are made of (UPGRADE=1: newest versions)
	@$(BIN)/pip-compile $(LOCK_OPTIONS) --extra build --extra dev $(if $(UPGRADE),--upgrade) \
		-o requirements.lock pyproject.toml
	@$(BIN)/pip-compile $(LOCK_OPTIONS) --extra build --extra celery --extra k8s --constraint requirements.lock \
		-o requirements-deploy.lock pyproject.toml
	@$(BIN)/pip-compile $(LOCK_OPTIONS) --pip-args '--only-binary :all:' $(if $(UPGRADE),--upgrade) \
		-o requirements-dbt.lock dbt/requirements.in
	@$(BIN)/pip-compile $(LOCK_OPTIONS) --pip-args '--only-binary :all:' $(if $(UPGRADE),--upgrade) \
		-o requirements-dlt.lock enrich_pipeline_tests/bench/contending/requirements.in

clean: ## Remove .venv, .venv-dbt, .venv-dlt and caches; data in .enrich stays
	rm -rf .venv .venv-dbt .venv-dlt dbt/target dbt/logs .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
