"""Change events into a Delta table as one writes it by hand for Spark: batches of a stream, merged by `foreachBatch`.

One process for all batches, a file each; the peer of SCD type 1.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

EVENT = "id BIGINT, seq BIGINT, op STRING, name STRING, amount DOUBLE"
ROW = "id BIGINT, seq BIGINT, name STRING, amount DOUBLE"


MERGE = """
    MERGE INTO delta.`{target}` t USING latest s ON t.id = s.id
    WHEN MATCHED AND s.op = 'DELETE' AND s.seq > t.seq THEN DELETE
    WHEN MATCHED AND s.op <> 'DELETE' AND s.seq >= t.seq THEN UPDATE SET seq = s.seq, name = s.name, amount = s.amount
    WHEN NOT MATCHED AND s.op <> 'DELETE' THEN INSERT (id, seq, name, amount) VALUES (s.id, s.seq, s.name, s.amount)
"""


def merge(events: DataFrame, _batch: int) -> None:
    """Merges the latest event of each key."""
    newest_first = Window.partitionBy("id").orderBy(F.desc("seq"))
    latest = events.withColumn("rank", F.row_number().over(newest_first)).where("rank = 1")
    latest.createOrReplaceTempView("latest")
    events.sparkSession.sql(MERGE.format(target=Path("target").resolve()))


def main() -> None:
    """Runs until every file has been merged."""
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    spark.createDataFrame([], ROW).write.format("delta").mode("ignore").save("target")
    events = spark.readStream.schema(EVENT).option("maxFilesPerTrigger", 1).parquet("in")
    writer = events.writeStream.foreachBatch(merge).option("checkpointLocation", "checkpoint")
    writer.trigger(availableNow=True).start().awaitTermination()
    spark.stop()


if __name__ == "__main__":
    main()
