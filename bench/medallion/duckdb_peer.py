"""The medallion pipeline as a DuckDB script: the same tables, each written as Parquet, from scratch every time."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

STEPS = {
    "bronze_orders": "SELECT * FROM read_json('{data}/orders/*.json', format = 'newline_delimited')",
    "bronze_customers": "SELECT * FROM read_csv('{data}/customers/*.csv', header = true)",
    "silver_orders": """
        SELECT DISTINCT ON (order_id) * REPLACE (CAST(total_amount AS DECIMAL(10, 2)) AS total_amount),
               CAST(order_timestamp AS DATE) AS order_date
        FROM '{out}/bronze_orders.parquet' WHERE order_id IS NOT NULL AND total_amount > 0""",
    "silver_customers": """
        SELECT DISTINCT ON (customer_id) *, first_name || ' ' || last_name AS full_name
        FROM '{out}/bronze_customers.parquet' WHERE customer_id IS NOT NULL""",
    "gold_customer_orders": """
        SELECT customer_id, full_name, count(order_id) AS total_orders, sum(total_amount) AS lifetime_value,
               max(order_date) AS last_order_date
        FROM '{out}/silver_orders.parquet' JOIN '{out}/silver_customers.parquet' USING (customer_id)
        GROUP BY ALL""",
}


def main() -> None:
    """Runs the steps over the folder of the first argument, into that of the second."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    for name, query in STEPS.items():
        connection.execute(f"COPY ({query.format(data=data, out=out)}) TO '{out}/{name}.parquet'")


if __name__ == "__main__":
    main()
