# `make run` and `make test` on a fresh checkout do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.dev-ready
RUN_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test lint unit interop chaos chaos-logs bench lock docs clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/make-venv

$(READY): $(BIN)/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --editable .
	@touch $@

$(DEV_READY): $(READY) requirements-dev.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

run: $(READY) ## start the agent in the foreground with the shipped conf.d
	@exec $(BIN)/novel-agent run --config "" --conf-dir conf.d --state-dir .state $(RUN_ARGS)

test: lint unit ## ruff, mypy --strict, import contracts and every test

lint: $(DEV_READY) ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(DEV_READY) ## the tests alone
	$(BIN)/python -m pytest -n 2 -m "not interop and not chaos" tests

interop: $(DEV_READY) ## against node_exporter, process-exporter, Prometheus, the Collector and rotel (fetches and builds them: apt, Go, about ten minutes once)
	sh benchmarks/rivals/get.sh
	$(BIN)/python -m pytest -m interop --ignore tests/chaos tests

chaos: $(DEV_READY) ## kills, outages, floods: about ten minutes
	NOVEL_AGENT_KILLS=200 NOVEL_AGENT_SPOOL_KILLS=200 NOVEL_AGENT_SPOOL_BACKLOG_MIB=1024 NOVEL_AGENT_SPOOL_SEEDS=400 \
		$(BIN)/python -m pytest -n 2 -m "not interop" \
		tests/e2e/test_kill.py tests/state/test_spool_kill.py tests/state/test_spool_memory.py \
		tests/state/test_spool_random.py tests/runtime/test_outage.py tests/chaos --ignore tests/chaos/test_logs.py

chaos-logs: $(DEV_READY) ## log files rotated, the agent killed, the destination failing, its disk full: three minutes
	NOVEL_AGENT_LOG_CHAOS_SECONDS=180 $(BIN)/python -m pytest -n 2 -rP -m "not interop" tests/chaos/test_logs.py

bench: $(DEV_READY) ## ours against the rivals', paired, with budgets (fetches them as interop does)
	sh benchmarks/rivals/get.sh
	$(BIN)/python -m benchmarks

docs: $(DEV_READY) ## write the generated reference pages and conf.d samples anew
	$(BIN)/python docs/generate.py

lock: $(DEV_READY) ## resolve the lock files anew
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group dev -o requirements-dev.lock pyproject.toml

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
