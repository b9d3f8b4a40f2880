"""Orders and customers for the medallion benchmark: the same seed gives the same files.

Of the orders, 1 % stand twice, 1 % have an amount that is not positive, and 0.5 % have no id.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

FILES = 20
FIRST = ["Ada", "Grace", "Edgar", "Barbara", "Donald", "Frances", "Tony", "Radia", "Ken", "Margaret"]
LAST = ["Lovelace", "Hopper", "Codd", "Liskov", "Knuth", "Allen", "Hoare", "Perlman", "Thompson", "Hamilton"]
STATUS = ["new", "paid", "shipped", "returned"]


def write_orders(path: Path, count: int, first_id: int, customers: int, rng: np.random.Generator) -> None:
    """Writes `count` orders as JSON lines, duplicates among them."""
    ids = np.arange(first_id, first_id + count)
    missing = rng.random(count) < 0.005
    amounts = np.where(rng.random(count) < 0.01, -1.0, 1.0) * rng.integers(100, 50_000, count) / 100
    buyers = rng.integers(1, customers + 1, count)
    days, seconds = rng.integers(1, 29, count), rng.integers(0, 86_400, count)
    months, status = rng.integers(1, 13, count), rng.integers(0, len(STATUS), count)
    rows = np.arange(count)
    rows[1:] -= rng.random(count - 1) < 0.01
    columns = (a[rows].tolist() for a in (ids, missing, buyers, amounts, months, days, seconds, status))
    with path.open("w") as out:
        out.writelines(
            f'{{"order_id":{"null" if lost else order},"customer_id":{buyer},"total_amount":{amount:.2f},'
            f'"order_timestamp":"2025-{month:02}-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}",'
            f'"status":"{STATUS[state]}","note":"order {order} of customer {buyer}"}}\n'
            for order, lost, buyer, amount, month, day, second, state in zip(*columns, strict=True)
        )


def write_customers(path: Path, count: int, rng: np.random.Generator) -> None:
    """Writes `count` customers as CSV with a header."""
    first, last = rng.integers(0, len(FIRST), count).tolist(), rng.integers(0, len(LAST), count).tolist()
    with path.open("w") as out:
        out.write("customer_id,first_name,last_name,country\n")
        rows = enumerate(zip(first, last, strict=True), 1)
        out.writelines(f"{i},{FIRST[f]},{LAST[n]},C{i % 40}\n" for i, (f, n) in rows)


def generate(out: Path, orders: int, seed: int) -> None:
    """Writes `out/orders/*.json` and `out/customers/*.csv`."""
    rng = np.random.default_rng(seed)
    customers = max(orders // 20, 1)
    (out / "orders").mkdir(parents=True, exist_ok=True)
    (out / "customers").mkdir(parents=True, exist_ok=True)
    bounds = [orders * i // FILES for i in range(FILES + 1)]
    for i, (start, end) in enumerate(pairwise(bounds)):
        if end > start:
            write_orders(out / "orders" / f"part-{i:03}.json", end - start, start + 1, customers, rng)
    write_customers(out / "customers" / "customers.csv", customers, rng)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=2_000_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generate(arguments.out, arguments.orders, arguments.seed)


if __name__ == "__main__":
    main()
