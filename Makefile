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
test: postgresql wrk schemathesis python3-aiosmtpd openssl nats-server nginx caddy envoy traefik libfaketime curl issuer ## Run every check and every test
	@scripts/test

.PHONY: cluster
cluster: postgresql nats-server curl ## Start three replicas that hear each other by NATS, and show revocations crossing them
	@cargo build --release --package tally
	@exec scripts/cluster

.PHONY: chaos
chaos: postgresql nats-server libfaketime ## Break everything many times under load (ROUNDS=20 SEED=… FAULTS=kill; FAULTS=replicas REVOCATIONS=10000)
	@scripts/chaos

.PHONY: timing
timing: postgresql ## Look whether the time the login door takes tells who has an account, in 10,000 samples
	@cargo build --release --package tally
	@TALLY_TIMING_SAMPLES=10000 TALLY_TIMING_SERVER=$(CURDIR)/target/release/tally cargo test --package tally --test system --locked -- --nocapture timing::

# Which figure `make bench` measures, and its options: see `tally-bench --help`.
FIGURE ?= all

.PHONY: bench
bench: postgresql wrk nats-server peers ## Measure every figure beside its baseline, in half an hour; FIGURE=mints: that one
	@cargo build --release --package tally --package tally-bench
	@./target/release/tally-bench $(FIGURE)

.PHONY: bench-peers
bench-peers: ## Measure appends beside other event stores alone
	@$(MAKE) --no-print-directory bench FIGURE=peers

.PHONY: bench-page
bench-page: ## Write the figures of the last bench into docs/performance.md
	@cargo build --quiet --release --package tally --package tally-bench
	@./target/release/tally-bench render

.PHONY: sqlx
sqlx: postgresql ## Write .sqlx anew after a statement changed
	@scripts/sqlx write

.PHONY: golden
golden: postgresql issuer ## Write the generated pages and tables anew
	@cargo run --quiet --package tally -- config reference > target/configuration.md
	@mv target/configuration.md docs/configuration.md
	@cargo run --quiet --package tally -- openapi > target/openapi.json
	@mv target/openapi.json docs/openapi.json
	@INSTA_UPDATE=always cargo test --quiet --package tally --test system role_matrix::who_may

.PHONY: postgresql wrk schemathesis python3-aiosmtpd openssl nats-server nginx caddy envoy traefik libfaketime curl
postgresql wrk schemathesis python3-aiosmtpd openssl nats-server nginx caddy envoy traefik libfaketime curl:
	@scripts/install $@

.PHONY: issuer
issuer:
	@scripts/issuer

.PHONY: peers
peers:
	@scripts/peers
