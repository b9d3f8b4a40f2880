"""Asks `deltaworks connect` what Spark was asked, and compares the answers. See README.md of the folder above."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from answers import answer  # noqa: E402
from record import configure, read  # noqa: E402
from server import Server  # noqa: E402

if TYPE_CHECKING:
    from cases import Case

DIFFERENCES = HERE / "differences.txt"
# What Spark's classic client says of values that Python has no place for: what Spark answered is not known.
NOT_SHOWN = {"NOT_IMPLEMENTED", "client: ValueError"}


def key(case: Case) -> str:
    """A case as one line."""
    return f"{case.family} {'ansi' if case.ansi else 'lenient'} {case.sql}"


def same(ours: dict[str, Any], golden: dict[str, Any]) -> bool:
    """Whether both are the same answer; floating-point numbers may differ in the last digits."""
    if "error" in ours or "error" in golden:
        return ours.get("error") == golden.get("error")
    return (ours["name"], ours["type"]) == (golden["name"], golden["type"]) and close(ours["rows"], golden["rows"])


def close(ours: Any, golden: Any) -> bool:
    """Whether two values are equal, but for rounding."""
    if isinstance(ours, list) and isinstance(golden, list):
        return len(ours) == len(golden) and all(map(close, ours, golden))
    if isinstance(ours, dict) and isinstance(golden, dict):
        return ours.keys() == golden.keys() and all(close(ours[name], golden[name]) for name in ours)
    if isinstance(ours, str) and isinstance(golden, str) and ours != golden and ours[-1:] == golden[-1:] == "f":
        try:
            a, b = float(ours[:-1]), float(golden[:-1])
        except ValueError:
            return False
        return abs(a - b) <= 1e-14 * max(abs(a), abs(b))
    return type(ours) is type(golden) and bool(ours == golden)


def ask(binary: Path, golden: dict[Case, dict[str, Any]]) -> dict[Case, dict[str, Any]]:
    """Our answers."""
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    from pyspark.sql import SparkSession

    ours = {}
    with tempfile.TemporaryDirectory(prefix="deltaworks-differential-") as folder:
        server = Server(binary, Path(folder))
        try:
            for ansi in (False, True):
                spark = SparkSession.builder.remote(server.ensure()[0]).create()
                configure(spark, ansi)
                for case in golden:
                    if case.ansi == ansi:
                        ours[case] = answer(spark, case.sql, unordered=case.unordered)
                spark.stop()
        finally:
            server.stop()
    return ours


def main() -> int:
    """Prints how many answers agree; the exit code is 1 if one differs that is not known to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=os.environ.get("DELTAWORKS_BIN"), help="deltaworks to test")
    parser.add_argument("--only", default="", metavar="TEXT", help="queries that contain it")
    parser.add_argument("--known", action="store_true", help="only queries whose answers are known to differ")
    parser.add_argument("--update", action="store_true", help="write the list of known differences")
    parser.add_argument("--details", action="store_true", help="show both answers where they differ")
    arguments = parser.parse_args()
    if arguments.binary is None or not Path(arguments.binary).is_file():
        parser.error("give --binary or DELTAWORKS_BIN")
    known = set(DIFFERENCES.read_text().splitlines()) if DIFFERENCES.exists() else set()
    wanted = known if arguments.known else None
    golden = {
        case: item
        for case, item in read().items()
        if arguments.only in key(case) and (wanted is None or key(case) in wanted)
    }
    ours = ask(Path(arguments.binary).resolve(), golden)
    compared = [case for case in golden if golden[case].get("error") not in NOT_SHOWN]
    differing = {key(case): case for case in compared if not same(ours[case], golden[case])}
    if arguments.details:
        for name, case in differing.items():
            print(f"{name}\n  Spark {json.dumps(golden[case], ensure_ascii=False)}")
            print(f"  ours  {json.dumps(ours[case], ensure_ascii=False)}")
    asked = {key(case) for case in golden}
    broken, mended = sorted(differing.keys() - known), sorted((known & asked) - differing.keys())
    if arguments.update:
        DIFFERENCES.write_text("".join(f"{name}\n" for name in sorted((known - asked) | differing.keys())))
        broken = []
    by_family = Counter(case.family for case in differing.values())
    for family, count in sorted(Counter(case.family for case in compared).items()):
        print(f"{family:<14}{count - by_family[family]:>6} of {count}")
    hidden = f"{len(golden) - len(compared)} that Spark's client could not show"
    print(f"{len(compared) - len(differing)} of {len(compared)} answers are Spark's; {len(broken)} broken; {hidden}")
    for name in broken:
        case = differing[name]
        print(f"broken: {name}\n  Spark {json.dumps(golden[case], ensure_ascii=False)[:600]}")
        print(f"  ours  {json.dumps(ours[case], ensure_ascii=False)[:600]}")
    for name in mended:
        print(f"mended: {name[:200]}")
    if mended and not arguments.update:
        print("run with --update to keep what is mended")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
