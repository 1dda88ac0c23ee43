# Each target is one line that calls the real tool. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help assets up test lint fmt openapi sqlx-prepare bench bench-peers soak fuzz
# Queries are checked against .sqlx/ wherever DATABASE_URL points, so that building never needs a database.
export SQLX_OFFLINE ?= true
WITH_POSTGRES = cargo run --quiet --package local-postgres --bin with-postgres --
BINS = --package portal --package metering-gateway --package tollkeeper --bins

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Build and start the whole product on this machine (flags: make up ARGS="--help")
	@scripts/setup up && $(MAKE) --no-print-directory assets && cargo build --release $(BINS) && exec target/release/tollkeeper up $(ARGS)

test: ## Everything CI runs: format, lints, unit, database, end-to-end and browser tests
	scripts/setup test && $(MAKE) assets && cargo fmt --check && cargo clippy --workspace --all-targets -- -D warnings && cargo build $(BINS) && $(WITH_POSTGRES) cargo nextest run --workspace

lint: ## Format, lints, licences and bans of dependencies
	cargo fmt --check && cargo clippy --workspace --all-targets -- -D warnings && cargo deny check bans licenses sources && scripts/fuzz check

fmt: ## Format the code
	cargo fmt

assets: node_modules/.package-lock.json ## Bundle styles, scripts and the API reference
	@node portal/assets/build.mjs

# What package-lock.json pins; installed again only when it changes.
node_modules/.package-lock.json: package.json package-lock.json
	@scripts/setup up && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@

openapi: ## Write openapi/*.json from the code
	@set -e; for name in portal gateway-control; do cargo run --quiet --package portal -- openapi $$name > openapi/$$name.v1.json.new; mv openapi/$$name.v1.json.new openapi/$$name.v1.json; done

sqlx-prepare: ## Write .sqlx/ from the queries in the code and the migrations
	$(WITH_POSTGRES) --migrate migrations -- scripts/sqlx-prepare

bench: ## Criterion benches of the crates
	cargo bench --workspace

bench-peers: ## The gateway beside HAProxy, nginx, Envoy (if ENVOY names one) and a relay, and at scale; writes benches/README.md
	scripts/setup bench && scripts/gateway-profiled && $${CARGO_TARGET_DIR:-target}/dist/loadtest all

soak: assets ## The tests with a hundred times the random cases
	scripts/setup test && cargo build $(BINS) && PROPTEST_CASES=25600 $(WITH_POSTGRES) cargo nextest run --workspace --profile soak

fuzz: ## Fuzz the parsers, each for a minute (make fuzz SECONDS=600 for longer)
	scripts/fuzz $(or $(SECONDS),60)
