# Everything a developer does, each from a bare checkout: the set-up runs first and is quick the second time.

SHELL := /bin/bash
export DELTAWORKS_VENV ?= $(HOME)/.cache/deltaworks/venv
export CARGO_TARGET_DIR ?= $(HOME)/.cache/deltaworks/target
export PATH := $(DELTAWORKS_VENV)/bin:$(HOME)/.cargo/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/python
# The interpreter that tests evaluate pipelines with.
export DELTAWORKS_TEST_PYTHON ?= $(DELTAWORKS_VENV)/bin/python

DEMO := $(CARGO_TARGET_DIR)/demo/deltaworks
SPARK_VENV ?= $(HOME)/.cache/deltaworks/spark-venv
GOLDEN_VENV ?= $(HOME)/.cache/deltaworks/spark-4.2-venv
ORDERS ?= 2000000

.PHONY: build setup kafka databases demo lint test bench bench-cdc bench-queries bench-stream wheel generate

build: setup
	cargo build --locked --profile demo --package deltaworks

setup:
	@tools/setup.sh

# The broker that tests read from: Apache Kafka (46 MB, needs Java 17).
kafka:
	@tools/setup_kafka.sh

# The servers that tests read from and write to: PostgreSQL and MariaDB, from the distribution.
databases:
	@tools/setup_databases.sh

# Runs the example twice: the second run finds nothing new.
demo: build
	@tools/demo.sh $(DEMO)

lint: setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	ruff check python examples bench tests
	ruff format --check python examples bench tests
	mypy
	typos

test: lint kafka databases
	cargo test --locked --workspace
	DELTAWORKS_BIN=$(CARGO_TARGET_DIR)/debug/deltaworks python -m pytest
	python tests/spark_compat/differential/compare.py --binary $(CARGO_TARGET_DIR)/debug/deltaworks
	python tests/spark_compat/run.py --binary $(CARGO_TARGET_DIR)/debug/deltaworks

# Asks Apache Spark for the answers that `test` compares ours with.
golden: setup
	@tools/setup_spark.sh $(GOLDEN_VENV) 4.2.0
	$(GOLDEN_VENV)/bin/python tests/spark_compat/differential/record.py

generate: setup
	UPDATE=1 cargo test --locked --package deltaworks-pipeline settings_page
	UPDATE=1 cargo test --locked --package deltaworks-spark functions_page

# DuckDB is the peer. `make bench SPARK=yes` installs Apache Spark, too (300 MB, needs Java 17), and takes minutes longer.
bench: setup
	cargo build --locked --release --package deltaworks
	@if [ -n "$(SPARK)" ]; then tools/setup_spark.sh $(SPARK_VENV); fi
	python -m bench.medallion.run --binary $(CARGO_TARGET_DIR)/release/deltaworks --orders $(ORDERS) $(if $(SPARK),--spark $(SPARK_VENV))

# Change events into SCD type 1 and 2; the peer is a MERGE by hand with delta-rs' Python package.
bench-cdc: setup
	cargo build --locked --release --package deltaworks
	@if [ -n "$(SPARK)" ]; then tools/setup_spark.sh $(GOLDEN_VENV) 4.2.0; fi
	python -m bench.cdc.run --binary $(CARGO_TARGET_DIR)/release/deltaworks $(if $(SPARK),--spark $(GOLDEN_VENV))

# The queries of TPC-H; the peers are DataFusion and DuckDB.
bench-queries: setup
	cargo build --locked --release --package deltaworks
	pip install --quiet --disable-pip-version-check --requirement bench/queries/requirements.txt
	python -m bench.queries.run --binary $(CARGO_TARGET_DIR)/release/deltaworks

# Records of Kafka through three tables. `make bench-stream SPARK=yes` runs Apache Spark 4.2 with Delta's jars, too.
bench-stream: setup kafka
	cargo build --locked --release --package deltaworks
	@if [ -n "$(SPARK)" ]; then tools/setup_spark.sh $(GOLDEN_VENV) 4.2.0; fi
	python -m bench.stream.run --binary $(CARGO_TARGET_DIR)/release/deltaworks $(if $(SPARK),--spark $(GOLDEN_VENV))

# OpenSSL, zlib and zstd are inside: nothing has to be installed beside the wheel.
wheel: setup
	maturin build --locked --profile dist --features vendored --out dist
	@tools/try_wheel.sh dist
