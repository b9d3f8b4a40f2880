import dlt
from pyspark.sql import functions as F

# ========== BRONZE ==========
@dlt.table(name="bronze_orders", table_properties={"quality": "bronze"})
def bronze_orders():
    return (
        spark.readStream
        .format("cloudFiles")
        .option("cloudFiles.format", "json")
        .load("/data/orders/")
    )

@dlt.table(name="bronze_customers", table_properties={"quality": "bronze"})
def bronze_customers():
    return (
        spark.readStream
        .format("cloudFiles")
        .option("cloudFiles.format", "csv")
        .option("header", "true")
        .load("/data/customers/")
    )

# ========== SILVER ==========
@dlt.table(name="silver_orders", table_properties={"quality": "silver"})
@dlt.expect_or_drop("valid_order_id", "order_id IS NOT NULL")
@dlt.expect_or_drop("positive_amount", "total_amount > 0")
def silver_orders():
    return (
        dlt.read_stream("bronze_orders")
        .withColumn("order_date", F.to_date("order_timestamp"))
        .withColumn("total_amount", F.col("total_amount").cast("decimal(10,2)"))
        .dropDuplicates(["order_id"])
    )

@dlt.table(name="silver_customers", table_properties={"quality": "silver"})
@dlt.expect_or_drop("valid_customer", "customer_id IS NOT NULL")
def silver_customers():
    return (
        dlt.read_stream("bronze_customers")
        .withColumn("full_name", F.concat("first_name", F.lit(" "), "last_name"))
        .dropDuplicates(["customer_id"])
    )

# ========== GOLD ==========
@dlt.table(name="gold_customer_orders", table_properties={"quality": "gold"})
def gold_customer_orders():
    orders = dlt.read("silver_orders")
    customers = dlt.read("silver_customers")
    
    return (
        orders.join(customers, "customer_id", "inner")
        .groupBy("customer_id", "full_name")
        .agg(
            F.count("order_id").alias("total_orders"),
            F.sum("total_amount").alias("lifetime_value"),
            F.max("order_date").alias("last_order_date")
        )
    )
