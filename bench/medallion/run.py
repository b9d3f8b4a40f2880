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


def run_deltaworks(binary: Path, example: str, work: Path, data: Path, orders: int) -> list[Measured]:
    """First run, 1 % new, nothing new, of one example over its own copy of the data."""
    shutil.copytree(EXAMPLES / example, work, ignore=shutil.ignore_patterns("data", ".deltaworks"))
    own = work / "data"
    shutil.copytree(data, own)
    command = [str(binary), "run", "--set", f"path_mappings./data/={own}"]
    first = measure(f"{example}: first run", command, work)
    new, rng = max(orders // 100, 1), np.random.default_rng(orders)
    write_orders(own / "orders" / "later.json", new, orders + 1, max(orders // 20, 1), rng)
    return [
        first,
        measure(f"{example}: 1 % new", command, work),
        measure(f"{example}: nothing new", command, work),
    ]


def run_peers(work: Path, data: Path, spark_python: str | None) -> list[Measured]:
    """DuckDB first, then Spark if there is an interpreter that has it."""

    def peer(name: str, script: str, python: str = sys.executable) -> Measured:
        return measure(name, [python, str(HERE / script), str(data), str(work / name)], work)

    measured = [peer("DuckDB", "duckdb_peer.py")]
    if spark_python:
        measured.append(peer("Spark", "spark_peer.py", spark_python))
    return measured


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
    parser.add_argument("--spark-python", help="an interpreter with the full pyspark; Spark is left out without it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltaworks-bench-") as folder:
        work, data = Path(folder), Path(folder) / "data"
        generate(data, arguments.orders, arguments.seed)
        size = sum(file.stat().st_size for file in data.rglob("*.*")) / 1e6
        print(f"{arguments.orders:,} orders, {size:.0f} MB, {os.cpu_count()} cores\n")
        peers = run_peers(work, data, arguments.spark_python)
        own = [
            run
            for example in arguments.examples
            for run in run_deltaworks(arguments.binary.resolve(), example, work / example, data, arguments.orders)
        ]
        print_table(peers + own, peers[0].wall)


if __name__ == "__main__":
    main()
