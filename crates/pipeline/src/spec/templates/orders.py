"""Orders, from files to totals: `deltaworks run` brings the three tables up to date."""

import dlt
from pyspark.sql import functions as F


@dlt.table(comment="Orders as they arrived")
def bronze_orders():
    return spark.readStream.format("cloudFiles").option("cloudFiles.format", "json").load("/data/orders/")  # noqa: F821


@dlt.table(comment="Orders that can be trusted")
@dlt.expect_or_drop("valid_order_id", "order_id IS NOT NULL")
@dlt.expect_or_drop("positive_amount", "amount > 0")
def silver_orders():
    return dlt.read_stream("bronze_orders").select(
        "order_id",
        "customer",
        F.col("amount").cast("decimal(10,2)").alias("amount"),
        F.to_date("ordered_on").alias("ordered_on"),
    )


@dlt.table(comment="What each customer has spent")
def gold_customers():
    return (
        dlt.read("silver_orders")
        .groupBy("customer")
        .agg(F.count("*").alias("orders"), F.sum("amount").alias("spent"), F.max("ordered_on").alias("last_order"))
    )
