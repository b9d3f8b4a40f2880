CREATE OR REFRESH STREAMING TABLE bronze_orders
TBLPROPERTIES ('quality' = 'bronze')
AS SELECT * FROM STREAM read_files('/data/orders/', format => 'json', inferColumnTypes => false);

CREATE OR REFRESH STREAMING TABLE bronze_customers
TBLPROPERTIES ('quality' = 'bronze')
AS SELECT * FROM STREAM read_files('/data/customers/', format => 'csv', header => true, inferColumnTypes => false);
