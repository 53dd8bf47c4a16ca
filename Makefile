# The commands of this repository. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run cluster compare peers generators test test-go features hostile mutants soak debezium

# rustup puts cargo, and Go's archive puts go, where a shell that is already open does not look.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:/usr/local/go/bin

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build florin and run its demonstration (ARGS="--seconds 10" ends it by itself)
	@scripts/needs run
	cargo run --release --locked -- demo $(ARGS)

cluster: ## A broker and three nodes that divide its topic, on this machine, with live transactions and readers; harm them and look (ARGS=60: for a minute)
	@scripts/needs cluster
	cargo build --release --locked
	cargo run --release --locked --example cluster -- $(ARGS)

compare: ## Florin against the Go service that it replaces and a plain Rust one, in about 20 minutes; goes on where it was interrupted (LEDGER=postgres: florin and the Go service on a PostgreSQL)
	@LEDGER=$(LEDGER) scripts/needs compare
	@LEDGER=$(LEDGER) scripts/compare $(ARGS)

peers: ## Florin's own protocol beside Valkey, with and without MGET, and memcached: CPU a request, in an hour
	@scripts/needs peers
	@scripts/compare peers $(ARGS)

generators: ## Florin asked by wrk and by valkey-benchmark beside florin-bench, in five minutes
	@scripts/needs generators
	cargo build --release --locked --workspace --bins
	@scripts/generators

test: ## Everything that CI checks: format, lints, tests, documentation, dependencies
	@scripts/needs test
	@scripts/test

test-go: ## The Go half of test: the client, and the service that florin replaces against florin itself
	@scripts/needs test-go
	cargo build --workspace --locked
	@scripts/test-go

features: ## Lint builds with fewer kinds of ledgers and drivers than all, their tests as well
	@scripts/needs test
	@for set in sqlite sqlite,monoio,glommio sqlite,postgres,monoio,glommio sqlite,kafka,monoio,glommio; do \
		echo "== $$set"; \
		cargo clippy --package florin --all-targets --no-default-features --features $$set --locked -- -D warnings || exit 1; \
	done

debezium: ## Debezium's embedded engine publishes a PostgreSQL into a topic, and one node and three answer as its rows amount to (wants Maven and a JDK)
	@scripts/needs test
	FLORIN_DEBEZIUM="$$(scripts/debezium)" cargo test --workspace --locked --test answers -- --nocapture what_debezium_publishes

hostile: ## What may go wrong, for longer than test has time: an hour at most (docs/promises.md)
	@scripts/needs test
	@scripts/hostile

mutants: ## Change the core in each of 1,300 small ways, and see whether a test notices: hours (SAMPLE=3/24: every 24th)
	@scripts/needs test
	@scripts/mutants $(SAMPLE)

soak: ## One node under mixed load for two hours, which must stay as it is (SOAK_S=600 makes it ten minutes)
	@scripts/needs test
	@SOAK_S=$(SOAK_S) scripts/hostile soak
