-- Every order as it arrived. Files that appear later are read by the next run, and only those.
CREATE OR REFRESH STREAMING TABLE bronze_orders
COMMENT 'Orders as they arrived'
AS SELECT * FROM STREAM read_files('/data/orders/', format => 'json');
