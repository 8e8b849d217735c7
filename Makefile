# One verb for each duty; the same by hand and in CI. `make` alone prints them.
#
# Every verb does its own set-up first. What is set up is remembered by files with a leading dot inside each
# environment (.venv/.base, .venv/.native …), so that a second call does only what has changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV := 0.13.9
CARGO_FUZZ := 0.13.2
FUZZ_SECONDS ?= 60
STAMPEDE_SECONDS ?= 30
HOST := $(shell uname -m)-unknown-linux-gnu
TARGET := $(or $(CARGO_TARGET_DIR),target)
BACKENDS := io_uring epoll poll select sigio

rust := $(shell find crates/core/src crates/load/src crates/py/src -name '*.rs') $(wildcard crates/*/Cargo.toml) Cargo.toml Cargo.lock
python := $(shell find python -name '*.py' -o -name '*.pyi')
pip := bin/python -m pip --disable-pip-version-check install --quiet
bin := .venv/bin
export VIRTUAL_ENV :=

##@ Use
run: .venv/.native ## Set up, build and start the echo server on tcp://127.0.0.1:9000 (ARGS="--port 9001" to change it)
	@exec $(bin)/python -m wireway serve echo $(ARGS)

##@ Develop
test: test-rust test-python test-others ## Run every test: Rust, Python, and again on the other interpreters here, over the back ends that auto chooses

check: .venv/.dev .venv/.native ## Lint, format, types, stub, docs, links, examples: nothing may be wrong
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/pyright
	$(bin)/python -m mypy.stubtest wireway._native --mypy-config-file pyproject.toml
	cargo fmt --all --check
	PYO3_PYTHON=$(CURDIR)/$(bin)/python cargo clippy --quiet --workspace --all-targets -- -D warnings
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict
	$(bin)/python -m pytest -q tests/structure

docs: .venv/.dev .venv/.native ## Write the pages that the code writes, and build the site into site/ (open site/index.html)
	$(bin)/python tools/site/pages.py
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --quiet --strict

bench: .venv/.dev .venv/.native ## Measure against the peers; writes benchmarks/report/ and the README's table (ARGS= for its options)
	$(bin)/python benchmarks/run.py $(ARGS)
	$(if $(ARGS),,$(bin)/python benchmarks/harness/readme.py benchmarks/report/report.json README.md)
	$(if $(ARGS),,$(bin)/python benchmarks/harness/readme.py benchmarks/report/report.json README.zh-CN.md)

hold: .venv/.native ## 200,000 connections over workers for five minutes (ARGS="--connections 40000 --seconds 30"); seven minutes, 8 GiB
	$(bin)/python benchmarks/hold.py $(ARGS)

reload: .venv/.native ## A program replaced under load: 2,000 connections, 50,000 messages a second (ARGS="--rolls 2"); one minute
	$(bin)/python benchmarks/reload.py $(ARGS)

scale: .venv/.native ## Two workers against one (ARGS="--workers 4"); half a minute
	$(bin)/python benchmarks/scale.py $(ARGS)

waits: .venv/.dev .venv/.native ## A turn and an echo on each back end beside 10 to 10,000 idle connections; a minute and a half; then `make docs`
	$(bin)/python benchmarks/waits.py $(ARGS)

chat: .venv/.native ## 5,000 people in a chat, 2,000 of them in one room (ARGS="--people 500"); a minute
	$(bin)/python benchmarks/chat.py $(ARGS)

stampede: .venv/.dev .venv/.native ## Workers are killed, stopped and starved of memory for 30 s under load (STAMPEDE_SECONDS=30)
	WIREWAY_STAMPEDE=$(STAMPEDE_SECONDS) $(bin)/python -m pytest -q -s tests/faults/test_stampede.py::test_a_stampede

conformance: .venv/.dev .venv/.native ## CPython's own asyncio tests on each back end; writes the table in docs/reference
	$(bin)/python tests/conformance/run.py --write $(ARGS)

fuzz: export PATH := $(abspath $(TARGET)/tools/bin):$(PATH)
fuzz: $(TARGET)/tools/bin/cargo-fuzz ## One minute for each fuzz target (FUZZ_SECONDS=60); needs the nightly toolchain
	@names=$$(cargo +nightly fuzz list); \
	for name in $$names; do \
		echo "fuzz $$name, $(FUZZ_SECONDS) s"; \
		mkdir -p fuzz/corpus/$$name; \
		cargo +nightly fuzz run $$name -- -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1; \
	done; \
	echo "no crash in:" $$names

sanitize: ## The tests of the Rust core under AddressSanitizer (nightly), or else under valgrind
	@tools/sanitize $(TARGET) $(HOST)

lock: ## Write requirements/*.txt and Cargo.lock anew from what they are made from
	@tools/preflight
	@test -x $(TARGET)/tools/uv/bin/uv || { "$$(tools/pythons --main)" -m venv $(TARGET)/tools/uv && $(TARGET)/tools/uv/$(pip) uv==$(UV); }
	@for name in base dev; do \
		$(TARGET)/tools/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
			$$([ $$name = base ] || echo "-c requirements/base.txt") requirements/$$name.in -o requirements/$$name.txt; \
	done
	cargo $(if $(UPGRADE),update,update --workspace)

clean: ## Remove what the verbs made: environments, builds, caches
	rm -rf .venv .venv-* target dist site fuzz/target .mypy_cache .ruff_cache .pytest_cache python/wireway/*.so

help: ## Print this table
	@awk 'BEGIN { FS = ":.*## "; print "usage: make VERB\n" } \
		/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run test check docs bench waits chat hold reload scale stampede conformance fuzz sanitize lock clean help test-rust test-python test-others wheel force

# --- the parts of `make test` --------------------------------------------------------------------------------------

test-rust: .venv/.base
	cargo test --quiet -p wireway-core -p wireway-load -p wireway-loadgen

test-python: .venv/.dev .venv/.native dist/.wheel
	$(call pytest,$(bin)/python,)

# $(1) the interpreter, $(2) what is left out. Half of the suite waits for the kernel: a process for each core, then, one
# after the other, the tests that would notice the others. With ARGS, one process runs what they say.
define pytest
$(if $(ARGS),$(1) -m pytest $(2) $(ARGS),$(1) -m pytest -n auto --dist worksteal -m "not alone" $(2); $(1) -m pytest -m alone $(2))
endef

# The suite again wherever the code could differ: not the interop tests, nor those that read the sources.
test-others: .venv/.base
	@main=$$($(bin)/python -c 'import sys; print("3.%d" % sys.version_info[1])'); \
	tools/pythons | { summary=""; while read -r minor path; do \
		if [ "$$minor" = "$$main" ]; then summary="$$summary\n  CPython $$minor: passed, the main interpreter, all tests"; \
		elif [ "$$path" = - ]; then summary="$$summary\n  CPython $$minor: not on this machine, its run was left out"; \
		else \
			echo "CPython $$minor ($$path)"; \
			$(MAKE) .venv-$$minor/.native </dev/null; \
			export WIREWAY_TEST_BACKENDS=io_uring,epoll; \
			{ $(call pytest,.venv-$$minor/bin/python,$(addprefix --ignore=tests/,interop browser structure conformance)); } </dev/null; \
			summary="$$summary\n  CPython $$minor: passed"; \
		fi; done; printf "interpreters:$$summary\n"; }

wheel: dist/.wheel
dist/.wheel: .venv/.native $(python) README.md LICENSE
	@rm -rf dist
	$(bin)/maturin build --quiet --release --interpreter $(bin)/python --target-dir $(TARGET) --out dist
	@touch $@

# --- environments and builds ---------------------------------------------------------------------------------------

# $(1) the environment, $(2) a command that prints its interpreter, $(3) where its build is kept,
# $(4) the extension's file name there (a pattern)
define environment
$(1)/.base: requirements/base.txt
	@tools/preflight
	@echo "set up $(1)"
	@test -x $(1)/bin/python || "$$$$($(2))" -m venv $(1)
	@$(1)/$(pip) --require-hashes -r $$<
	@touch $$@

$(1)/.native: $(1)/.base pyproject.toml $(rust) $(if $(wildcard python/wireway/$(4)),,force)
	@tools/preflight
	@echo "build the native half for $(1) (the first time takes about two minutes)"
	@VIRTUAL_ENV=$(CURDIR)/$(1) $(1)/bin/maturin develop --quiet --release --target-dir $(3)
	@touch $$@
endef
$(eval $(call environment,.venv,tools/pythons --main,$(TARGET),_native.*.so))
$(foreach minor,3.11 3.12 3.13 3.14,$(eval $(call environment,.venv-$(minor),tools/pythons | sed -n 's/^$(minor) //p',$(TARGET)/py$(minor),_native.cpython-$(subst .,,$(minor))-*.so)))

.venv/.dev: requirements/dev.txt .venv/.base
	@echo "set up .venv for development"
	@.venv/$(pip) --require-hashes -r $<
	@touch $@

$(TARGET)/tools/bin/cargo-fuzz: .venv/.base
	@cargo +nightly --version >/dev/null 2>&1 || { echo "fuzzing needs Rust's nightly toolchain: rustup toolchain install nightly" >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "fuzzing needs a C++ compiler: apt-get install g++" >&2; exit 1; }
	@test -x $@ || cargo install --quiet --locked --root $(TARGET)/tools --version $(CARGO_FUZZ) cargo-fuzz || \
		{ echo "cargo-fuzz $(CARGO_FUZZ) could not be installed: see the error above; cargo must reach its registry" >&2; exit 1; }
	@touch $@
