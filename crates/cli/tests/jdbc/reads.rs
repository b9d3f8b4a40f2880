//! What clients read: values of all types, parts, conditions.

use crate::client::Server as Client;
use crate::servers::{PASSWORD, Server, USER};

/// Python that defines `read(**options)`, `types(frame)` and `rows(frame)` for a database.
fn prelude(server: &Server) -> String {
    format!(
        r#"
import datetime as dt
from decimal import Decimal as D
spark = connect()
spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
URL_ = "{}"
def read(**options):
    return spark.read.format("jdbc").options(url=URL_, user="{USER}", password="{PASSWORD}", **options).load()
def types(frame):
    return ", ".join(f"{{f.name}} {{f.dataType.simpleString()}}" for f in frame.schema.fields)
def rows(frame):
    return [tuple(bytes(v) if isinstance(v, bytearray) else v for v in r) for r in frame.collect()]
def same(found, wanted):
    assert found == wanted, f"\n{{found}}\n{{wanted}}"
"#,
        server.url()
    )
}

#[test]
fn postgresql_types() {
    let server = Server::postgres();
    server.run(
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE types (i2 smallint, i4 int, i8 bigint, f4 real, f8 float8, n numeric(10, 2), un numeric, b bool, t text,
           vc varchar(20), ch char(5), by bytea, d date, ts timestamp, tz timestamptz, u uuid, j jsonb, m mood, bits bit(3),
           onebit bit(1), ai int[], at text[], an numeric(6, 3)[], au uuid[], mon money, tm time, ip inet, iv interval);
         INSERT INTO types VALUES
          (1, 2, 3, 1.5, 2.25, 12.34, 1.0000000000000000005, true, 'Zoë 日本 🎈', 'it''s', 'ab', '\\x00ff', '2024-02-29',
           '2024-07-01 12:00:00.123456', '2024-07-01 12:00:00+00', '00112233-4455-6677-8899-aabbccddeeff', '{\"a\": 1}', 'ok', '101',
           '1', '{1,NULL,3}', '{a,\"b c\",NULL}', '{1.5,-2}', '{00112233-4455-6677-8899-aabbccddeeff}', '1.50', '01:02:03', '10.0.0.1', '1 day'),
          (-32768, -2147483648, -9223372036854775808, '-Infinity', 'NaN', -99999999.99, -12345678901234567890.123456789012345678, false,
           '', '', '', '', '0001-01-01', '0001-01-02 00:00:00', '9999-12-30 23:59:59.999999+00', NULL, 'null', NULL, NULL, '0', '{}',
           NULL, NULL, NULL, NULL, NULL, NULL, NULL);
         INSERT INTO types (i2) VALUES (NULL);",
    );
    let client = Client::start(&[], &[]);
    client.check(
        &(prelude(server)
            + r#"
f = read(dbtable="types")
same(types(f), "i2 smallint, i4 int, i8 bigint, f4 float, f8 double, n decimal(10,2), un decimal(38,18), b boolean, t string, "
  "vc string, ch string, by binary, d date, ts timestamp, tz timestamp, u string, j string, m string, bits binary, onebit boolean, "
  "ai array<int>, at array<string>, an array<decimal(6,3)>, au array<string>, mon string, tm timestamp, ip string, iv string")
one, two, three = sorted(rows(f), key=lambda r: (r[0] is None, -(r[0] or 0)))
same(one[:13], (1, 2, 3, 1.5, 2.25, D("12.34"), D("1.000000000000000001"), True, "Zoë 日本 🎈", "it's", "ab   ", b"\x00\xff", dt.date(2024, 2, 29)))
same(one[15:25], ("00112233-4455-6677-8899-aabbccddeeff", '{"a": 1}', "ok", b"101", True, [1, None, 3], ["a", "b c", None],
  [D("1.500"), D("-2.000")], ["00112233-4455-6677-8899-aabbccddeeff"], "$1.50"))
same(one[26:], ("10.0.0.1/32", "1 day"))
same(two[:3] + two[5:8], (-32768, -2147483648, -9223372036854775808, D("-99999999.99"), D("-12345678901234567890.123456789012345678"), False))
assert two[3] == float("-inf") and two[4] != two[4]
same((two[8], two[11], two[16], two[20], two[21]), ("", b"", "null", [], None))
same(three, (None,) * 28)
# Clocks without a zone are those of the session; moments are moments.
shown = f.where("i2 = 1").select(F.unix_micros("ts"), F.unix_micros("tz"), F.expr("date_format(ts, 'HH:mm')"), F.expr("date_format(tm, 'HH:mm:ss')"))
same(rows(shown), [(1719828000123456, 1719835200000000, "12:00", "01:02:03")])
ntz = read(dbtable="types", preferTimestampNTZ="true").select("ts", "tz")
same(types(ntz), "ts timestamp_ntz, tz timestamp")
same(rows(ntz.where("ts > TIMESTAMP_NTZ'2024-01-01'").select("ts")), [(dt.datetime(2024, 7, 1, 12, 0, 0, 123456),)])
custom = read(dbtable="types", customSchema="i4 STRING, n DOUBLE").where("i4 = '2'").select("i4", "n")
same((types(custom), rows(custom)), ("i4 string, n double", [("2", 12.34)]))
"#),
    );
}

#[test]
fn mysql_types() {
    let server = Server::mariadb();
    server.run(
        "CREATE TABLE types (t1 tinyint(1), t tinyint, tu tinyint unsigned, s smallint, su smallint unsigned, m mediumint, mu mediumint unsigned,
           i int, iu int unsigned, b bigint, bu bigint unsigned, f float, d double, n decimal(20, 4), c char(4), v varchar(20), x text,
           bl blob, vb varbinary(8), b1 bit(1), b9 bit(9), da date, dt datetime(6), ts timestamp(6) NULL, y year, tm time, e enum('a', 'b'), j json)
           DEFAULT CHARSET utf8mb4;
         SET time_zone = '+00:00';
         INSERT INTO types VALUES
          (1, -128, 255, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295, -9223372036854775808, 18446744073709551615, 1.5, 2.25,
           -1234567890123456.7891, 'ab', 'it''s', 'Zoë 日本 🎈', x'00ff', x'01', b'1', b'100000001', '2024-02-29', '2024-07-01 12:00:00.123456',
           '2024-07-01 12:00:00', 2024, '01:02:03', 'b', '{\"a\": 1}');
         INSERT INTO types (t) VALUES (5);
         CREATE TABLE zero (d date); SET sql_mode = ''; INSERT INTO zero VALUES ('0000-00-00');",
    );
    let client = Client::start(&[], &[]);
    client.check(
        &(prelude(server)
            + r#"
f = read(dbtable="types", driver="com.mysql.cj.jdbc.Driver")
same(types(f), "t1 boolean, t tinyint, tu smallint, s smallint, su int, m int, mu int, i int, iu bigint, b bigint, bu decimal(20,0), f float, "
  "d double, n decimal(20,4), c string, v string, x string, bl binary, vb binary, b1 boolean, b9 binary, da date, dt timestamp, ts timestamp, "
  "y date, tm timestamp, e string, j string")
one, two = sorted(rows(f), key=lambda r: r[1])
same(one[:22], (True, -128, 255, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295, -9223372036854775808, D(18446744073709551615), 1.5,
  2.25, D("-1234567890123456.7891"), "ab", "it's", "Zoë 日本 🎈", b"\x00\xff", b"\x01", True, b"\x01\x01", dt.date(2024, 2, 29)))
same((one[24], one[26], one[27]), (dt.date(2024, 1, 1), "b", '{"a": 1}'))
same(two, (None, 5) + (None,) * 26)
shown = f.where("t = -128").select(F.unix_micros("dt"), F.unix_micros("ts"), F.expr("date_format(tm, 'HH:mm:ss')"))
same(rows(shown), [(1719828000123456, 1719835200000000, "01:02:03")])
same(read(dbtable="types").where("ts >= TIMESTAMP'2024-07-01 14:00:00'").count(), 1)
same(read(dbtable="types").where("ts > TIMESTAMP'2024-07-01 14:00:00'").count(), 0)
same(rows(f.where("v = 'IT''S' OR v = 'it''s '").select("v")), [])
URL_ += "?tinyInt1isBit=false&yearIsDateType=false&zeroDateTimeBehavior=CONVERT_TO_NULL"
same(types(read(dbtable="types").select("t1", "y")), "t1 tinyint, y int")
same(rows(read(query="SELECT d, 1 AS n FROM zero")), [(None, 1)])
"#),
    );
}

#[test]
fn parts_and_conditions() {
    for server in [Server::postgres(), Server::mariadb()] {
        server.run("CREATE TABLE numbers (id int, name varchar(20), day date)");
        let values: Vec<_> = (0..500).map(|n| format!("({n}, 'n{}', '2024-{:02}-01')", n % 7, n % 12 + 1)).collect();
        server.run(&format!("INSERT INTO numbers VALUES (NULL, NULL, NULL), {}", values.join(",")));
        let client = Client::start(&[], &[]);
        client.check(
            &(prelude(server)
                + r#"
login = {"user": "alice", "password": "s3cret&of=alice"}
f = spark.read.jdbc(URL_, "numbers", column="id", lowerBound=10, upperBound=400, numPartitions=5, properties=login)
same(rows(f.agg(F.count("*"), F.countDistinct("id"), F.sum("id"))), [(501, 500, 124750)])
f = spark.read.jdbc(URL_, "numbers", predicates=["id < 100", "id >= 100 AND id < 200", "id IS NULL"], properties=login)
same(rows(f.agg(F.count("*"), F.sum("id"))), [(201, 19900)])
days = read(dbtable="numbers", partitionColumn="DAY", lowerBound="2024-01-01", upperBound="2024-12-31", numPartitions="4")
same(days.count(), 501)
f = read(dbtable="(SELECT id, name FROM numbers WHERE id > 5) AS big")
same(f.where("id BETWEEN 6 AND 12 AND name <> 'n6' AND name LIKE 'n%'").count(), 6)
same(f.where("name = 'n1' AND id < 20").orderBy("id").limit(1).collect()[0].id, 8)
same(len(read(query="SELECT id FROM numbers").limit(7).collect()), 7)
same(read(dbtable="numbers", fetchsize="3").where("name IS NULL").count(), 1)
plan = f.where("id > 490").select("id")._explain_string() if hasattr(f, "_explain_string") else ""
assert "s3cret" not in plan, plan
spark.sql(f"CREATE TEMPORARY VIEW v USING jdbc OPTIONS (url '{URL_}', dbtable 'numbers', user 'alice', password 's3cret&of=alice')")
same(rows(spark.sql("SELECT count(*), max(id) FROM v WHERE id >= 498")), [(2, 499)])
shown = "\n".join(r[0] for r in spark.sql("EXPLAIN EXTENDED SELECT id FROM v WHERE id > 490").collect())
assert "> 490" in shown and "s3cret" not in shown, shown
same(rows(f.alias("a").join(f.alias("b"), "id").where("a.id = 17").select("a.name", "b.name")), [("n3", "n3")])
"#),
        );
        server.run("DROP TABLE numbers");
    }
}
