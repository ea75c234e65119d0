# `make help` lists what can be made.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.l45-setup
C_SOURCES = $(shell find kernel_tap bench tests -name '*.[ch]')

export PYTHON

.PHONY: help setup system build user demo lab test test-vm demo-vm debug-kernel stress-vm \
	lint unit rotations chaos fuzz bench-core bench-tap bench-nco clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: system $(STAMP) build ## Install what is missing: system packages (as root), Python, eBPF build

system:
	@setup/system.sh

PYTHON_SETUP := setup/python.sh setup/pip.txt setup/constraints.txt setup/build-constraints.txt \
	$(wildcard setup/l45_ryu_compat.*)
$(STAMP): requirements.txt pyproject.toml $(PYTHON_SETUP) | system
	@setup/python.sh
	@touch $@

build: | system ## Build the eBPF tap, into build
	@$(MAKE) --no-print-directory -s -C kernel_tap

user: setup ## Build modules for user space and l45-peer, into build/user
	@$(MAKE) --no-print-directory -s -C kernel_tap/user user peer

demo: setup ## Play the dissertation's middlebox demonstration (root)
	@$(BIN)/python -m mininet_topos.demo

lab: setup ## The demonstration's network with Mininet's prompt, to try things (root)
	@$(BIN)/python -m mininet_topos.lab

test: setup lint ## Lint, unit tests and, as root, system tests
	@$(BIN)/pytest

test-vm: setup ## Boot Debian's kernels 6.1 and 6.12 in QEMU, test in them; installs them (root)
	@setup/system.sh setup/vm-packages.txt
	@$(BIN)/pytest tests/vm

debug-kernel: setup ## Build Linux 6.12 with KASAN, lockdep and kmemleak, into build/debug-kernel (root)
	@setup/system.sh setup/vm-packages.txt
	@setup/system.sh setup/debug-kernel-packages.txt
	@$(MAKE) --no-print-directory build/debug-kernel/built

build/debug-kernel/built: tests/vm/debug/build.sh tests/vm/debug/config
	@tests/vm/debug/build.sh $(@D)
	@touch $@

VM_KERNEL ?= 6.12
demo-vm: setup ## Play the kernel tap's demonstration in QEMU (root); VM_KERNEL=6.1 or 6.12
	@setup/system.sh setup/vm-packages.txt
	@$(BIN)/python -m tests.vm.demo --kernel $(VM_KERNEL)

SECONDS ?= 600
stress-vm: debug-kernel ## Stress the kernel tap in the debug kernel for SECONDS=600, then fuzz netlink
	@$(BIN)/python -m tests.vm debug tests/vm/debug/stress.sh \
		--set STRESS_SECONDS=$(SECONDS) --seconds $$((2 * $(SECONDS) + 600))

ROTATIONS ?= 300
rotations: setup ## Rotate ROTATIONS=300 times under a loop of dig, over a link that reorders (root)
	@$(BIN)/python -m tests.system.rotation --rotations $(ROTATIONS)

RUNS ?= 300
chaos: setup ## Kill the service, Ryu's application and agents RUNS=300 times at random moments (root)
	@$(BIN)/python -m tests.system.chaos --runs $(RUNS)

unit: setup ## Unit tests alone (no root)
	@$(BIN)/pytest tests/unit

lint: setup ## ruff, mypy, clang-format, luacheck
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@clang-format --dry-run --Werror $(C_SOURCES)
	@setup/luacheck.sh
	@echo "lint: clean"

bench-core: user ## Measure the stream core and the modules in user space, beside memcpy
	@$(MAKE) --no-print-directory -s -C bench core
	@$(BIN)/python -m bench.core

bench-tap: setup ## Measure the taps beside a kernel without any, here or in QEMU (root)
	@setup/system.sh setup/vm-packages.txt
	@setup/system.sh setup/bench-packages.txt
	@$(MAKE) --no-print-directory -s -C bench tap
	@$(BIN)/python -m bench.tap

# BENCH='--agents 100 --runs 1 --results build/bench' is a small one; BENCH=--help lists all options.
bench-nco: setup ## Measure the NCO with 250, 1,000 and 10,000 emulated agents (root); BENCH='...'
	@$(BIN)/python -m bench.nco $(BENCH)

# FUZZ_SECONDS says it in seconds.
HOURS ?= 1
fuzz: setup ## Fuzz the stream core and the modules for HOURS=1
	@$(MAKE) --no-print-directory -s -C kernel_tap/fuzz
	@kernel_tap/fuzz/fuzz.sh build/fuzz/bin \
		$${FUZZ_SECONDS:-$$(awk 'BEGIN { print int(3600 * $(HOURS)) }')} build/fuzz

clean: ## Remove build outputs and the Python environment
	rm -rf build $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
