import dlt
from pyspark.sql import functions as F
from pyspark.sql.types import *

# Configuration
class PipelineConfig:
    # Source configurations
    KAFKA_SERVERS = spark.conf.get("kafka_servers")

    # Quality thresholds
    MIN_RECORDS_PER_BATCH = 1

# Bronze Layer - Raw Data Ingestion
@dlt.table(
    comment="Bronze: Raw streaming events from Kafka",
    table_properties={"quality": "bronze"}
)
def bronze_events():
    return spark.readStream \
        .format("kafka") \
        .option("kafka.bootstrap.servers", PipelineConfig.KAFKA_SERVERS) \
        .option("subscribe", "user_events,transaction_events") \
        .option("startingOffsets", "latest") \
        .load() \
        .select(
            F.col("topic"),
            F.col("partition"),
            F.col("offset"),
            F.col("timestamp").alias("kafka_timestamp"),
            F.col("value").cast("string").alias("event_data"),
            F.current_timestamp().alias("ingestion_timestamp")
        )

# Silver Layer - Cleaned and Validated Data
@dlt.table(
    comment="Silver: Parsed and validated user events",
    table_properties={"quality": "silver"}
)
@dlt.expect_or_drop("valid_user_id", "user_id IS NOT NULL")
@dlt.expect_or_drop("valid_event_type", "event_type IN ('page_view', 'click', 'purchase', 'signup')")
@dlt.expect("valid_timestamp", "event_timestamp IS NOT NULL")
@dlt.expect_or_fail("minimum_batch_size", f"record_count >= {PipelineConfig.MIN_RECORDS_PER_BATCH}")
def silver_user_events():
    events_df = dlt.read_stream("bronze_events") \
        .filter(F.col("topic") == "user_events")

    # Parse JSON event data
    parsed_df = events_df.select(
        F.get_json_object("event_data", "$.user_id").cast("long").alias("user_id"),
        F.get_json_object("event_data", "$.event_type").alias("event_type"),
        F.get_json_object("event_data", "$.page_url").alias("page_url"),
        F.get_json_object("event_data", "$.session_id").alias("session_id"),
        F.to_timestamp(F.get_json_object("event_data", "$.timestamp")).alias("event_timestamp"),
        F.get_json_object("event_data", "$.properties").alias("properties_json"),
        F.col("kafka_timestamp"),
        F.col("ingestion_timestamp")
    )

    # Add derived columns
    enriched_df = parsed_df \
        .withColumn("date", F.to_date("event_timestamp")) \
        .withColumn("hour", F.hour("event_timestamp")) \
        .withColumn("processing_delay_seconds",
                   F.unix_timestamp("ingestion_timestamp") - F.unix_timestamp("event_timestamp")) \
        .withColumn("record_count", F.lit(1))  # For batch size validation

    return enriched_df

@dlt.table(
    comment="Silver: Validated transaction data",
    table_properties={"quality": "silver"}
)
@dlt.expect_or_drop("valid_transaction_id", "transaction_id IS NOT NULL")
@dlt.expect_or_drop("positive_amount", "amount > 0")
@dlt.expect_or_drop("valid_currency", "currency IN ('USD', 'EUR', 'GBP')")
@dlt.expect("valid_merchant", "merchant_id IS NOT NULL")
def silver_transactions():
    transactions_df = dlt.read_stream("bronze_events") \
        .filter(F.col("topic") == "transaction_events")

    return transactions_df.select(
        F.get_json_object("event_data", "$.transaction_id").alias("transaction_id"),
        F.get_json_object("event_data", "$.user_id").cast("long").alias("user_id"),
        F.get_json_object("event_data", "$.merchant_id").alias("merchant_id"),
        F.get_json_object("event_data", "$.amount").cast("decimal(10,2)").alias("amount"),
        F.get_json_object("event_data", "$.currency").alias("currency"),
        F.get_json_object("event_data", "$.payment_method").alias("payment_method"),
        F.to_timestamp(F.get_json_object("event_data", "$.timestamp")).alias("transaction_timestamp"),
        F.col("ingestion_timestamp")
    ) \
    .withColumn("date", F.to_date("transaction_timestamp")) \
    .withColumn("amount_usd",
               F.when(F.col("currency") == "EUR", F.col("amount") * 1.1)
                .when(F.col("currency") == "GBP", F.col("amount") * 1.3)
                .otherwise(F.col("amount")))
