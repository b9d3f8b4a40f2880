"""Tables that other Delta readers open: the rows are the ones this program shows."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import subprocess
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from pyarrow import dataset as ds
from pyarrow import fs
from pyspark.sql.types import VariantVal

SQL = """
CREATE OR REFRESH STREAMING TABLE bronze AS
SELECT * FROM STREAM read_files('in', format => 'json',
  schema => 'id BIGINT, name STRING, amount DECIMAL(10,2), at TIMESTAMP, day DATE, tags ARRAY<STRING>,
             place STRUCT<city: STRING, zip: INT>, labels MAP<STRING, STRING>, ok BOOLEAN, ratio DOUBLE');
CREATE OR REFRESH STREAMING TABLE by_day PARTITIONED BY (day)
AS SELECT id, day, amount FROM STREAM bronze;
CREATE OR REFRESH STREAMING TABLE generated (
  id BIGINT,
  at TIMESTAMP,
  day DATE GENERATED ALWAYS AS (CAST(at AS DATE))
) AS SELECT id, at FROM STREAM bronze;
CREATE OR REFRESH MATERIALIZED VIEW totals CLUSTER BY (day) AS
SELECT day, count(*) AS n, sum(amount) AS amount FROM bronze GROUP BY day;
CREATE OR REFRESH STREAMING TABLE latest TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true');
CREATE FLOW latest_changes AS AUTO CDC INTO latest
FROM STREAM read_files('changes', format => 'json', schema => 'id BIGINT, seq INT, op STRING, name STRING')
KEYS (id) APPLY AS DELETE WHEN op = 'D' SEQUENCE BY seq COLUMNS * EXCEPT (seq, op);
CREATE OR REFRESH STREAMING TABLE variants AS
SELECT id, to_variant_object(struct(name, tags)) AS v FROM STREAM bronze;
CREATE OR REFRESH STREAMING TABLE followed AS
SELECT * FROM STREAM latest WITH (readChangeFeed = true, startingVersion = 0);
"""

FIRST = [
    {
        "id": 1,
        "name": "Zoë",
        "amount": 1.5,
        "at": "2026-01-01T12:00:00Z",
        "day": "2026-01-01",
        "tags": ["x", None],
        "place": {"city": "London", "zip": 7},
        "labels": {"a": "1"},
        "ok": True,
        "ratio": 0.5,
    },
    {"id": 2, "day": "2026-01-02", "amount": 2.25, "at": "2026-01-02T23:59:59.123456Z"},
]
SECOND = [{"id": 3, "day": None, "amount": 4.0, "at": "2026-01-03T00:00:00Z", "name": "a b/c=d"}]


class Pipeline:
    """A pipeline's folder and the program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "in").mkdir()
        (folder / "changes").mkdir()
        (folder / "pipeline.sql").write_text(SQL)

    def arrive(self, name: str, rows: list[dict[str, object]]) -> None:
        """Puts a file of rows where the pipeline reads."""
        self._write(self.folder / "in" / name, rows)

    def change(self, name: str, events: list[dict[str, object]]) -> None:
        """Puts a file of events where the pipeline reads them."""
        self._write(self.folder / "changes" / name, events)

    def _write(self, path: Path, rows: list[dict[str, object]]) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [os.environ["DELTAWORKS_BIN"], *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rows(self, query: str) -> list[list[str]]:
        """The rows of a query as this program shows them, without the header."""
        return list(csv.reader(io.StringIO(self("sql", query, "--format", "csv"))))[1:]

    def table(self, name: str, version: int | None = None) -> DeltaTable:
        """The table as delta-rs' Python package opens it."""
        return DeltaTable(self.folder / ".deltaworks" / "tables" / name, version=version)

    def duckdb(self, name: str, query: str) -> list[tuple[object, ...]]:
        """The rows of a query in DuckDB over the files of the table, read through Arrow."""
        connection = duckdb.connect()
        connection.register("t", dataset(self.table(name)).to_table())
        return connection.sql(query).fetchall()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(tmp_path_factory.mktemp("pipeline"))
    pipeline.arrive("1.json", FIRST)
    pipeline.change("1.json", [{"id": i, "seq": 1, "op": "U", "name": f"n{i}"} for i in range(1, 5)])
    pipeline("run")
    pipeline.arrive("2.json", SECOND)
    pipeline.change("2.json", [{"id": 1, "seq": 3, "op": "D"}, {"id": 2, "seq": 2, "op": "U", "name": "two"}])
    pipeline("run")
    return pipeline


def dataset(table: DeltaTable) -> ds.Dataset:
    """The table as Arrow reads it, through Arrow's file system: delta-rs' own may abort an interpreter that ends."""
    root = fs.SubTreeFileSystem(table.table_uri.removeprefix("file://"), fs.LocalFileSystem())
    return table.to_pyarrow_dataset(filesystem=root)


def arrow(table: DeltaTable) -> pa.Table:
    """All rows by id."""
    return dataset(table).to_table().sort_by("id")


def test_all_types(pipeline: Pipeline) -> None:
    rows = arrow(pipeline.table("bronze")).to_pylist()
    assert [row["id"] for row in rows] == [1, 2, 3]
    first = rows[0]
    assert (first["name"], str(first["amount"]), first["at"].isoformat(), first["day"].isoformat()) == (
        "Zoë",
        "1.50",
        "2026-01-01T12:00:00+00:00",
        "2026-01-01",
    )
    assert (first["tags"], first["place"], first["ok"], first["ratio"]) == (
        ["x", None],
        {"city": "London", "zip": 7},
        True,
        0.5,
    )
    assert dict(first["labels"]) == {"a": "1"}
    assert {name: rows[1][name] for name in ("name", "tags", "place", "labels", "ok", "ratio")} == dict.fromkeys(
        ("name", "tags", "place", "labels", "ok", "ratio")
    )
    assert rows[1]["at"].isoformat() == "2026-01-02T23:59:59.123456+00:00"
    types = {field.name: str(field.type) for field in arrow(pipeline.table("bronze")).schema}
    found = [types[name] for name in ("id", "amount", "day", "ok")]
    assert found == ["int64", "decimal128(10, 2)", "date32[day]", "bool"]


def test_same_rows_as_ours(pipeline: Pipeline) -> None:
    ours = pipeline.rows("SELECT id, amount, name FROM bronze ORDER BY id")
    theirs = [[str(r["id"]), str(r["amount"]), r["name"] or ""] for r in arrow(pipeline.table("bronze")).to_pylist()]
    assert theirs == ours == [["1", "1.50", "Zoë"], ["2", "2.25", ""], ["3", "4.00", "a b/c=d"]]


def test_variants(pipeline: Pipeline) -> None:
    """Their bytes are what PySpark takes for variants."""
    table = pipeline.table("variants")
    assert table.protocol().reader_features == ["variantType"]
    assert '"type":"variant"' in table.schema().to_json()
    rows = {row["id"]: row["v"] for row in arrow(table).to_pylist()}
    values = {key: VariantVal(v["value"], v["metadata"]).toPython() for key, v in rows.items()}
    assert values == {
        1: {"name": "Zoë", "tags": ["x", None]},
        2: {"name": None, "tags": None},
        3: {"name": "a b/c=d", "tags": None},
    }


def test_partitions(pipeline: Pipeline) -> None:
    table = pipeline.table("by_day")
    assert table.metadata().partition_columns == ["day"]
    found = sorted((str(p["day"]) for p in table.partitions()), key=str)
    assert found == ["2026-01-01", "2026-01-02", "None"]
    of_day = pc.field("day") == pa.scalar(datetime.date(2026, 1, 2))
    one = dataset(table).to_table(filter=of_day)
    assert [(row["id"], str(row["amount"])) for row in one.to_pylist()] == [(2, "2.25")]
    query = "SELECT day::VARCHAR, sum(amount)::VARCHAR FROM t GROUP BY day ORDER BY 1 NULLS LAST"
    sums = pipeline.duckdb("by_day", query)
    assert sums == [("2026-01-01", "1.50"), ("2026-01-02", "2.25"), (None, "4.00")]


def test_generated_columns(pipeline: Pipeline) -> None:
    rows = arrow(pipeline.table("generated")).to_pylist()
    assert [(row["id"], row["day"].isoformat()) for row in rows] == [
        (1, "2026-01-01"),
        (2, "2026-01-02"),
        (3, "2026-01-03"),
    ]


def test_time_travel(pipeline: Pipeline) -> None:
    table = pipeline.table("totals")
    versions = sorted(entry["version"] for entry in table.history())
    by_version = {
        version: sum(row["n"] for row in dataset(pipeline.table("totals", version)).to_table().to_pylist())
        for version in versions
    }
    assert by_version[versions[-1]] == 3
    assert 2 in by_version.values()
    for version, rows in by_version.items():
        ours = pipeline.rows(f"SELECT coalesce(sum(n), 0) AS n FROM totals VERSION AS OF {version}")
        assert ours == [[str(rows)]], version


def test_materialized_view_in_duckdb(pipeline: Pipeline) -> None:
    rows = pipeline.duckdb("totals", "SELECT day::VARCHAR, n, amount::DOUBLE FROM t ORDER BY 1 NULLS LAST")
    assert rows == [("2026-01-01", 1, 1.5), ("2026-01-02", 1, 2.25), (None, 1, 4.0)]


def test_event_log_is_a_table(pipeline: Pipeline) -> None:
    events = dataset(DeltaTable(pipeline.folder / ".deltaworks" / "system" / "events")).to_table()
    states = [
        json.loads(event["details"])["update_progress"]["state"]
        for event in events.sort_by("timestamp").to_pylist()
        if event["event_type"] == "update_progress"
    ]
    assert states.count("COMPLETED") == 2
    assert states[-1] == "COMPLETED"


def test_changed_tables_show_live_rows_only(pipeline: Pipeline) -> None:
    expected = [(2, "two"), (3, "n3"), (4, "n4")]
    assert pipeline.duckdb("latest", "SELECT * FROM t ORDER BY id") == expected
    assert [tuple(row.values()) for row in arrow(pipeline.table("latest")).to_pylist()] == expected


def test_change_feed(pipeline: Pipeline) -> None:
    """What delta-rs reads as the feed of a table is what our streams read."""
    feed = pa.table(pipeline.table("latest").load_cdf(starting_version=0).read_all())
    columns = ["id", "name", "_change_type", "_commit_version"]
    theirs = sorted(tuple(str(row[column]) for column in columns) for row in feed.select(columns).to_pylist())
    query = "SELECT id, name, _change_type, _commit_version FROM followed"
    assert sorted(tuple(row) for row in pipeline.rows(query)) == theirs
    changes = [(key, name, change) for key, name, change, _ in theirs]
    assert changes == [
        ("1", "n1", "delete"),
        ("1", "n1", "insert"),
        ("2", "n2", "insert"),
        ("2", "n2", "update_preimage"),
        ("2", "two", "update_postimage"),
        ("3", "n3", "insert"),
        ("4", "n4", "insert"),
    ]
