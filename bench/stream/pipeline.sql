CREATE OR REFRESH STREAMING TABLE bronze AS
SELECT CAST(value AS STRING) AS value, timestamp
FROM STREAM read_kafka(bootstrapServers => '${servers}', subscribe => 'orders', startingOffsets => 'earliest');

CREATE OR REFRESH STREAMING TABLE silver (
  CONSTRAINT positive EXPECT (amount > 0) ON VIOLATION DROP ROW
) AS
SELECT o.*, timestamp
FROM (
  SELECT timestamp, from_json(value, 'order_id BIGINT, customer_id BIGINT, amount DECIMAL(10, 2), country STRING') AS o
  FROM STREAM bronze
);

CREATE OR REFRESH STREAMING TABLE gold AS
SELECT order_id, s.customer_id, name, amount, CAST(amount * rate AS DECIMAL(12, 2)) AS taxed, timestamp
FROM STREAM silver AS s JOIN read_files('customers', format => 'csv', schema => 'customer_id BIGINT, name STRING, rate DECIMAL(4, 2)', header => true) AS c
  ON s.customer_id = c.customer_id;
