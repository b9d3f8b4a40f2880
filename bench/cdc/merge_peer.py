"""One batch of change events into a Delta table, with delta-rs' Python package and DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb
from deltalake import DeltaTable, write_deltalake

SEEN = Path("seen")
LATEST = """
    SELECT * FROM read_parquet(?) QUALIFY row_number() OVER (PARTITION BY id ORDER BY seq DESC) = 1
"""


def main() -> None:
    """Merges the files that have come since the last run."""
    seen = set(SEEN.read_text().splitlines()) if SEEN.exists() else set()
    new = sorted(str(file) for file in Path("in").iterdir() if str(file) not in seen)
    latest = duckdb.execute(LATEST, [new]).to_arrow_table()
    if not DeltaTable.is_deltatable("target"):
        live = duckdb.sql("SELECT id, seq, name, amount FROM latest WHERE op <> 'DELETE'").to_arrow_table()
        write_deltalake("target", live)
    else:
        values = {column: f"s.{column}" for column in ("id", "seq", "name", "amount")}
        merge = DeltaTable("target").merge(latest, "t.id = s.id", source_alias="s", target_alias="t")
        (
            merge.when_matched_delete("s.op = 'DELETE' AND s.seq > t.seq")
            .when_matched_update(values, "s.op <> 'DELETE' AND s.seq >= t.seq")
            .when_not_matched_insert(values, "s.op <> 'DELETE'")
            .execute()
        )
    SEEN.write_text("\n".join(sorted(seen | set(new))))


if __name__ == "__main__":
    main()
