"""The same three tables by hand: three queries of Structured Streaming over Delta tables."""

from __future__ import annotations

import argparse
import signal
import threading

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

ORDER = "order_id BIGINT, customer_id BIGINT, amount DECIMAL(10, 2), country STRING"
CUSTOMER = "customer_id BIGINT, name STRING, rate DECIMAL(4, 2)"


def main() -> None:
    """Runs until it is told to stop, or with `--once` until everything that is there has arrived in `gold`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", required=True)
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")

    def start(frame: DataFrame, table: str) -> None:
        writer = frame.writeStream.format("delta").option("checkpointLocation", f"checkpoints/{table}")
        trigger = {"availableNow": True} if arguments.once else {"processingTime": "0 seconds"}
        query = writer.trigger(**trigger).start(f"tables/{table}")
        if arguments.once:
            query.awaitTermination()

    # A table that is streamed from has to be there.
    for table, columns in [
        ("bronze", "value STRING, timestamp TIMESTAMP"),
        ("silver", f"{ORDER}, timestamp TIMESTAMP"),
    ]:
        spark.createDataFrame([], columns).write.format("delta").mode("ignore").save(f"tables/{table}")
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", arguments.servers)
        .option("subscribe", "orders")
        .option("startingOffsets", "earliest")
        .load()
    )
    start(records.select(F.col("value").cast("string").alias("value"), "timestamp"), "bronze")
    bronze = spark.readStream.format("delta").load("tables/bronze")
    parsed = bronze.select("timestamp", F.from_json("value", ORDER).alias("o")).select("o.*", "timestamp")
    start(parsed.where("amount > 0"), "silver")
    customers = spark.read.csv("customers", schema=CUSTOMER, header=True)
    silver = spark.readStream.format("delta").load("tables/silver")
    taxed = (F.col("amount") * F.col("rate")).cast("decimal(12, 2)").alias("taxed")
    gold = silver.join(customers, "customer_id")
    start(gold.select("order_id", "customer_id", "name", "amount", taxed, "timestamp"), "gold")

    if not arguments.once:
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        stopped.wait()
        for query in spark.streams.active:
            query.stop()
    spark.stop()


if __name__ == "__main__":
    main()
