"""Asks Apache Spark, and keeps its answers in `golden/`. Run by `make golden`, with a Python that has Spark's jars.

With names of families, as `record.py xml vector`, only those are asked again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ZONE = "America/Los_Angeles"
# Python shows timestamps in the zone of its own clock.
os.environ["TZ"] = "UTC"
time.tzset()

from answers import answer  # noqa: E402
from cases import Case, cases  # noqa: E402

GOLDEN = Path(__file__).resolve().parent / "golden"


def configure(spark: Any, ansi: bool) -> None:
    """The settings that the answers depend on."""
    spark.conf.set("spark.sql.ansi.enabled", str(ansi).lower())
    spark.conf.set("spark.sql.session.timeZone", ZONE)


def read() -> dict[Case, dict[str, Any]]:
    """Spark's answers."""
    golden = {}
    for file in sorted(GOLDEN.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            item = json.loads(line)
            golden[Case(file.stem, item.pop("ansi"), item.pop("sql"))] = item
    return golden


def main() -> None:
    """Asks for every case, or for those of the families that are named."""
    from pyspark.sql import SparkSession

    wanted = set(sys.argv[1:])

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.shuffle.partitions", "1").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    GOLDEN.mkdir(exist_ok=True)
    lines: dict[str, list[str]] = {}
    for ansi in (False, True):
        # What statements of the other mode have made temporarily is not there.
        session = spark.newSession()
        configure(session, ansi)
        for case in cases():
            if case.ansi == ansi and (not wanted or case.family in wanted):
                item = {"sql": case.sql, "ansi": ansi, **answer(session, case.sql, unordered=case.unordered)}
                lines.setdefault(case.family, []).append(json.dumps(item, ensure_ascii=False))
    for old in GOLDEN.glob("*.jsonl"):
        if not wanted or old.stem in wanted:
            old.unlink()
    for family, of_family in lines.items():
        (GOLDEN / f"{family}.jsonl").write_text("\n".join(of_family) + "\n")
    print(f"Spark {spark.version}: {sum(map(len, lines.values()))} answers")


if __name__ == "__main__":
    main()
