#!/usr/bin/env bash
# Installs Apache Spark with its pipelines, in a version ($2), into a Python environment of its own ($1): a peer of the
# benchmarks, and whose answers ours are compared with.
set -euo pipefail
venv=$1
version=${2:-4.3.0}
stamp="$venv/.spark-$version"
if [ ! -e "$stamp" ]; then
  command -v java >/dev/null || { echo "Spark needs Java 17 or later" >&2; exit 1; }
  "$(command -v python3.11 || command -v python3)" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "pyspark[connect,pipelines]==$version"
  touch "$stamp"
fi
