"""The queries that Spark and we answer: every template of `templates.txt` over edge values.

A template is an expression in which ``{s}`` is a string, ``{i2}`` a second number, and so on (`values.POOLS`). It
becomes one query over rows of values, in non-ANSI mode, where no value fails; and a few with literals, in ANSI mode.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from combinations import queries
from values import POOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
# The family whose rows come in any order.
UNORDERED = "combinations"
MAX_ROWS = 40
MAX_LITERALS = 6
# What begins a statement; all else is an expression.
STATEMENTS = ("SELECT ", "WITH ", "FROM ", "VALUES ", "CREATE ", "DROP ", "SHOW ", "DESCRIBE ", "USE ")
PLACEHOLDER = re.compile(r"\{([A-Za-z])(\d?)\}")


@dataclass(frozen=True)
class Case:
    """One query."""

    family: str
    ansi: bool
    sql: str

    @property
    def unordered(self) -> bool:
        """Whether the rows come in any order."""
        return self.family == UNORDERED


def cases() -> Iterator[Case]:
    """All queries, by family."""
    family = ""
    for line in (HERE / "templates.txt").read_text().splitlines():
        line = line.strip()
        if line.startswith("# "):
            family = line[2:]
        elif line:
            yield from of_template(family, line)
    for number, sql in enumerate(queries()):
        yield Case(UNORDERED, number % 2 == 1, sql)


def of_template(family: str, template: str) -> Iterator[Case]:
    """The queries of one expression; a whole statement stands for itself, in both modes, and acts on those after it."""
    if template.startswith(STATEMENTS):
        for ansi in (False, True):
            yield Case(family, ansi, template)
        return
    names = list(dict.fromkeys(PLACEHOLDER.findall(template)))
    if not names:
        for ansi in (False, True):
            yield Case(family, ansi, f"SELECT {template}")
        return
    combinations = list(itertools.product(*(POOLS[kind][1] for kind, _ in names)))
    expression = PLACEHOLDER.sub(lambda found: found[1] + (found[2] or "1"), template)
    columns = ", ".join(kind + (number or "1") for kind, number in names)
    rows = ", ".join(
        "(" + ", ".join([str(i), *(cast(kind, value) for (kind, _), value in zip(names, row, strict=True))]) + ")"
        for i, row in enumerate(spread(combinations, MAX_ROWS))
    )
    yield Case(family, False, f"SELECT {expression} FROM VALUES {rows} AS t(row, {columns}) ORDER BY row")
    for row in spread(combinations[::-1], MAX_LITERALS):
        values = dict(zip(names, row, strict=True))
        literal = PLACEHOLDER.sub(lambda found: cast(found[1], values[found[1], found[2]]), template)  # noqa: B023
        yield Case(family, True, f"SELECT {literal} AS value")


def cast(kind: str, value: str) -> str:
    """A value that has its type even if it is NULL."""
    return f"CAST({value} AS {POOLS[kind][0]})"


def spread(items: list[tuple[str, ...]], most: int) -> list[tuple[str, ...]]:
    """At most so many of them, evenly."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]
