"""The medallion pipeline in batch PySpark, if a full pyspark and a JVM are installed: Parquet, from scratch."""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def main() -> None:
    """Runs the steps over the folder of the first argument, into that of the second."""
    data, out = sys.argv[1:3]
    spark = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false").getOrCreate()

    def store(frame, name):  # type: ignore[no-untyped-def]
        frame.write.mode("overwrite").parquet(f"{out}/{name}")
        return spark.read.parquet(f"{out}/{name}")

    orders = store(spark.read.json(f"{data}/orders/"), "bronze_orders")
    customers = store(spark.read.option("header", "true").csv(f"{data}/customers/"), "bronze_customers")
    orders = store(
        orders.where("order_id IS NOT NULL AND total_amount > 0")
        .withColumn("order_date", F.to_date("order_timestamp"))
        .withColumn("total_amount", F.col("total_amount").cast("decimal(10,2)"))
        .dropDuplicates(["order_id"]),
        "silver_orders",
    )
    customers = store(
        customers.where("customer_id IS NOT NULL")
        .withColumn("full_name", F.concat("first_name", F.lit(" "), "last_name"))
        .dropDuplicates(["customer_id"]),
        "silver_customers",
    )
    joined = orders.join(customers, "customer_id").groupBy("customer_id", "full_name")
    totals = joined.agg(
        F.count("order_id").alias("total_orders"),
        F.sum("total_amount").alias("lifetime_value"),
        F.max("order_date").alias("last_order_date"),
    )
    store(totals, "gold_customer_orders")


if __name__ == "__main__":
    main()
