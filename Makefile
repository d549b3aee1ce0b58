# What one types here. `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: help quickstart test check image cluster cluster-down bench bench-operator fmt preflight

CARGO ?= cargo
NODES ?= 2

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

quickstart: preflight ## Build, start the adapter on the example, send a first message and see it arrive (ONCE=1: then end)
	@adapters/examples/quickstart.sh

# As the image is built, so that nothing is built twice.
test: export CARGO_BUILD_TARGET := $(shell PATH=$$PATH:$$HOME/.cargo/bin; rustc -vV | sed -n 's/^host: //p')
test: export RUSTFLAGS := -C target-feature=+crt-static
# What is built once is not built again: nothing to keep for the next time, in half the space.
test: export CARGO_INCREMENTAL := 0
test: preflight ## Install what is missing and run every test, against a real RabbitMQ and a real Kubernetes
	tests/preflight.sh test
	tests/rabbitmq/rabbitmq.sh prepare
	tests/cluster/build.sh nodes
	$(CARGO) build --locked --package adapter --package operator --package tidegate
	PROFILE=dev charts/image/build.sh
	$(CARGO) test --workspace --locked --no-fail-fast --lib --bins --tests

image: preflight ## Build the image of the three programs as target/image/tidegate-ARCH.tar (ARCH=arm64, IMAGE=NAME:TAG)
	charts/image/build.sh

cluster: preflight ## Bring up a Kubernetes on this machine with the images in it (NODES=1 to 4), and say what to type next
	tests/cluster/build.sh nodes
	PROFILE=dev charts/image/build.sh
	tests/rabbitmq/rabbitmq.sh image target/image/rabbitmq.tar localhost/tidegate-test/rabbitmq:4
	tests/cluster/cluster.sh up $(NODES)
	tests/cluster/cluster.sh load "$$(charts/image/build.sh archive)" target/image/rabbitmq.tar
	@tests/cluster/cluster.sh next

cluster-down: ## Take that cluster away again
	tests/cluster/cluster.sh down

check: preflight ## Formatting, lints, licenses and sources of dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	@if $(CARGO) deny --version > /dev/null 2>&1; then $(CARGO) deny check bans licenses sources; \
	else echo 'cargo-deny is not installed: `cargo install --locked cargo-deny` adds the check of dependencies'; fi

bench: preflight ## Side-by-side measurements, as ratios within one run
	tests/rabbitmq/rabbitmq.sh prepare
	$(CARGO) build --release --locked --package adapter --package bench
	target/release/bench

bench-operator: preflight ## What a fleet costs on a Kubernetes API server (THINGS=100000: that many)
	tests/cluster/build.sh
	$(CARGO) build --release --locked --package adapter --package operator --package operator-bench
	target/release/operator-bench

fmt: ## Format the code
	$(CARGO) fmt --all

preflight:
	@tests/preflight.sh
