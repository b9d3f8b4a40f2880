#!/usr/bin/env bash
# Installs Apache Spark with its pipelines into a Python environment of its own ($1): a peer of the benchmarks.
set -euo pipefail
venv=$1
version=4.3.0
stamp="$venv/.spark-$version"
if [ ! -e "$stamp" ]; then
  command -v java >/dev/null || { echo "Spark needs Java 17 or later" >&2; exit 1; }
  "$(command -v python3.11 || command -v python3)" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "pyspark[connect,pipelines]==$version"
  touch "$stamp"
fi
