"""Times a command with everything it starts: wall time, CPU time, peak memory."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# Delta's jars for the Spark that they are made for.
DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"


def spark_submit(venv: Path, packages: str) -> list[str]:
    """How a script is started on the Spark of an environment, with packages of Maven."""
    home = next(venv.glob("lib/python3*/site-packages/pyspark"))
    python = venv / "bin/python"
    variables = [f"SPARK_HOME={home}", f"PYSPARK_PYTHON={python}", f"PYSPARK_DRIVER_PYTHON={python}"]
    return ["env", *variables, str(home / "bin/spark-submit"), "--driver-memory", "4g", "--packages", packages]


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
    # What was written before, by a copy of the data or by another run, must not wait for the disk in this one's time.
    os.sync()
    # Set where images are built; whoever runs pipelines has Python keep what it compiles.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=subprocess.STDOUT)
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


def medians(rounds: list[list[Measured]]) -> list[Measured]:
    """Of the same runs in several rounds, figure by figure: a machine is not equally fast all the time."""
    return [
        Measured(
            runs[0].what,
            statistics.median(run.wall for run in runs),
            statistics.median(run.cpu for run in runs),
            statistics.median(run.peak_mb for run in runs),
        )
        for runs in zip(*rounds, strict=True)
    ]


def print_table(measured: list[Measured], baseline: float, peer: str) -> None:
    """One line per run, as Markdown; `baseline` is the wall time of `peer`."""
    print(f"| Run | Wall s | CPU s | Peak MB | Wall / {peer} |")
    print("|---|---:|---:|---:|---:|")
    for m in measured:
        print(f"| {m.what} | {m.wall:.2f} | {m.cpu:.2f} | {m.peak_mb:.0f} | {m.wall / baseline:.2f} |")
