"""Times AUTO CDC: change events into SCD type 1 and 2, as one batch and as several; hand-written MERGEs as peers.

A peer does with delta-rs' Python package what such a job does by hand: read the new events, keep the latest of each
key, and MERGE them. It knows no late events, keeps no history, and does not remember what it has read. Another does so
with Apache Spark and Delta's own jars, in one process for all batches.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.measuring import DELTA_PACKAGE, Measured, measure, print_table, spark_submit

HERE = Path(__file__).resolve().parent
PIPELINE = """
CREATE TEMPORARY VIEW events AS
SELECT * FROM STREAM read_files(
  'in', format => 'parquet', schema => 'id BIGINT, seq BIGINT, op STRING, name STRING, amount DOUBLE'
);
CREATE OR REFRESH STREAMING TABLE target;
CREATE FLOW changes AS AUTO CDC INTO target FROM STREAM(events) KEYS (id)
APPLY AS DELETE WHEN op = 'DELETE' SEQUENCE BY seq COLUMNS * EXCEPT (op) STORED AS SCD TYPE {scd};
"""


def generate(folder: Path, events: int, keys: int, batches: int, seed: int) -> None:
    """Writes one folder of Parquet files per batch; one event in twenty deletes, one in a hundred comes late."""
    rng = np.random.default_rng(seed)
    sequence = np.arange(events)
    late = rng.random(events) < 0.01
    sequence[late] -= rng.integers(0, max(events // 100, 1), int(late.sum()))
    ids = rng.integers(0, keys, events)
    deletes = rng.random(events) < 0.05
    amounts = rng.integers(100, 50_000, events) / 100
    for batch, rows in enumerate(np.array_split(np.arange(events), batches)):
        table = pa.table(
            {
                "id": ids[rows],
                "seq": sequence[rows],
                "op": np.where(deletes[rows], "DELETE", "UPSERT"),
                "name": [
                    f"customer {i} at {s}" for i, s in zip(ids[rows].tolist(), sequence[rows].tolist(), strict=True)
                ],
                "amount": amounts[rows],
            }
        )
        part = folder / f"{batch:04}"
        part.mkdir(parents=True)
        pq.write_table(table, part / f"events-{batch:04}.parquet")


def in_batches(what: str, command: list[str], work: Path, data: Path) -> Measured:
    """Runs the command once for each batch; times add up, memory is the highest."""
    (work / "in").mkdir()
    runs = []
    for part in sorted(data.iterdir()):
        for file in part.iterdir():
            os.link(file, work / "in" / file.name)
        runs.append(measure(what, command, work))
    return Measured(what, sum(r.wall for r in runs), sum(r.cpu for r in runs), max(r.peak_mb for r in runs))


def at_once(what: str, command: list[str], work: Path, data: Path) -> Measured:
    """Runs the command once, with the files of all batches there."""
    (work / "in").mkdir(parents=True)
    for file in sorted(data.glob("*/*")):
        os.link(file, work / "in" / file.name)
    return measure(what, command, work)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spark", type=Path, help="an environment with PySpark 4.2")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltaworks-bench-") as folder:
        for batches in arguments.batches:
            root = Path(folder) / str(batches)
            data = root / "data"
            generate(data, arguments.events, arguments.keys, batches, arguments.seed)
            peer = root / "merge"
            peer.mkdir()
            measured = [
                in_batches("delta-rs, MERGE by hand", [sys.executable, str(HERE / "merge_peer.py")], peer, data)
            ]
            for scd in (1, 2):
                work = root / f"scd{scd}"
                work.mkdir()
                (work / "pipeline.sql").write_text(PIPELINE.format(scd=scd))
                command = [str(arguments.binary.resolve()), "run", "--quiet"]
                measured.append(in_batches(f"Deltaworks, SCD type {scd}", command, work, data))
            if arguments.spark:
                command = [*spark_submit(arguments.spark.resolve(), DELTA_PACKAGE), str(HERE / "spark/merge.py")]
                measured.append(at_once("Spark, MERGE by hand, one process", command, root / "spark", data))
            print(
                f"\n{arguments.events:,} events, {arguments.keys:,} keys, {batches} batches, {os.cpu_count()} cores\n"
            )
            print_table(measured, measured[0].wall, "MERGE")
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
