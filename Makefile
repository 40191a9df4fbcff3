# flowproof. `make` lists what can be made; `make setup` once is enough for plain cargo to work afterwards.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
DIST := $(TARGET)/dist
PACKED := $(DIST)/flowproof
EXAMPLE := examples/mitaka-2016

.DEFAULT_GOAL := help
.PHONY: help setup build demo test dist clean soak crosscheck language planted fuzz fuzz-selftest fuzz-seeds scoreboard releases kernel-judge neutron-flows neutron-check bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what building needs (Z3 into .z3/; packages by apt-get where allowed)
	@tools/setup.sh

build: setup ## build the release binary, target/release/flowproof
	$(CARGO) build --release --locked

demo: build ## lint, trace and prove the flow tables of a real host of 2016
	@tools/demo.sh $(TARGET)/release/flowproof $(EXAMPLE)

test: setup ## everything the gate asks: format, lints, documentation, all tests
	@tools/setup-openvswitch.sh
	@tools/setup-nftables.sh
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(CARGO) test --locked --workspace
	@tools/fuzz.sh smoke

dist: setup ## pack the binary with its library: runs without a checkout
	@test -f .z3/lib/libz3.so.5.4 || { echo "error: only the pinned Z3 of .z3 can be packed" >&2; exit 1; }
	FLOWPROOF_RPATH='$$ORIGIN/../lib' $(CARGO) build --release --locked --package flowproof --target-dir $(DIST)/build
	rm -rf $(PACKED)
	install -D $(DIST)/build/release/flowproof $(PACKED)/bin/flowproof
	install -D -m 644 .z3/lib/libz3.so.5.4 $(PACKED)/lib/libz3.so.5.4
	install -m 644 LICENSE NOTICE README.md CHANGELOG.md $(PACKED)
	tar -C $(DIST) -czf $(DIST)/flowproof-$$(uname -m).tar.gz flowproof
	$(PACKED)/bin/flowproof --version
	@echo "packed: $(DIST)/flowproof-$$(uname -m).tar.gz"

clean: ## remove what cargo built (.z3 stays: it is a download)
	$(CARGO) clean

POLICIES ?= 10000
SEED ?= 2026

soak: setup ## a night's worth: a real Open vSwitch, random policies, small worlds (FLOWPROOF_SOAK=, POLICIES=, SEED=)
	@tools/setup-openvswitch.sh
	CI=true FLOWPROOF_SOAK=$${FLOWPROOF_SOAK:-1000000} $(CARGO) test --locked --release --package flowproof --test main -- real_switch --nocapture --test-threads=1
	FLOWPROOF_ROUNDS=$${FLOWPROOF_ROUNDS:-5000} $(CARGO) test --locked --release --package flowproof --test main -- proofs::brute --nocapture
	FLOWPROOF_SOAK=1 $(CARGO) test --locked --release --package flowproof --test main -- lockstep::properties lockstep::exhaustive --nocapture
	$(CARGO) run --locked --release -- explore --layout mitaka --layout neutron --layout strict --datapath all --cases $(POLICIES) --seed $(SEED)
	CI=true FLOWPROOF_SOAK=1 $(CARGO) test --locked --release --package flowproof --test main -- genuine::everywhere --nocapture
	$(MAKE) language SEED=$(SEED)

COMPARISONS ?= 10000000
REAL ?= 1000000
FIRST ?= 0

language: setup ## the language's own generator: against all packets at once, proofs, diff, lint and a real switch (COMPARISONS=, REAL=, SEED=, FIRST=)
	@tools/setup-openvswitch.sh
	$(CARGO) build --locked --release --package flowproof-fuzz --example language
	@for judge in symbolic proofs diff lint; do $(TARGET)/release/examples/language $$judge $(COMPARISONS) $(SEED) $(FIRST) || exit 1; done
	@$(TARGET)/release/examples/language real $(REAL) $(SEED) $(FIRST)

planted: setup ## whether that generator finds each mending that is taken out (fuzz/planted.txt), within a minute
	$(CARGO) build --locked --package flowproof-fuzz --example planted
	@$(TARGET)/debug/examples/planted

TIME ?= 60

fuzz: setup ## every fuzz target for TIME seconds (nightly Rust; [TIME=60] [TARGETS='frame pcap'])
	@FLOWPROOF_FUZZ=required tools/fuzz.sh run $(TIME) $(TARGETS)

fuzz-selftest: setup ## whether each fuzz target finds a defect that is planted for it
	@FLOWPROOF_FUZZ=required tools/fuzz.sh selftest $(TARGETS)

fuzz-seeds: setup ## the seeds of the fuzz targets and their dictionaries, anew from fixtures and scenarios
	$(CARGO) run --locked --package flowproof-fuzz --example seeds -- fuzz/seeds

bench: build ## how fast: one table, side by side with Open vSwitch, Z3 and other crates (FLOWPROOF_BENCH=parse,interpret,diagrams,prove)
	@tools/setup-openvswitch.sh
	@$(CARGO) bench --locked --package flowproof-bench --bench bars -- --quiet > $(TARGET)/bench.log
	@cat $(TARGET)/bench-table.txt

crosscheck: build ## prove hosts once more with a second SMT solver from PyPI (SOLVER=bitwuzla or cvc5)
	@tools/crosscheck.sh $(TARGET)/release/flowproof

scoreboard: setup ## what catches planted defects: docs/scoreboard.md anew (FLOWPROOF_SCOREBOARD=N generic ones a layout, _MINUTES=M at most, _FUZZ=S seconds each)
	FLOWPROOF_SCOREBOARD=$${FLOWPROOF_SCOREBOARD:-all} $(CARGO) test --locked --release --package flowproof --test main -- mutants::scoreboard --nocapture

releases: setup ## prove what each release of Neutron keeps: docs/releases.md and the manifest of the corpus, anew
	@tools/setup-openvswitch.sh
	FLOWPROOF_BLESS=1 $(CARGO) test --locked --package flowproof --test main -- genuine
	@git --no-pager diff --stat -- docs/releases.md tests/fixtures/manifest.json
	$(CARGO) test --locked --package flowproof --test main -- genuine

kernel-judge: setup ## hold the kernel profile to the connection tracking of the kernel that runs here
	@tools/setup-nftables.sh
	FLOWPROOF_KERNEL_JUDGE=1 FLOWPROOF_SOAK=$${FLOWPROOF_SOAK:-5000} $(CARGO) test --locked --package flowproof-switch --test conntrack_judge -- --nocapture

NEUTRON ?= 29.0.0

neutron-flows: ## flows that Neutron's own driver writes: INTENT=FILE [NEUTRON=VERSION] [OUTPUT=FILE]
	@test -n "$(INTENT)" || { echo "usage: make neutron-flows INTENT=FILE [NEUTRON=VERSION] [OUTPUT=FILE]" >&2; exit 2; }
	@tests/neutron/make.sh $(NEUTRON) flows.py $(INTENT) $(if $(OUTPUT),--output $(OUTPUT))

neutron-check: ## whether Neutron's own driver still writes what the corpus says of its release
	@tests/neutron/make.sh $(NEUTRON) check.py $(NEUTRON)
