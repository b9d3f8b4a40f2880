"""The medallion pipeline in Spark Declarative Pipelines, which have no expectations: filters take their place.

The data lie in the folder that the environment variable `MEDALLION_DATA` names.
"""

import os

from pyspark import pipelines as dp
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

DATA = os.environ["MEDALLION_DATA"]
spark = SparkSession.active()


@dp.table
def bronze_orders() -> DataFrame:
    """Orders as they came."""
    return spark.readStream.format("json").load(f"{DATA}/orders")


@dp.table
def bronze_customers() -> DataFrame:
    """Customers as they came."""
    return spark.readStream.format("csv").option("header", "true").load(f"{DATA}/customers")


@dp.table
def silver_orders() -> DataFrame:
    """Valid orders, each once."""
    return (
        spark.readStream.table("bronze_orders")
        .where("order_id IS NOT NULL AND total_amount > 0")
        .withColumn("order_date", F.to_date("order_timestamp"))
        .withColumn("total_amount", F.col("total_amount").cast("decimal(10,2)"))
        .dropDuplicates(["order_id"])
    )


@dp.table
def silver_customers() -> DataFrame:
    """Customers, each once, with their full name."""
    return (
        spark.readStream.table("bronze_customers")
        .where("customer_id IS NOT NULL")
        .withColumn("full_name", F.concat("first_name", F.lit(" "), "last_name"))
        .dropDuplicates(["customer_id"])
    )


@dp.materialized_view
def gold_customer_orders() -> DataFrame:
    """What each customer ordered."""
    return (
        spark.read.table("silver_orders")
        .join(spark.read.table("silver_customers"), "customer_id")
        .groupBy("customer_id", "full_name")
        .agg(
            F.count("order_id").alias("total_orders"),
            F.sum("total_amount").alias("lifetime_value"),
            F.max("order_date").alias("last_order_date"),
        )
    )
