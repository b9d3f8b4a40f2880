"""Times the queries of TPC-H over the same Parquet files: through our Spark front end, bare DataFusion, and DuckDB.

Each engine has one session in which every query runs several times; the best time counts. Ours is asked as users ask
it, by the stock Spark Connect client, so its times include the way to another process and back. The answers of all
three have to be the same.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

HERE = Path(__file__).resolve().parent
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
Query = Callable[[str], pa.Table]


def generate(folder: Path, scale: float) -> None:
    """Writes a Parquet file per table."""
    if not (folder / "lineitem.parquet").exists():
        command = ["tpchgen-cli", "parquet", "-s", f"{scale:g}", f"--output-dir={folder}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def duckdb(data: Path) -> Query:
    """An in-process DuckDB."""
    import duckdb

    connection = duckdb.connect()
    for table in TABLES:
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM '{data / table}.parquet'")

    def query(text: str) -> pa.Table:
        return connection.execute(text).to_arrow_table()

    return query


def datafusion(data: Path) -> Query:
    """An in-process DataFusion."""
    from datafusion import SessionContext

    context = SessionContext()
    for table in TABLES:
        context.register_parquet(table, str(data / f"{table}.parquet"))

    def query(text: str) -> pa.Table:
        return context.sql(text).to_arrow_table()

    return query


def deltaworks(data: Path, address: str) -> Query:
    """A session of `deltaworks connect`."""
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.remote(address).create()
    # As the other two divide and cast.
    spark.conf.set("spark.sql.ansi.enabled", "true")
    for table in TABLES:
        spark.read.parquet(str(data / f"{table}.parquet")).createOrReplaceTempView(table)

    def query(text: str) -> pa.Table:
        return spark.sql(text).toArrow()

    return query


def cell(value: Any) -> Any:
    """A value as it is compared."""
    return float(value) if isinstance(value, (float, int, Decimal)) else value


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows of an answer, sorted by what is not a quotient first."""
    columns = [[cell(value) for value in column.to_pylist()] for column in table.columns]
    by_text = [[f"{value:.3g}" if isinstance(value, float) else repr(value) for value in column] for column in columns]
    keyed = sorted(zip(zip(*by_text, strict=True), zip(*columns, strict=True), strict=True))
    return [row for _, row in keyed]


def equal(one: pa.Table, other: pa.Table) -> bool:
    """Whether two answers are the same: engines differ in the last digits of quotients and averages."""
    one_rows, other_rows = rows(one), rows(other)
    return len(one_rows) == len(other_rows) and all(
        math.isclose(a, b, rel_tol=1e-4) if isinstance(a, float) and isinstance(b, float) else a == b
        for left, right in zip(one_rows, other_rows, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def best(query: Query, text: str, runs: int) -> tuple[float, pa.Table]:
    """The shortest of several runs, in seconds, and the answer."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        answer = query(text)
        times.append(time.perf_counter() - start)
    return min(times), answer


def compare(engines: dict[str, Query], runs: int, only: list[int]) -> int:
    """Prints a line per query and the total; gives how many answers differ."""
    ours, bare, duck = engines
    print(f"| Query | {ours} ms | {bare} ms | {duck} ms | / {bare} | / {duck} |\n|---|---:|---:|---:|---:|---:|")
    totals, wrong = dict.fromkeys(engines, 0.0), 0

    def line(name: str, times: dict[str, float]) -> None:
        cells = " | ".join(f"{times[engine] * 1000:.0f}" for engine in engines)
        print(f"| {name} | {cells} | {times[ours] / times[bare]:.2f} | {times[ours] / times[duck]:.2f} |", flush=True)

    for number in only:
        text = (HERE / "tpch" / f"q{number:02}.sql").read_text()
        measured = {name: best(query, text, runs) for name, query in engines.items()}
        line(str(number), {name: taken for name, (taken, _) in measured.items()})
        first, *others = [answer for _, answer in measured.values()]
        if not all(equal(first, other) for other in others):
            wrong += 1
            print(f"query {number}: the answers differ", file=sys.stderr)
        for name, (taken, _) in measured.items():
            totals[name] += taken
    line("all", totals)
    return wrong


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--data", type=Path, help="where the tables are kept for the next time")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--queries", type=int, nargs="+", default=list(range(1, 23)))
    arguments = parser.parse_args()
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    with tempfile.TemporaryDirectory(prefix="deltaworks-bench-") as folder:
        data = arguments.data or Path(folder) / "data"
        data.mkdir(parents=True, exist_ok=True)
        generate(data, arguments.scale)
        command = [arguments.binary.resolve(), "connect", "--port", "0"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = next(line.split()[-1] for line in server.stdout if "sc://" in line)
            engines = {
                "Deltaworks": deltaworks(data, address),
                "DataFusion": datafusion(data),
                "DuckDB": duckdb(data),
            }
            print(f"TPC-H, scale {arguments.scale:g}, {os.cpu_count()} cores, the best of {arguments.runs} runs\n")
            sys.exit(1 if compare(engines, arguments.runs, arguments.queries) else 0)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
