//! What clients write: in every mode, all or nothing.

use crate::client::Server as Client;
use crate::servers::{PASSWORD, Server, USER};

/// Python that defines `write(frame, mode, **options)` and `rows(...)`.
fn prelude(url: &str) -> String {
    format!(
        r#"
import datetime as dt
from decimal import Decimal as D
spark = connect()
spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
login = {{"url": "{url}", "user": "{USER}", "password": "{PASSWORD}"}}
def write(frame, mode, **options):
    frame.write.format("jdbc").mode(mode).options(**login, **options).save()
def read(**options):
    return spark.read.format("jdbc").options(**login, **options).load()
def rows(frame):
    return [tuple(bytes(v) if isinstance(v, bytearray) else v for v in r) for r in frame.collect()]
def same(found, wanted):
    assert found == wanted, f"\n{{found}}\n{{wanted}}"
def fails(message, action):
    try:
        action()
    except Exception as error:
        assert message in str(error) and "s3cret" not in str(error), error
    else:
        raise AssertionError(f"nothing failed: {{message}}")
def table(name="w"):
    return sorted(rows(read(dbtable=name)), key=str)
"#
    )
}

/// Modes, and rows that fail in the middle, are the same everywhere.
const MODES: &str = r#"
a = spark.createDataFrame([(1, "a"), (2, None)], "id int, name string")
b = spark.createDataFrame([("c", 3)], "NAME string, ID int")
write(a, "error", dbtable="w")
same(table(), [(1, "a"), (2, None)])
fails("exists", lambda: write(a, "error", dbtable="w"))
write(b, "ignore", dbtable="w")
same(table(), [(1, "a"), (2, None)])
write(b, "append", dbtable="w", batchsize="1", isolationLevel="SERIALIZABLE", numPartitions="4")
same(table(), [(1, "a"), (2, None), (3, "c")])
# The table that is replaced may be read by the query.
write(read(dbtable="w").where("id > 1").selectExpr("id + 10 AS id", "name"), "overwrite", dbtable="w")
same(table(), [(12, None), (13, "c")])
write(a, "overwrite", dbtable="w", truncate="true")
same(table(), [(1, "a"), (2, None)])
write(spark.range(3).selectExpr("id", "id * 0.5D AS half"), "overwrite", dbtable="w")
same(table(), [(0, 0.0), (1, 0.5), (2, 1.0)])
spark.range(5, 6).selectExpr("id", "2D AS half").write.jdbc(login["url"], "w", "append", {k: v for k, v in login.items() if k != "url"})
same(table()[-1], (5, 2.0))
# A row in the middle fails, after many that did not.
bad = spark.range(0, 30000, 1, 1).selectExpr("id", "CASE WHEN id = 29000 THEN CAST(raise_error('stop here') AS DOUBLE) ELSE 1D END AS half")
for mode, more in [("append", {}), ("overwrite", {}), ("overwrite", {"truncate": "true"})]:
    fails("stop here", lambda: write(bad, mode, dbtable="w", **more))
    same(len(table()), 4)
fails("stop here", lambda: write(bad, "error", dbtable="fresh"))
fails("no such table", lambda: read(dbtable="fresh").schema)
fails("has no column `nobody`", lambda: write(spark.sql("SELECT 1 AS nobody"), "append", dbtable="w"))
fails("writing column `m`", lambda: write(spark.sql("SELECT map('a', 1) AS m"), "append", dbtable="w"))
fails("`dbtable` is none", lambda: write(a, "append", dbtable="(SELECT 1) AS t"))
write(spark.range(70000).selectExpr("id", "id * 2D AS half"), "overwrite", dbtable="w")
same(rows(spark.read.format("jdbc").options(**login, query="SELECT count(*) AS n, sum(id) AS s FROM w").load().selectExpr("n", "bigint(s)")), [(70000, 2449965000)])
"#;

/// Values of types that all databases have.
const VALUES: &str = r#"
f = spark.sql("""SELECT CAST(-128 AS TINYINT) t, CAST(32767 AS SMALLINT) s, -2147483648 i, 9223372036854775807L b, 1.5F f, -2.25D d,
  CAST('-12345678901234567890.123456789' AS DECIMAL(38, 9)) n, true ok, 'Zoë\t日本\n🎈 it''s \\\\ "q"' x, X'00FF5C' raw, DATE'2024-02-29' da,
  TIMESTAMP'2024-07-01 12:00:00.123456' ts, TIMESTAMP_NTZ'2024-03-31 02:30:00' ntz
  UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', X'', DATE'1970-01-01', TIMESTAMP'1970-01-02 00:00:00', NULL""")
write(f, "overwrite", dbtable="all_types")
g = read(dbtable="all_types", preferTimestampNTZ="true")
cast = [F.col(field.name).cast(field.dataType) if field.name not in ("ts", "ntz") else F.col(field.name).cast("string") for field in f.schema.fields]
same(sorted(rows(g.select(cast)), key=str), sorted(rows(f.select(cast)), key=str))
"#;

#[test]
fn postgresql() {
    let server = Server::postgres();
    let client = Client::start(&[], &[]);
    client.check(&(prelude(&server.url()) + MODES + VALUES));
    let columns = "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'all_types' ORDER BY ordinal_position";
    assert_eq!(
        server.rows(columns).replace('\n', ", "),
        "t|smallint|YES, s|smallint|YES, i|integer|YES, b|bigint|YES, f|real|YES, d|double precision|YES, n|numeric|YES, ok|boolean|YES, \
         x|text|NO, raw|bytea|NO, da|date|NO, ts|timestamp with time zone|NO, ntz|timestamp without time zone|YES"
    );
    assert_eq!(
        server.rows("SELECT ts, ntz FROM all_types WHERE i < 0"),
        "2024-07-01 10:00:00.123456+00|2024-03-31 02:30:00"
    );
    server.run("CREATE SCHEMA s; CREATE TABLE s.\"Mixed\" (id int PRIMARY KEY, tags text[], j jsonb, local timestamp, CHECK (id > 0))");
    client.check(
        &(prelude(&server.url())
            + r#"
f = spark.sql("SELECT 7 AS id, array('a,b', NULL, 'c\"{') AS tags, '{\"k\": 1}' AS j, TIMESTAMP'2024-07-01 12:00:00' AS local")
write(f, "append", dbtable='s."Mixed"')
same(rows(read(dbtable='s."Mixed"').select("id", "tags", "j")), [(7, ["a,b", None, 'c"{'], '{"k": 1}')])
fails("does not take a row", lambda: write(f, "append", dbtable='s."Mixed"'))
fails("does not take a row", lambda: write(f.selectExpr("-1 AS id"), "append", dbtable='s."Mixed"'))
again = read(dbtable='s."Mixed"').select("id")
fails("cannot be truncated for a query that reads it", lambda: write(again, "overwrite", dbtable='s."Mixed"', truncate="true"))
write(f, "overwrite", dbtable='s."Mixed"', createTableColumnTypes="id NUMERIC(5, 1)", createTableOptions="WITH (fillfactor=70)")
"#),
    );
    assert_eq!(server.rows("SELECT pg_typeof(id), id, local FROM s.\"Mixed\""), "numeric|7.0|2024-07-01 10:00:00+00");
    assert_eq!(server.rows("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'deltaworks%'"), "0");
}

#[test]
fn mysql() {
    let server = Server::mariadb();
    let client = Client::start(&[], &[]);
    client.check(&(prelude(&server.url()) + MODES + VALUES));
    assert_eq!(
        server.rows("SELECT group_concat(column_type ORDER BY ordinal_position) FROM information_schema.columns WHERE table_name = 'all_types'"),
        "tinyint(4),smallint(6),int(11),bigint(20),float,double,decimal(38,9),bit(1),longtext,longblob,date,timestamp(6),datetime(6)"
    );
    server.run("CREATE TABLE narrow (name varchar(3) NOT NULL, at datetime)");
    client.check(
        &(prelude(&server.url())
            + r#"
fails("does not take a row", lambda: write(spark.sql("SELECT 'abcd' AS name"), "append", dbtable="narrow"))
fails("does not take a row", lambda: write(spark.sql("SELECT CAST(NULL AS STRING) AS name"), "append", dbtable="narrow"))
fails("NaN", lambda: write(spark.sql("SELECT double('NaN') AS x"), "overwrite", dbtable="nan"))
write(spark.sql("SELECT 'ok' AS name, TIMESTAMP'2024-07-01 12:00:00' AS at"), "append", dbtable="narrow")
"#),
    );
    assert_eq!(server.rows("SELECT * FROM narrow"), "ok|2024-07-01 12:00:00");
    assert_eq!(server.rows("SHOW TABLES LIKE 'deltaworks%'"), "");
}

#[test]
fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let client = Client::start(&[], &[]);
    client.check(&(prelude(&format!("jdbc:sqlite:{}", path.display())) + MODES + VALUES));
}
