"""The scoreboard: how every doctest went when somebody last looked."""

from collections import Counter
from pathlib import Path

from supervisor import Outcome

FILE = Path(__file__).with_name("scoreboard.txt")
HEAD = "# Written by `run.py --update`: PySpark's doctests against `deltaworks connect`.\n"


def module_of(name: str, modules: list[str]) -> str:
    """The module that a doctest is in: the longest that its name starts with."""
    return max((module for module in modules if name == module or name.startswith(f"{module}.")), key=len, default="")


def table(outcomes: list[Outcome], modules: list[str]) -> str:
    """Counts per module, as text."""
    lines = [f"{'module':<28}{'passed':>8}{'failed':>8}{'excluded':>10}{'share':>8}"]
    counts = {module: Counter() for module in modules}
    for outcome in outcomes:
        counts[module_of(outcome.name, modules)][outcome.status] += 1
    total = sum(counts.values(), Counter())
    for label, count in [*counts.items(), ("all", total)]:
        counted = count["passed"] + count["failed"]
        share = f"{count['passed'] / counted:.1%}" if counted else "-"
        if counted or count["excluded"]:
            lines.append(f"{label:<28}{count['passed']:>8}{count['failed']:>8}{count['excluded']:>10}{share:>8}")
    return "\n".join(lines) + "\n"


def read() -> dict[str, str]:
    """The status of every doctest in the file."""
    if not FILE.exists():
        return {}
    lines = [line.split(maxsplit=2) for line in FILE.read_text().splitlines()]
    return {line[1]: line[0] for line in lines if len(line) > 1 and line[0] in ("passed", "failed", "excluded")}


def write(outcomes: list[Outcome], modules: list[str]) -> None:
    """Replaces the file."""
    counts = "".join(f"# {line}\n" for line in table(outcomes, modules).splitlines())
    lines = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome.name):
        reason = f"  {outcome.cause}" if outcome.status == "excluded" else ""
        lines.append(f"{outcome.status:<8} {outcome.name}{reason}\n")
    FILE.write_text(HEAD + counts + "".join(lines))


def broken(outcomes: list[Outcome]) -> list[Outcome]:
    """The doctests that passed before and do not now."""
    before = read()
    return [outcome for outcome in outcomes if before.get(outcome.name) == "passed" and outcome.status != "passed"]


def mended(outcomes: list[Outcome]) -> list[Outcome]:
    """The doctests that pass now and did not before."""
    before = read()
    return [outcome for outcome in outcomes if before.get(outcome.name) != "passed" and outcome.status == "passed"]
