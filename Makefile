# The two commands of the README, and what they are made of.

SHELL := /bin/sh
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: run
run: postgresql ## Build and start a server with its own database on http://127.0.0.1:8080
	@cargo build --release --package tally
	@exec ./target/release/tally serve

.PHONY: test
test: postgresql ## Run every check and every test
	@scripts/test

.PHONY: sqlx
sqlx: postgresql ## Write .sqlx anew after a statement changed
	@scripts/sqlx write

.PHONY: golden
golden: ## Write the generated pages anew
	@cargo run --quiet --package tally -- config reference > target/configuration.md
	@mv target/configuration.md docs/configuration.md

.PHONY: postgresql
postgresql:
	@scripts/install-postgresql
