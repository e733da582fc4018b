# Everything that a clone can do, each target with all its set-up. It needs Python 3.11 or newer,
# make and a package index: no root, no other package manager, no running service.
#
#   make test ARGS="-k governor"        arguments for pytest, for `ctl demo`, for the benchmarks
#   make PYTHON=/path/to/python3 test   another interpreter than the first that fits
#   make lock UPGRADE=--upgrade         newest releases instead of the ones that are locked

VENV ?= .venv
ARGS ?=
UPGRADE ?=

BIN := $(VENV)/bin
REQUIREMENTS := $(VENV)/.requirements
PROJECT := $(VENV)/.project

FITS := import sys; sys.exit(sys.version_info < (3, 11))
CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3 python
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	if "$$python" -c '$(FITS)' >/dev/null 2>&1; then echo "$$python"; break; fi; done)

.PHONY: help demo test lint bench lock wheel clean

help:
	@echo "make demo    broker, controller and three agents under a changing load, on this machine"
	@echo "make test    the tests"
	@echo "make lint    ruff, mypy --strict, import-linter"
	@echo "make bench   the benchmarks (ARGS=name runs one)"
	@echo "make lock    requirements.lock and requirements-agent.lock from pyproject.toml"
	@echo "make wheel   dist/sluice-*.whl, what a device installs"
	@echo "make clean   removes $(VENV), dist and the tools' caches"

demo: $(PROJECT)
	@$(BIN)/ctl demo $(ARGS)

test: $(PROJECT)
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

lint: $(PROJECT)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(PROJECT)
	@$(BIN)/python -m tests.bench $(ARGS)

wheel: $(PROJECT)
	@$(BIN)/python -m hatchling build -t wheel -d dist

# backports-strenum 1.3 forbids the very Pythons that ai-edge-litert asks for it on.
NOT_LOCKED := backports-strenum<1.3
COMPILE := env -u UV_FIND_LINKS $(BIN)/uv --no-config --quiet pip compile pyproject.toml \
	--universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)
# ai-edge-litert asks for these; its Interpreter imports none of them.
INTERPRETER_LEAVES_OUT := backports-strenum colorama flatbuffers ml-dtypes protobuf tqdm

lock: $(PROJECT)
	@echo '$(NOT_LOCKED)' | $(COMPILE) --constraints - --extra demo \
		--group test --group lint --group build -o requirements.lock
	@echo '$(NOT_LOCKED)' | $(COMPILE) --constraints - --extra agent \
		$(INTERPRETER_LEAVES_OUT:%=--no-emit-package %) -o requirements-agent.lock

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Where ensurepip is missing (Debian without python3-venv), a pip outside may fill the environment.
$(REQUIREMENTS): requirements.lock
	@set -eu; python='$(PYTHON)'; \
	cannot() { echo "cannot install Sluice: $$1" >&2; exit 1; }; \
	"$${python:-false}" -c '$(FITS)' 2>/dev/null || cannot \
		"no Python 3.11 or newer ($${python:-none found}); install one, or name it: make PYTHON=/path/to/python3"; \
	echo "Installing the locked requirements into $(VENV) ..."; \
	if "$$python" -c 'import ensurepip' 2>/dev/null; then \
		"$$python" -m venv --clear '$(VENV)'; \
		pip="$(BIN)/python -m pip"; \
	elif "$$python" -m pip --python "$$(command -v "$$python")" --version >/dev/null 2>&1; then \
		"$$python" -m venv --clear --without-pip '$(VENV)'; \
		pip="$$python -m pip --python $(BIN)/python"; \
	elif "$$python" -m virtualenv --version >/dev/null 2>&1; then \
		"$$python" -m virtualenv --clear --quiet '$(VENV)'; \
		pip="$(BIN)/python -m pip"; \
	else \
		cannot "$$python has neither ensurepip nor pip; on Debian: apt install python3-venv"; \
	fi; \
	$$pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	echo "$$pip" > $@

# The build backend comes out of the lock too, so nothing is fetched here.
$(PROJECT): $(REQUIREMENTS) pyproject.toml
	@pip=$$(cat $(REQUIREMENTS)); $$pip install --quiet --disable-pip-version-check \
		--no-index --no-deps --no-build-isolation --editable .
	@touch $@
