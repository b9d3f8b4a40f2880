"""Reads every version that a pipeline has committed, as any reader of Delta tables may, and says what is wrong with it.

A version of a table must be what the query makes of its input, as of the version (or the offsets) that the batch's
progress file names: no row less, or a batch would be half there, and no row more, or one would have no origin.

Each line of the standard input is a folder of a pipeline; the answer is a line of JSON.
"""

import json
import re
import sys
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

from deltalake import DeltaTable

TABLES = ["bronze", "silver", "minutes", "history", "gold"]
WINDOW_S = 20

#: The versions of each table that have been looked at, by folder.
seen: dict[tuple[str, str], tuple[int, int | None]] = {}


@lru_cache(maxsize=64)
def rows(storage: str, table: str, version: int) -> list[dict]:
    return DeltaTable(f"{storage}/tables/{table}", version=version).to_pyarrow_table().to_pylist()


def rows_before(storage: str, table: str, progress: dict) -> list[dict]:
    """What a stream had read of a table."""
    offset = progress["sources"][0]["offset"]
    assert offset["index"] == 0 and not offset["initial"], f"a batch ends within a commit: {offset}"
    return rows(storage, table, offset["version"] - 1)


def seconds(row: dict, column: str) -> int:
    return int(row[column].timestamp())


def bronze(storage: str, progress: dict) -> Counter:
    (ends,) = progress["sources"][0]["offset"].values()
    return Counter((int(partition), offset) for partition, end in ends.items() for offset in range(end))


def silver(storage: str, progress: dict) -> Counter:
    # Late events are of years before all others.
    events = [row for row in rows_before(storage, "bronze", progress) if row["id"] >= 0]
    return Counter(set(map(event, events)))


def event(row: dict) -> tuple:
    return row["id"], row["account"], row["op"], row["amount"], seconds(row, "at")


def minutes(storage: str, progress: dict) -> Counter:
    watermark = progress["watermark"]["current_us"]
    groups: dict[int, list[int]] = defaultdict(list)
    for row in rows_before(storage, "silver", progress):
        groups[seconds(row, "at") // WINDOW_S * WINDOW_S].append(row["amount"])
    final = {start: amounts for start, amounts in groups.items() if (start + WINDOW_S) * 10**6 <= (watermark or 0)}
    return Counter((start, len(amounts), sum(amounts)) for start, amounts in final.items())


def history(storage: str, progress: dict) -> Counter:
    events: dict[int, list[dict]] = defaultdict(list)
    for row in rows_before(storage, "silver", progress):
        events[row["account"]].append(row)
    versions: Counter = Counter()
    for account, changes in events.items():
        changes.sort(key=lambda row: row["id"])
        ends = [row["id"] for row in changes[1:]] + [None]
        kept = [(row, end) for row, end in zip(changes, ends, strict=True) if row["op"] != "d"]
        versions.update((account, row["id"], row["amount"], row["id"], end) for row, end in kept)
    return versions


def gold(storage: str, progress: dict) -> Counter:
    (computed_from,) = progress["computed_from"]["inputs"].values()
    groups: dict[int, list[dict]] = defaultdict(list)
    for row in rows(storage, "history", computed_from["version"]):
        groups[row["account"]].append(row)
    return Counter(
        (account, len(group), sum(row["__END_AT"] is None for row in group), sum(row["amount"] for row in group))
        for account, group in groups.items()
    )


EXPECTED = {"bronze": bronze, "silver": silver, "minutes": minutes, "history": history, "gold": gold}
SHAPES = {
    "bronze": lambda row: (row["partition"], row["offset"]),
    "silver": event,
    "minutes": lambda row: (seconds(row, "start"), row["n"], row["amount"]),
    "history": lambda row: (row["account"], row["id"], row["amount"], row["__START_AT"], row["__END_AT"]),
    "gold": lambda row: (row["account"], row["versions"], row["current"], row["amount"]),
}


def look_at(folder: str, table: str) -> tuple[int, list[str]]:
    storage = f"{folder}/.deltaworks"
    log = Path(storage, "tables", table, "_delta_log")
    version, batch = seen.get((folder, table), (-1, None))
    problems: list[str] = []
    count = 0
    while (commit := log / f"{version + 1:020}.json").exists():
        version += 1
        count += 1
        for line in commit.read_text().splitlines():
            transaction = json.loads(line).get("txn")
            if transaction and re.search(rf"[/.]{table}(_changes)?/0$", transaction["appId"]):
                batch = transaction["version"]
        found = Counter(SHAPES[table](row) for row in rows(storage, table, version))
        expected: Counter = Counter()
        if batch is not None:
            flow = "history_changes" if table == "history" else table
            progress = Path(storage, "checkpoints", table, flow, "0", f"{batch}.json")
            expected = EXPECTED[table](storage, json.loads(progress.read_text()))
        if found != expected:
            more, less = list((found - expected).elements())[:5], list((expected - found).elements())[:5]
            problems.append(f"{table} version {version}, batch {batch}: too much {more}, missing {less}")
    seen[folder, table] = version, batch
    return count, problems


def main() -> None:
    for line in sys.stdin:
        looked = [look_at(line.strip(), table) for table in TABLES]
        problems = [problem for _, of_table in looked for problem in of_table]
        answer = {"versions": [count for count, _ in looked], "problems": problems}
        print(json.dumps(answer), flush=True)


main()
