CREATE OR REFRESH MATERIALIZED VIEW gold_customer_orders
TBLPROPERTIES ('quality' = 'gold')
AS SELECT
  c.customer_id,
  c.full_name,
  count(o.order_id) AS total_orders,
  sum(o.total_amount) AS lifetime_value,
  max(o.order_date) AS last_order_date
FROM silver_orders AS o
JOIN silver_customers AS c ON o.customer_id = c.customer_id
GROUP BY c.customer_id, c.full_name;
