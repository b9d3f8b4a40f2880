"""Times the medallion pipeline: first run, 1 % new orders, nothing new; DuckDB and Spark as peers.

Prints one table: wall time, CPU time, peak memory of the whole process tree, and the ratio to DuckDB's wall time; the
medians of several rounds, in each of which everything runs once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.measuring import Measured, measure, medians, print_table
from bench.medallion.generate import generate, write_orders

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"


def three_runs(what: str, command: list[str], work: Path, data: Path, orders: int) -> list[Measured]:
    """The same command over its own copy of the data: at first, with 1 % new orders, with nothing new."""
    own = work / "data"
    shutil.copytree(data, own)
    command = [part.replace("{data}", str(own)) for part in command]
    first = measure(f"{what}: first run", command, work)
    new, rng = max(orders // 100, 1), np.random.default_rng(orders)
    write_orders(own / "orders" / "later.json", new, orders + 1, max(orders // 20, 1), rng)
    return [first, measure(f"{what}: 1 % new", command, work), measure(f"{what}: nothing new", command, work)]


def run_deltaworks(binary: Path, example: str, work: Path, data: Path, orders: int) -> list[Measured]:
    """One of the examples."""
    shutil.copytree(EXAMPLES / example, work, ignore=shutil.ignore_patterns("data", ".deltaworks"))
    command = [str(binary), "run", "--set", "path_mappings./data/={data}"]
    return three_runs(f"Deltaworks, {example}", command, work, data, orders)


def run_spark(venv: Path, work: Path, data: Path, orders: int) -> list[Measured]:
    """`spark-pipelines` of the Python environment `venv`, in a process group of its own JVM."""
    shutil.copytree(HERE / "spark", work)
    spec = work / "spark-pipeline.yml"
    spec.write_text(spec.read_text().replace("storage: storage", f"storage: file://{work}/storage"))
    os.environ |= {"PATH": f"{venv}/bin:{os.environ['PATH']}", "PYSPARK_PYTHON": f"{venv}/bin/python"}
    os.environ.pop("PYTHONPATH", None)
    # Without a Hive metastore the tables are forgotten with the process. Spark prints a warning and obeys.
    hive = "spark.sql.catalogImplementation=hive"
    command = ["env", "MEDALLION_DATA={data}", f"{venv}/bin/spark-pipelines", "run", "--conf", hive]
    return three_runs("Spark", command, work, data, orders)


def run_all(arguments: argparse.Namespace, work: Path, data: Path) -> list[Measured]:
    """One round."""
    duckdb = [sys.executable, str(HERE / "duckdb_peer.py"), str(data), str(work / "duckdb")]
    measured = [measure("DuckDB, from scratch", duckdb, work)]
    for example in arguments.examples:
        measured += run_deltaworks(arguments.binary.resolve(), example, work / example, data, arguments.orders)
    if arguments.spark:
        measured += run_spark(arguments.spark.resolve(), work / "spark", data, arguments.orders)
    return measured


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--orders", type=int, default=2_000_000)
    parser.add_argument("--examples", nargs="+", default=["medallion", "medallion_sql"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spark", type=Path, help="a Python environment that has `pyspark[pipelines]`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltaworks-bench-") as folder:
        work, data = Path(folder), Path(folder) / "data"
        generate(data, arguments.orders, arguments.seed)
        size = sum(file.stat().st_size for file in data.rglob("*.*")) / 1e6
        print(f"{arguments.orders:,} orders, {size:.0f} MB, {os.cpu_count()} cores, {arguments.rounds} rounds\n")
        rounds = []
        for _ in range(arguments.rounds):
            own = work / "round"
            own.mkdir()
            rounds.append(run_all(arguments, own, data))
            shutil.rmtree(own)
        measured = medians(rounds)
        print_table(measured, measured[0].wall, "DuckDB")


if __name__ == "__main__":
    main()
