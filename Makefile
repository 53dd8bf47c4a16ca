# The commands of this repository. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run test

# rustup puts cargo where a shell that is already open does not look.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build florin and run its demonstration (ARGS="--seconds 10" ends it by itself)
	@scripts/needs
	cargo run --release --locked -- demo $(ARGS)

test: ## Everything that CI checks: format, lints, tests, documentation, dependencies
	@scripts/needs
	@scripts/test
