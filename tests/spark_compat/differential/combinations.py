"""Queries put together by chance, from the same seed the same ones: what is right alone may be wrong together.

Aggregates (with DISTINCT, FILTER, ROLLUP, HAVING, windows over groups), and joins (of every kind, with subqueries,
windows, set operations). Their rows come as one structure each, in any order.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

AGGREGATIONS, JOINS = 150, 200
NUMBERS = ["i", "d", "f", "i + 1", "d * 2", "coalesce(i, 0)", "abs(d)", "length(s)", "year(dt)", "if(b, i, -1)"]
VALUES = ["k", "i", "s", "d", "f", "dt", "b", "upper(s)", "i % 2", "coalesce(s, k)", "date_add(dt, 1)"]
CONDITIONS = [
    "i > 1",
    "s = 'x'",
    "b",
    "d IS NOT NULL",
    "f < 1",
    "k IN ('a', 'b')",
    "dt >= '2024-01-01'",
    "NOT b",
    "i <=> 2",
    "s LIKE '%x%'",
    "i BETWEEN 0 AND 3",
]
KEYS = ["k", "s", "i", "b", "year(dt)", "i % 2", "coalesce(k, 'none')"]
JOIN_KINDS = [
    "JOIN",
    "LEFT JOIN",
    "RIGHT JOIN",
    "FULL JOIN",
    "LEFT SEMI JOIN",
    "LEFT ANTI JOIN",
    "CROSS JOIN",
    "JOIN LATERAL",
]
SETS = ["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"]


def queries() -> Iterator[str]:
    """All of them."""
    chance = random.Random(4)
    aggregations, joins = Aggregations(chance), Joins(chance)
    for query in [aggregations.query() for _ in range(AGGREGATIONS)] + [joins.query() for _ in range(JOINS)]:
        yield f"SELECT struct(*) AS row FROM ({query})"


def values(chance: random.Random, pools: list[list[str]], rows: int) -> str:
    """Rows for VALUES."""
    return ", ".join(f"({', '.join(chance.choice(pool) for pool in pools)})" for _ in range(rows))


class Aggregations:
    """Aggregations of one table."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        pools = [
            ["'a'", "'b'", "'c'", "NULL"],
            ["0", "1", "2", "3", "5", "-2", "NULL"],
            ["'x'", "'y'", "''", "'Z'", "NULL"],
            ["1.5", "2.25", "-0.75", "10", "NULL"],
            ["0.5", "1", "-2", "NULL"],
            ["'2024-01-01'", "'2024-02-29'", "'2023-12-31'", "NULL"],
            ["true", "false", "NULL"],
        ]
        casts = "k, CAST(i AS INT) i, s, CAST(d AS DECIMAL(6, 2)) d, CAST(f AS DOUBLE) f"
        casts += ", CAST(dt AS DATE) dt, CAST(b AS BOOLEAN) b"
        self.table = f"(SELECT {casts} FROM VALUES {values(chance, pools, 14)} AS v(k, i, s, d, f, dt, b)) t"

    def aggregate(self) -> str:
        """A call."""
        pick, distinct = self.chance.choice, self.chance.choice(["", "", "DISTINCT "])
        kind = self.chance.random()
        if kind < 0.45:
            call = f"{pick(['sum', 'avg', 'min', 'max', 'count'])}({distinct}{pick(NUMBERS)})"
        elif kind < 0.6:
            call = f"{pick(['min', 'max', 'count'])}({distinct}{pick(VALUES)})"
        elif kind < 0.7:
            call = "count(*)"
        elif kind < 0.8:
            collected = f"{pick(['collect_list', 'collect_set', 'array_agg'])}({distinct}{pick(['i', 's', 'dt', 'd'])})"
            return f"array_sort({collected})"
        elif kind < 0.87:
            call = f"{pick(['bool_and', 'bool_or', 'every', 'some', 'count_if'])}({pick(CONDITIONS)})"
        elif kind < 0.95:
            spread = pick(["stddev", "variance", "stddev_pop", "var_pop"])
            return f"round({spread}({distinct}{pick(['i', 'd', 'f'])}), 8)"
        else:
            return f"sum({pick(['i', 'd'])}) / nullif(count({pick(VALUES)}), 0)"
        return f"{call} FILTER (WHERE {pick(CONDITIONS)})" if self.chance.random() < 0.25 else call

    def query(self) -> str:
        """A whole query."""
        pick, sometimes = self.chance.choice, lambda share: self.chance.random() < share
        keys = self.chance.sample(KEYS, pick([0, 1, 1, 2]))
        items = [f"{key} AS g{n}" for n, key in enumerate(keys)]
        items += [f"{self.aggregate()} AS a{n}" for n in range(pick([1, 2, 3]))]
        where = f" WHERE {pick(CONDITIONS)}" if sometimes(0.3) else ""
        if not keys:
            return f"SELECT {', '.join(items)} FROM {self.table}{where}"
        how = pick(["", "", "", "ROLLUP", "CUBE"])
        group = f" GROUP BY {how}({', '.join(keys)})" if how else f" GROUP BY {', '.join(keys)}"
        having = f" HAVING {self.aggregate()} IS NOT NULL" if sometimes(0.25) else ""
        if not how and sometimes(0.3):
            over = f"{pick(['sum', 'max', 'count', 'avg'])}({pick(['sum(i)', 'count(*)', 'max(d)'])})"
            items.append(f"{over} OVER (PARTITION BY {pick(keys)}) AS w")
        return f"SELECT {', '.join(items)} FROM {self.table}{where}{group}{having}"


class Joins:
    """Joins and set operations of three tables."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        pools = [
            ["1", "2", "3", "4", "NULL"],
            ["10", "20", "5", "NULL"],
            ["'x'", "'y'", "''", "NULL"],
            ["'2024-01-01'", "'2024-03-05'", "NULL"],
            ["1.5", "2", "-3.25", "NULL"],
        ]
        casts = "CAST(id AS INT) id, CAST(v AS INT) v, s, CAST(dt AS DATE) dt, CAST(m AS DECIMAL(5, 2)) m"
        self.a, self.b, self.c = (
            f"(SELECT {casts} FROM VALUES {values(chance, pools, 8)} AS z(id, v, s, dt, m))" for _ in "abc"
        )

    def condition(self, left: str, right: str) -> str:
        """When a row of one table meets a row of another."""
        return self.chance.choice(
            [
                f"{left}.id = {right}.id",
                f"{left}.id = {right}.id AND {left}.v > {right}.v",
                f"{left}.id <=> {right}.id",
                f"{left}.s = {right}.s",
                f"{left}.v < {right}.v",
                f"{left}.id = {right}.id AND {right}.s = 'x'",
                f"{left}.id + 1 = {right}.id",
                f"{left}.dt = {right}.dt AND {left}.id <> {right}.id",
                f"{left}.id = {right}.id OR {left}.s = {right}.s",
                f"upper({left}.s) = upper({right}.s)",
                f"{left}.m = {right}.v / 10",
            ]
        )

    def predicate(self, table: str) -> str:
        """A condition on the rows of a table."""
        return self.chance.choice(
            [
                f"{table}.v > 5",
                f"{table}.s IN ('x', 'y')",
                f"{table}.id NOT IN (SELECT id FROM {self.c} q WHERE q.id IS NOT NULL)",
                f"{table}.id NOT IN (SELECT id FROM {self.b} q)",
                f"{table}.id IN (SELECT id FROM {self.b} q WHERE q.v > {table}.v)",
                f"EXISTS (SELECT 1 FROM {self.c} q WHERE q.id = {table}.id)",
                f"NOT EXISTS (SELECT 1 FROM {self.c} q WHERE q.id = {table}.id AND q.s = {table}.s)",
                f"{table}.v > (SELECT avg(v) FROM {self.b} q)",
                f"{table}.v = (SELECT max(v) FROM {self.c} q WHERE q.id = {table}.id)",
                f"coalesce({table}.s, '') <> 'x'",
                f"{table}.dt BETWEEN '2024-01-01' AND '2024-02-01'",
                f"({table}.id, {table}.s) IN (SELECT id, s FROM {self.c} q)",
                f"{table}.m IS NULL OR {table}.m > 0",
            ]
        )

    def value(self, table: str) -> str:
        """Something to select."""
        return self.chance.choice(
            [
                *(f"{table}.{column}" for column in ("id", "v", "s", "dt", "m")),
                f"{table}.v * 2 + {table}.id",
                f"concat({table}.s, '-', {table}.id)",
                f"CASE WHEN {table}.v > 5 THEN {table}.s ELSE 'n' END",
                f"(SELECT count(*) FROM {self.c} q WHERE q.id = {table}.id)",
                f"(SELECT max(q.s) FROM {self.b} q WHERE q.id = {table}.id AND q.v >= {table}.v)",
                f"date_add({table}.dt, {table}.id)",
                f"{table}.m + {table}.v",
                f"EXISTS (SELECT 1 FROM {self.b} q WHERE q.s = {table}.s)",
                f"{table}.id IN (SELECT id FROM {self.c} q)",
                f"nullif({table}.s, '')",
                f"{table}.v / {table}.id",
            ]
        )

    def window(self, table: str) -> str:
        """A function of a window that gives equal rows equal values."""
        partition = self.chance.choice([f"PARTITION BY {table}.id ", f"PARTITION BY {table}.s ", ""])
        over = f"OVER ({partition}ORDER BY {table}.id, {table}.v)"
        return self.chance.choice(
            [
                *(
                    f"{call} {over}"
                    for call in (f"sum({table}.v)", f"max({table}.m)", "rank()", "dense_rank()", "count(*)")
                ),
                f"count(*) OVER ({partition})",
                f"avg({table}.v) OVER ({partition})",
            ]
        )

    def query(self) -> str:
        """A whole query."""
        pick, sometimes = self.chance.choice, lambda share: self.chance.random() < share
        if sometimes(0.12):
            first = f"SELECT id, v, s FROM {self.a} a WHERE {self.predicate('a')}"
            query = f"{first} {pick(SETS)} SELECT id, v, s FROM {self.b} b"
            return f"{query} {pick(SETS)} SELECT id, v, s FROM {self.c} c" if sometimes(0.5) else query
        tables, source = ["a"], f"{self.a} a"
        for table, rows in (("b", self.b), ("c", self.c)):
            if sometimes(0.6):
                kind = pick(JOIN_KINDS)
                if kind == "JOIN LATERAL":
                    source += f" {kind} (SELECT q.* FROM {rows} q WHERE {self.condition('a', 'q')}) {table}"
                elif kind == "CROSS JOIN":
                    source += f" {kind} {rows} {table}"
                else:
                    source += f" {kind} {rows} {table} ON {self.condition('a', table)}"
                if kind not in ("LEFT SEMI JOIN", "LEFT ANTI JOIN"):
                    tables.append(table)
        items = [f"{self.value(pick(tables))} AS c{n}" for n in range(pick([1, 2, 3]))]
        if sometimes(0.35):
            items.append(f"{self.window(pick(tables))} AS w")
        where = f" WHERE {self.predicate(pick(tables))}" if sometimes(0.5) else ""
        if where and sometimes(0.3):
            where += f" {pick(['AND', 'OR'])} {self.predicate(pick(tables))}"
        return f"SELECT {'DISTINCT ' if sometimes(0.15) else ''}{', '.join(items)} FROM {source}{where}"
