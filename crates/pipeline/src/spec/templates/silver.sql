-- Orders that can be trusted. Rows that break a constraint are counted and left out.
CREATE OR REFRESH STREAMING TABLE silver_orders (
  CONSTRAINT valid_order_id EXPECT (order_id IS NOT NULL) ON VIOLATION DROP ROW,
  CONSTRAINT positive_amount EXPECT (amount > 0) ON VIOLATION DROP ROW
)
AS SELECT order_id, customer, CAST(amount AS DECIMAL(10, 2)) AS amount, CAST(ordered_on AS DATE) AS ordered_on
FROM STREAM bronze_orders;
