"""Runs PySpark's own doctests against `deltaworks connect`. See README.md."""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import scoreboard
import worker
from exclusions import Exclusions
from server import Server
from supervisor import Outcome, run_module

MODULES = [
    "functions.builtin",
    "functions.partitioning",
    "catalog",
    "column",
    "conf",
    "dataframe",
    "group",
    "observation",
    "pandas.functions",
    "pandas.group_ops",
    "pandas.map_ops",
    "readwriter",
    "session",
    "tvf",
    "types",
    "udf",
    "udtf",
    "window",
]
PARALLEL = 2


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=os.environ.get("DELTAWORKS_BIN"), help="deltaworks to test")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a module, or one doctest")
    parser.add_argument("--update", action="store_true", help="write the scoreboard")
    parser.add_argument("--details", action="store_true", help="show what each failing doctest got")
    parsed = parser.parse_args()
    if parsed.binary is None or not Path(parsed.binary).is_file():
        parser.error("give --binary or DELTAWORKS_BIN")
    if parsed.update and parsed.only:
        parser.error("--update needs the whole run")
    return parsed


def selected(names: list[str], only: list[str]) -> list[str]:
    """The names asked for."""
    return [name for name in names if not only or any(name == o or name.startswith(f"{o}.") for o in only)]


def run(binary: Path, only: list[str]) -> tuple[list[Outcome], bool]:
    """All outcomes, and whether the server ended in order."""
    exclusions = Exclusions.read()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PARALLEL) as pool:
        server = Server(binary.resolve(), Path(folder))
        runs = []
        for module in MODULES:
            names = selected(worker.names(module), only)
            reasons = {name: exclusions.reason(name) for name in names}
            outcomes += [Outcome(name, "excluded", reason) for name, reason in reasons.items() if reason]
            if counted := [name for name in names if not reasons[name]]:
                runs.append(pool.submit(run_module, module, counted, server))
        for outcome in runs:
            outcomes += outcome.result()
        orderly = server.stop()
    return outcomes, orderly


def report(outcomes: list[Outcome], details: bool) -> None:
    """Prints why doctests fail, the most frequent cause last, and the counts."""
    causes: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.status == "failed":
            causes[outcome.cause].append(outcome)
    for cause, failed in sorted(causes.items(), key=lambda item: len(item[1])):
        print(f"{len(failed):>4}  {cause}")
        print(f"      {', '.join(outcome.name for outcome in failed)}")
        for outcome in failed if details else []:
            print(f"--- {outcome.name}\n{outcome.detail}\n")
    print("\n" + scoreboard.table(outcomes, MODULES))


def main() -> int:
    """Runs, reports, and compares."""
    options = arguments()
    started = time.monotonic()
    outcomes, orderly = run(options.binary, options.only)
    report(outcomes, options.details)
    broken = scoreboard.broken(outcomes)
    mended = scoreboard.mended(outcomes)
    print(f"{time.monotonic() - started:.0f} seconds, {len(mended)} newly passed, {len(broken)} broken")
    for outcome in broken:
        print(f"BROKEN {outcome.name}: {outcome.cause}\n{outcome.detail}")
    if options.update:
        scoreboard.write(outcomes, MODULES)
    elif mended:
        print("Record what passes now: run.py --update")
    if not orderly:
        print("the server did not end in order")
    return int(bool(broken) or not orderly)


if __name__ == "__main__":
    sys.exit(main())
