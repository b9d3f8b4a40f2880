-- What each customer has spent.
CREATE OR REFRESH MATERIALIZED VIEW gold_customers
AS SELECT customer, count(*) AS orders, sum(amount) AS spent, max(ordered_on) AS last_order
FROM silver_orders
GROUP BY customer;
