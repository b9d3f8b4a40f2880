"""Times streaming: records of Kafka through bronze and silver to gold, at a steady rate and as fast as it goes.

The latency of a record is the time from its producer's timestamp until the commit of Delta's log that holds it is in
the folder of `gold`, where anybody who reads the table sees it. It is taken from the tables afterwards, for both
programs alike.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bench.measuring import DELTA_PACKAGE, spark_submit, tree_memory
from bench.stream.broker import Broker
from bench.stream.produce import is_bad

HERE = Path(__file__).resolve().parent
SPARK_PACKAGES = f"{DELTA_PACKAGE},org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"
SETTINGS = """name: stream
storage: tables
continuous: {continuous}
configuration:
  servers: {servers}
  pipelines.trigger.interval: {interval}
"""


class Deltaworks:
    """Our program and its pipeline."""

    name = "Deltaworks"

    def __init__(self, binary: Path, interval: str) -> None:
        self.binary, self.interval = binary.resolve(), interval

    def prepare(self, work: Path, servers: str, continuous: bool) -> list[str]:
        """Writes what the program needs to the folder, and says how it is started."""
        shutil.copy(HERE / "pipeline.sql", work)
        settings = SETTINGS.format(continuous=str(continuous).lower(), servers=servers, interval=self.interval)
        (work / "deltaworks.yml").write_text(settings)
        return [str(self.binary), "run", "--quiet"]

    def gold(self, work: Path) -> Path:
        """The folder of the last table."""
        return next(log.parent for log in work.glob("tables/**/gold/_delta_log"))


class Spark:
    """Apache Spark with Delta's own jars."""

    name = "Spark"

    def __init__(self, venv: Path) -> None:
        self.venv = venv

    def prepare(self, work: Path, servers: str, continuous: bool) -> list[str]:
        """As for our own program."""
        del work
        submit = spark_submit(self.venv, SPARK_PACKAGES)
        return [*submit, str(HERE / "spark/peer.py"), "--servers", servers, *([] if continuous else ["--once"])]

    def gold(self, work: Path) -> Path:
        """As for our own program."""
        return work / "tables/gold"


def commits(table: Path) -> list[tuple[float, list[Path]]]:
    """When each commit was in the folder, in seconds, and the files with new rows that it added."""
    found = []
    for commit in sorted((table / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        added = [action["add"] for action in actions if "add" in action]
        # A compaction moves rows that were there before.
        added = [table / file["path"] for file in added if file["dataChange"]]
        found.append((commit.stat().st_mtime, added))
    return found


def latencies(table: Path, since: float) -> np.ndarray:
    """Milliseconds from each record's timestamp to its commit, for records that were produced after a moment."""
    parts = []
    for seen, files in commits(table):
        for file in files:
            produced = pq.read_table(file, columns=["timestamp"])["timestamp"].to_numpy().astype("datetime64[us]")
            seconds = produced.astype(np.int64) / 1e6
            parts.append((seen - seconds[seconds >= since]) * 1000)
    return np.concatenate(parts)


def rows(table: Path) -> int:
    """How many rows all commits have added."""
    return sum(pq.read_metadata(file).num_rows for _, files in commits(table) for file in files)


def expected(count: int) -> int:
    """How many of the first orders have an amount that is right."""
    return sum(not is_bad(number) for number in range(count))


def write_customers(work: Path) -> None:
    """The table that orders are joined with."""
    (work / "customers").mkdir()
    lines = [f"{i},customer {i},{1 + i % 20 / 100:.2f}" for i in range(1000)]
    (work / "customers/all.csv").write_text("\n".join(["customer_id,name,rate", *lines]) + "\n")


def producer_of(broker: Broker, count: int, rate: int) -> subprocess.Popen:
    """A process that writes orders to the topic."""
    command = [sys.executable, "-m", "bench.stream.produce", "--servers", broker.servers, "--topic", "orders"]
    return subprocess.Popen([*command, "--count", str(count), "--rate", str(rate)], stdout=subprocess.DEVNULL)


def wait_for_rows(peer: Deltaworks | Spark, work: Path, wanted: int, process: subprocess.Popen) -> None:
    """Waits until `gold` has as many rows as it must get."""
    while True:
        try:
            if rows(peer.gold(work)) >= wanted:
                return
        except (StopIteration, FileNotFoundError):
            pass
        if process.poll() is not None:
            sys.exit(f"{peer.name} ended:\n{(work / 'log').read_text()}")
        time.sleep(0.2)


def steadily(peer: Deltaworks | Spark, folder: Path, rate: int, seconds: int, partitions: int) -> None:
    """Prints a line about latencies at a steady rate, and about memory."""
    work = folder / peer.name.lower()
    work.mkdir()
    write_customers(work)
    warm, count = rate * 10, rate * (seconds + 10)
    with Broker(folder / f"broker-{peer.name.lower()}") as broker, (work / "log").open("w") as log:
        broker.create_topic("orders", partitions)
        command = peer.prepare(work, broker.servers, continuous=True)
        process = subprocess.Popen(command, cwd=work, stdout=log, stderr=subprocess.STDOUT)
        # Before time is taken, everything has been compiled, opened and seen once.
        producer_of(broker, 1000, 1000).wait()
        wait_for_rows(peer, work, expected(1000), process)
        start = time.time()
        used, memory, done = cpu_seconds(process.pid), [], False
        producer = producer_of(broker, count, rate)
        while not done:
            try:
                producer.wait(timeout=max(seconds / 60, 1))
                done = True
            except subprocess.TimeoutExpired:
                memory.append(tree_memory(process.pid) / 1024)
        wait_for_rows(peer, work, expected(1000) + expected(count), process)
        cpu = (cpu_seconds(process.pid) - used) / (time.time() - start)
        process.send_signal(signal.SIGTERM)
        process.wait()
    gold = peer.gold(work)
    assert rows(gold) == expected(1000) + expected(count), "rows were lost or repeated"
    taken = latencies(gold, start + warm / rate)
    p50, p99 = np.percentile(taken, [50, 99])
    memory = memory[len(memory) // 6 :]
    part = len(memory) // 4 + 1
    figures = [p50, p99, taken.max(), cpu, np.mean(memory[:part]), np.mean(memory[-part:]), len(commits(gold))]
    print(f"| {peer.name} | {' | '.join(f'{f:.2f}' if f is cpu else f'{f:.0f}' for f in figures)} |", flush=True)


def cpu_seconds(root: int) -> float:
    """The CPU time that a process has taken so far."""
    fields = Path(f"/proc/{root}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at_once(peer: Deltaworks | Spark, folder: Path, broker: Broker, count: int) -> None:
    """Prints a line about how fast a topic that is full gets into `gold`, with the program's start."""
    work = folder / f"{peer.name.lower()}-once"
    work.mkdir()
    write_customers(work)
    command = peer.prepare(work, broker.servers, continuous=False)
    start = time.perf_counter()
    with (work / "log").open("w") as log:
        code = subprocess.run(command, cwd=work, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    wall = time.perf_counter() - start
    if code:
        sys.exit(f"{peer.name} failed:\n{(work / 'log').read_text()}")
    assert rows(peer.gold(work)) == expected(count), "rows were lost or repeated"
    print(f"| {peer.name} | {wall:.2f} | {count / wall:,.0f} |", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--spark", type=Path, help="an environment with PySpark 4.2")
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60, help="at the steady rate; 3600 for a soak")
    parser.add_argument("--records", type=int, default=3_000_000, help="that are there at once; 0 leaves this out")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--interval", default="100 ms", help="of the trigger of our flows")
    arguments = parser.parse_args()
    peers: list[Deltaworks | Spark] = [Deltaworks(arguments.binary, arguments.interval)]
    if arguments.spark:
        peers.append(Spark(arguments.spark.resolve()))
    with tempfile.TemporaryDirectory(prefix="deltaworks-bench-") as name:
        folder = Path(name)
        if arguments.seconds:
            print(f"\n{arguments.rate:,} records/s for {arguments.seconds} s, {os.cpu_count()} cores\n")
            print("| | p50 ms | p99 ms | max ms | Cores | MB at first | MB at last | Commits |")
            print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
            for peer in peers:
                steadily(peer, folder, arguments.rate, arguments.seconds, arguments.partitions)
        if arguments.records:
            print(f"\n{arguments.records:,} records that are there at the start, {os.cpu_count()} cores\n")
            print("| | Wall s | Records/s |\n|---|---:|---:|", flush=True)
            with Broker(folder / "broker") as broker:
                broker.create_topic("orders", arguments.partitions)
                producer_of(broker, arguments.records, 0).wait()
                for peer in peers:
                    at_once(peer, folder, broker, arguments.records)


if __name__ == "__main__":
    main()
