# Every verb of the project. `make` alone prints them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

RECIPE ?= toy
STORE ?= store/$(RECIPE)
PYTHON ?=
TEST_PROCESSES ?= 2
VENV := .venv
RUN := $(VENV)/bin/python
CONTAINER_BUILDER ?= $(firstword $(foreach b,buildah podman docker,$(if $(shell command -v $(b)),$(b))))

export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-all check format bench images docs ui clean

help:  ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: $(VENV)/.complete  ## Make .venv and install everything under constraints.txt (Python 3.11 or 3.12)

$(VENV)/.complete: constraints.txt pyproject.toml
	@python=""
	for candidate in $(PYTHON) python3.11 python3.12 python3; do
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
	    python=$$candidate; break
	  fi
	done
	if [ -z "$$python" ]; then
	  echo "No Python 3.11 or 3.12 was found; install one, or say which: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1
	fi
	if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then
	  version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	  echo "$$python has no venv module; on Debian and Ubuntu: apt-get install python$$version-venv" >&2; exit 1
	fi
	if [ -x $(RUN) ] && ! $(RUN) -c "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, '$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')'.split('.'))))" 2>/dev/null; then
	  rm -rf $(VENV)
	fi
	echo "Installing into $(VENV) with $$python: two to three minutes, most of it torch and Spark."
	"$$python" -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

demo: setup  ## Run the whole road in the toy world and write its report
	@$(RUN) -m pipelines.run --recipe $(RECIPE) --store $(STORE)

test: setup  ## Run the tests, all but the slow ones
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(TEST_PROCESSES) --dist loadfile

test-all: setup  ## Run every test, the chaos harness and the S3 servers included
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(TEST_PROCESSES) --dist loadfile -m ''

check: setup  ## Lint, formatting and types
	@$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy --strict arm

format: setup  ## Put the code into the house format
	@$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: setup  ## Measure every claim of speed against its named peer
	@for file in benchmarks/[!_]*.py; do echo "== $$file"; $(RUN) "$$file"; done

images:  ## Build the container images of the three phases (buildah, podman or docker)
	@if [ -z "$(CONTAINER_BUILDER)" ]; then
	  echo "No image builder was found; install buildah, podman or docker." >&2; exit 1
	fi
	for phase in data model release; do
	  $(CONTAINER_BUILDER) build --tag "$${ARM_IMAGES:-localhost/arm}/python-$$phase$${ARM_IMAGE_TAG:-:0.1.0}" --file infra/docker/$$phase.Containerfile .
	done

docs: setup  ## Write docs/reference.md: every job, its inputs and each field of its config
	@$(RUN) docs/build.py

ui: setup  ## Open MLflow on the store (http://127.0.0.1:5000)
	@$(VENV)/bin/arm ui --store $(STORE)

clean:  ## Remove what can be made again, but neither .venv nor the stores
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
