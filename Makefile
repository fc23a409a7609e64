# Everything runs in a virtual environment that the first target to need it creates.
#   make test                     with the first suitable Python found
#   make test PYTHON=python3.12   with this one (only matters when the environment is created)
#   make test ARGS="-k wishart"   arguments for the command that a target runs
#   make test-oldest              in .venv-oldest, with the oldest versions that pyproject.toml allows
PYTHON ?=
VENV ?= .venv
ARGS ?=
# A file of versions that pip has to keep to.
CONSTRAINTS ?=

CANDIDATES := python3.13 python3.12 python3.11 python3
BIN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
SOURCES := covsde tests $(wildcard benchmarks experiments docs)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-oldest thorough lint format docs validate figures bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## create the environment, and renew it when pyproject.toml has changed

# A candidate counts only if it runs (a pyenv shim may exist and fail), is new enough and can make an environment.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	@set -e; \
	suits() { "$$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	if ! suits "$(BIN)"; then \
		chosen=; \
		for python in $(if $(PYTHON),"$(PYTHON)",$(CANDIDATES)); do \
			if suits "$$python"; then chosen="$$python"; break; fi; \
		done; \
		if [ -z "$$chosen" ]; then \
			echo "covsde needs Python >= 3.11 with venv; tried: $(or $(PYTHON),$(CANDIDATES))." >&2; \
			echo "Name another one with: make PYTHON=/path/to/python (on Debian, also install python3-venv)." >&2; \
			exit 1; \
		fi; \
		echo "Creating $(VENV) with $$chosen ($$("$$chosen" --version))"; \
		"$$chosen" -m venv --clear "$(VENV)"; \
	fi; \
	echo "Installing covsde and its test dependencies (the first time takes a few minutes)"; \
	"$(BIN)" -m pip install --quiet --progress-bar off --disable-pip-version-check \
		$(if $(CONSTRAINTS),-c "$(CONSTRAINTS)") -e ".[test]"; \
	touch "$(STAMP)"

demo: $(STAMP)  ## simulate a network's limit for four images of digits, with figures, into demo/
	$(BIN) experiments/demo_digits.py --out demo $(ARGS)

test: $(STAMP)  ## run the tests
	$(BIN) -m pytest $(ARGS)

test-oldest:  ## run the tests with the oldest versions of JAX, Diffrax and Equinox that are allowed
	$(MAKE) test VENV=$(VENV)-oldest CONSTRAINTS=tests/oldest.txt

thorough: $(STAMP)  ## run the tests that `make test` leaves out because they take long
	$(BIN) -m pytest -m thorough $(ARGS)

lint: $(STAMP)  ## check style and types
	$(BIN) -m ruff check $(SOURCES)
	$(BIN) -m ruff format --check $(SOURCES)
	$(BIN) -m mypy covsde

format: $(STAMP)  ## rewrite the sources in the common style
	$(BIN) -m ruff check --fix-only $(SOURCES)
	$(BIN) -m ruff format $(SOURCES)

docs: $(STAMP)  ## build the documentation, every warning an error, into site/
	$(BIN) docs/papers.py
	NO_MKDOCS_2_WARNING=1 $(BIN) -m mkdocs build --strict --site-dir site $(ARGS)

validate: thorough  ## run those tests, and compare the limits with finite networks, into docs/validation.md
	$(BIN) experiments/validate.py --out docs/validation.md $(ARGS)

figures: $(STAMP)  ## draw every figure at reduced size, into figures/
	$(BIN) experiments/all_figures.py --quick --out figures $(ARGS)

bench: $(STAMP)  ## time the solvers against hand-written loops, what an accuracy costs, and training
	$(BIN) benchmarks/against_scan.py
	$(BIN) benchmarks/cost_to_accuracy.py
	$(BIN) benchmarks/training.py
	$(BIN) benchmarks/many_labels.py
	$(BIN) benchmarks/many_inputs.py

clean:  ## remove caches and generated files, but not the environment
	rm -rf build dist demo figures site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
