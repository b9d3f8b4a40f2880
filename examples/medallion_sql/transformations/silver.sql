-- The Python twin of this pipeline says dropDuplicates(["order_id"]): the first row of a key stays. SQL has no such
-- operator on streams. DISTINCT keeps one of several rows that are equal in every column, over all batches, which is the
-- same as long as an order is only ever repeated, not corrected. Where the latest correction must win: AUTO CDC INTO.
CREATE OR REFRESH STREAMING TABLE silver_orders (
  CONSTRAINT valid_order_id EXPECT (order_id IS NOT NULL) ON VIOLATION DROP ROW,
  CONSTRAINT positive_amount EXPECT (total_amount > 0) ON VIOLATION DROP ROW
)
TBLPROPERTIES ('quality' = 'silver')
AS SELECT DISTINCT
  order_id,
  customer_id,
  order_timestamp,
  to_date(order_timestamp) AS order_date,
  CAST(total_amount AS DECIMAL(10, 2)) AS total_amount
FROM STREAM bronze_orders;

CREATE OR REFRESH STREAMING TABLE silver_customers (
  CONSTRAINT valid_customer EXPECT (customer_id IS NOT NULL) ON VIOLATION DROP ROW
)
TBLPROPERTIES ('quality' = 'silver')
AS SELECT DISTINCT
  customer_id,
  first_name,
  last_name,
  concat(first_name, ' ', last_name) AS full_name
FROM STREAM bronze_customers;
