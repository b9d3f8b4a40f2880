"""Times the medallion pipeline: first run, 1 % new orders, nothing new; DuckDB and Spark as peers.

Prints one table: wall time, CPU time, peak memory of the whole process tree, and the ratio to DuckDB's wall time.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from generate import generate, write_orders

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"


@dataclass
class Measured:
    """What one run took."""

    what: str
    wall: float
    cpu: float
    peak_mb: float


def tree_memory(root: int) -> int:
    """Resident memory in kB of a process and everything below it."""
    children: dict[int, list[int]] = {}
    memory: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        pid = int(fields["Pid"])
        children.setdefault(int(fields["PPid"]), []).append(pid)
        memory[pid] = int(fields.get("VmRSS", "0 kB").split()[0])
    total, open_pids = 0, [root]
    while open_pids:
        pid = open_pids.pop()
        total += memory.get(pid, 0)
        open_pids += children.get(pid, [])
    return total


def measure(what: str, command: list[str], cwd: Path) -> Measured:
    """Runs a command to its end; a failure ends the benchmark with the command's own output."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT)
        peak, done = 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.05):
                peak = max(peak, tree_memory(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = process.wait()
        wall = time.perf_counter() - start
        done.set()
        watcher.join()
        if code != 0:
            log.seek(0)
            sys.exit(f"{what}: {' '.join(command)} failed with {code}\n{log.read()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(what, wall, cpu, peak / 1024)


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


def print_table(measured: list[Measured], baseline: float) -> None:
    """One line per run, as Markdown."""
    print("| Run | Wall s | CPU s | Peak MB | Wall / DuckDB |")
    print("|---|---:|---:|---:|---:|")
    for m in measured:
        print(f"| {m.what} | {m.wall:.2f} | {m.cpu:.2f} | {m.peak_mb:.0f} | {m.wall / baseline:.2f} |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--orders", type=int, default=2_000_000)
    parser.add_argument("--examples", nargs="+", default=["medallion", "medallion_sql"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spark", type=Path, help="a Python environment that has `pyspark[pipelines]`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltaworks-bench-") as folder:
        work, data = Path(folder), Path(folder) / "data"
        generate(data, arguments.orders, arguments.seed)
        size = sum(file.stat().st_size for file in data.rglob("*.*")) / 1e6
        print(f"{arguments.orders:,} orders, {size:.0f} MB, {os.cpu_count()} cores\n")
        duckdb = [sys.executable, str(HERE / "duckdb_peer.py"), str(data), str(work / "duckdb")]
        measured = [measure("DuckDB, from scratch", duckdb, work)]
        for example in arguments.examples:
            measured += run_deltaworks(arguments.binary.resolve(), example, work / example, data, arguments.orders)
        if arguments.spark:
            measured += run_spark(arguments.spark.resolve(), work / "spark", data, arguments.orders)
        print_table(measured, measured[0].wall)


if __name__ == "__main__":
    main()
