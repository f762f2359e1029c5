# Needs make and Python 3.11, 3.12 or 3.13; everything else is installed into .venv.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c "$(FITS)" 2>/dev/null && { echo $$p; break; }; done)
TORCH_BACKEND ?=
UV_VERSION := 0.13.8
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest
EMBEDDED_TESTS := $(addprefix tests/live/test_,servers.py stack.py path.py)
SECONDS_OF_DEMO ?= 90
ONLY ?=
MEASUREMENTS = $(filter-out evidence scoring_bare scoring_client,$(subst /__main__,,$(basename $(shell cd load_tests && \
  grep -lE '^if __name__ == .__main__' *.py */__main__.py))))

.DEFAULT_GOAL := help
.PHONY: help install demo test check live long load evidence up down format

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with everything in it (TORCH_BACKEND=cpu takes the small torch)

demo: $(STAMP) ## watch the whole path learn for 90 s; needs neither Docker nor Java
	$(BIN)/riskbeat demo --seconds $(SECONDS_OF_DEMO)

test: check ## check, then the path on an embedded broker and store
	RISKBEAT_TEST_KAFKA=embedded RISKBEAT_TEST_REDIS=embedded \
	  $(PYTEST) tests/contract $(EMBEDDED_TESTS) -m live

check: $(STAMP) ## what must be clean before a commit: format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) tests/unit tests/contract -m "not live"

live: $(STAMP) ## live tests on the best broker and Redis to be had (it says which)
	$(PYTEST) tests/contract tests/live -m "live and not compose and not long"

long: $(STAMP) ## live tests that take minutes each: rollouts, policies, swaps
	$(PYTEST) tests/live -m long

load: $(STAMP) ## run every measurement; fails when a promised number is missed
	@mkdir -p dist/load
	@status=0; for name in $(MEASUREMENTS); do \
	  $(BIN)/python -m load_tests.$$name --out dist/load/$$name.json $(LOAD_FLAGS) || status=1; \
	done; exit $$status

evidence: $(STAMP) ## measure what the README shows, and write it there (hours; ONLY=scoring,weights for some)
	$(BIN)/python -m load_tests.evidence --measure --write --only "$(ONLY)"

up: ## the whole stack in containers; returns when a decision can be answered
	docker compose up --build --wait

down: ## stop the containers; the volumes stay
	docker compose down

format: $(STAMP) ## rewrite the sources as `make check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c "$(FITS)" || \
	  { echo "install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=…"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(if $(TORCH_BACKEND),--torch-backend=$(TORCH_BACKEND)) \
	  -c constraints.txt -e '.[local,dev]'
	$(BIN)/riskbeat warm --spec features.yaml
	@touch $@
