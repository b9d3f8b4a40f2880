//! What records hold: keys, values, headers, times, compression, transactions, and what a stock producer writes.

use std::process::Command;

use crate::broker::Broker;
use crate::starts::{rows, runs, streaming_table};
use crate::support::Pipeline;
use crate::topics::{Record, Topic, values};

#[test]
fn every_column_is_there_and_keys_and_values_may_be_null() {
    let topic = Topic::create(Broker::shared(), "records.columns", 1);
    let headers = vec![("trace", Some("1")), ("empty", None)];
    topic.produce(vec![
        Record { headers, ..Record::value("v").keyed("k").time(1_700_000_000_123) },
        Record { value: None, ..Record::default() }.keyed("tombstone").time(2),
        Record::value("").time(1),
    ]);
    let pipeline = Pipeline::new(&[(
        "pipeline.sql",
        &format!(
            "CREATE OR REFRESH STREAMING TABLE t AS SELECT * FROM STREAM read_kafka(
               `kafka.bootstrap.servers` => '{}', subscribe => 'records.columns', startingOffsets => 'earliest',
               includeHeaders => true)",
            topic.broker.servers()
        ),
    )]);
    runs(&pipeline);
    assert_eq!(
        pipeline.query(
            "SELECT CAST(key AS STRING) key, CAST(value AS STRING) value, topic, partition, offset, timestamp, timestampType,
                    to_json(transform(headers, h -> struct(h.key, CAST(h.value AS STRING) AS value))) headers
             FROM t ORDER BY offset"
        ),
        "key,value,topic,partition,offset,timestamp,timestampType,headers\n\
         k,v,records.columns,0,0,2023-11-14 22:13:20.123,0,\"[{\"\"key\"\":\"\"trace\"\",\"\"value\"\":\"\"1\"\"},{\"\"key\"\":\"\"empty\"\"}]\"\n\
         tombstone,,records.columns,0,1,1970-01-01 00:00:00.002,0,\n\
         ,\"\",records.columns,0,2,1970-01-01 00:00:00.001,0,\n"
    );
    assert_eq!(pipeline.query("SELECT count(key) k, count(value) v, count(headers) h FROM t"), "k,v,h\n2,2,1\n");
    assert_eq!(
        pipeline.query(
            "SELECT typeof(key) a, typeof(value) b, typeof(topic) c, typeof(partition) d, typeof(offset) e,
                    typeof(timestamp) f, typeof(timestampType) g, typeof(headers) h FROM t LIMIT 1"
        ),
        "a,b,c,d,e,f,g,h\n\
         binary,binary,string,int,bigint,timestamp,int,\"array<struct<key:string,value:binary>>\"\n"
    );
}

#[test]
fn brokers_may_set_the_time() {
    let topic =
        Topic::create_with(Broker::shared(), "records.append", 1, &[("message.timestamp.type", "LogAppendTime")]);
    topic.produce(vec![Record::value("v").time(1)]);
    let sql = streaming_table("t", topic.broker, "subscribe => 'records.append', startingOffsets => 'earliest'")
        .replace("SELECT topic", "SELECT timestampType, timestamp > '2020-01-01' AS recent, topic");
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql)]);
    runs(&pipeline);
    assert_eq!(pipeline.query("SELECT timestampType, recent FROM t"), "timestampType,recent\n1,true\n");
}

#[test]
fn records_that_are_not_json_become_null() {
    let topic = Topic::create(Broker::shared(), "records.poison", 1);
    topic.produce(values([r#"{"id":1,"at":{"x":2}}"#, "not json", "", r#"{"id":"x"}"#, r#"[1]"#]));
    topic.produce(vec![Record::default()]);
    let sql = format!(
        "CREATE OR REFRESH STREAMING TABLE t AS
         SELECT offset, r.id, r.at.x, r IS NULL AS broken FROM (
           SELECT offset, from_json(CAST(value AS STRING), 'id INT, at STRUCT<x: INT>') AS r
           FROM STREAM read_kafka(bootstrapServers => '{}', subscribe => 'records.poison', startingOffsets => 'earliest'))",
        topic.broker.servers()
    );
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql)]);
    runs(&pipeline);
    let found = pipeline.query("SELECT offset, id, x FROM t ORDER BY offset");
    assert_eq!(found, "offset,id,x\n0,1,2\n1,,\n2,,\n3,,\n4,1,\n5,,\n".replace("4,1,", "4,,"));
}

#[test]
fn compressed_records_are_read() {
    let topic = Topic::create(Broker::shared(), "records.compressed", 1);
    for codec in ["none", "gzip", "snappy", "lz4"] {
        topic.produce_with(&[("compression.type", codec)], values([codec.repeat(200)]));
    }
    let options = "subscribe => 'records.compressed', startingOffsets => 'earliest'";
    let pipeline = Pipeline::new(&[("pipeline.sql", &streaming_table("t", topic.broker, options))]);
    runs(&pipeline);
    assert_eq!(
        pipeline.query("SELECT length(value) n, left(value, 4) v FROM t ORDER BY offset"),
        "n,v\n800,none\n800,gzip\n1200,snap\n600,lz4l\n"
    );
}

#[test]
fn aborted_transactions_are_read_unless_only_committed_ones_are_wanted() {
    let topic = Topic::create(Broker::shared(), "records.transactions", 1);
    topic.transaction(values(["a"]), true);
    topic.transaction(values(["b", "c"]), false);
    topic.transaction(values(["d"]), true);
    topic.transaction(values(["e"]), false);
    let options = "subscribe => 'records.transactions', startingOffsets => 'earliest'";
    let read = |options: &str| {
        let pipeline = Pipeline::new(&[("pipeline.sql", &streaming_table("t", topic.broker, options))]);
        runs(&pipeline);
        // The marks that end transactions have offsets, too: nothing is new after them.
        runs(&pipeline);
        (rows(&pipeline), pipeline)
    };
    // Offsets 1, 4, 6 and 8 are marks.
    assert_eq!(read(options).0, "0:0=a 0:2=b 0:3=c 0:5=d 0:7=e");
    let committed = format!("{options}, `kafka.isolation.level` => 'read_committed'");
    let (found, pipeline) = read(&committed);
    assert_eq!(found, "0:0=a 0:5=d");
    topic.transaction(values(["f"]), true);
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=a 0:5=d 0:9=f");
    // Slices that hold nothing but marks and aborted records end, too.
    assert_eq!(read(&format!("{committed}, maxOffsetsPerTrigger => 1")).0, "0:0=a 0:5=d 0:9=f");
}

#[test]
fn compaction_leaves_gaps() {
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "100"),
        ("min.compaction.lag.ms", "0"),
    ];
    let topic = Topic::create_with(Broker::shared(), "records.compacted", 1, &settings);
    for n in 0..20 {
        topic.produce(vec![Record::value(n.to_string()).keyed("k")]);
    }
    let options = "subscribe => 'records.compacted', startingOffsets => 'earliest', maxOffsetsPerTrigger => 3";
    let pipeline = Pipeline::new(&[("pipeline.sql", &streaming_table("t", topic.broker, options))]);
    runs(&pipeline);
    // When the log is compacted is up to the broker; the last record of the key stays in any case.
    assert!(rows(&pipeline).ends_with("0:19=19"), "{}", rows(&pipeline));
    topic.produce(vec![Record::value("last").keyed("k")]);
    runs(&pipeline);
    assert!(rows(&pipeline).ends_with("0:19=19 0:20=last"), "{}", rows(&pipeline));
}

const PRODUCER: &str = "
import sys
from kafka import KafkaProducer

producer = KafkaProducer(bootstrap_servers=sys.argv[1], compression_type=sys.argv[3], acks='all')
for n in range(100):
    producer.send(sys.argv[2], key=b'k%d' % (n % 7), value=b'{\"n\": %d}' % n, headers=[('n', b'%d' % n)])
producer.flush()
producer.close()
";

#[test]
fn a_stock_python_producer_is_understood() {
    let topic = Topic::create(Broker::shared(), "records.python", 3);
    let sql = streaming_table("t", topic.broker, "subscribe => 'records.python', startingOffsets => 'earliest', includeHeaders => true")
        .replace("SELECT topic", "SELECT CAST(key AS STRING) AS key, get_json_object(CAST(value AS STRING), '$.n') AS n, CAST(headers[0].value AS STRING) AS header, topic");
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql)]);
    produce_by_python(&topic, "gzip");
    runs(&pipeline);
    assert_eq!(
        pipeline.query(
            "SELECT count(*) c, count(DISTINCT key) k, sum(CAST(n AS INT)) s, sum(CAST(header AS INT)) h FROM t"
        ),
        "c,k,s,h\n100,7,4950,4950\n"
    );
}

/// The client library has zstd only where its C libraries are built with it.
#[test]
fn records_that_cannot_be_unpacked_are_not_skipped() {
    let topic = Topic::create(Broker::shared(), "records.zstd", 1);
    topic.produce(values(["plain"]));
    produce_by_python(&topic, "zstd");
    let options = "subscribe => 'records.zstd', startingOffsets => 'earliest'";
    let pipeline = Pipeline::new(&[("pipeline.sql", &streaming_table("t", topic.broker, options))]);
    if cfg!(feature = "vendored") {
        runs(&pipeline);
        assert_eq!(pipeline.query("SELECT count(*) n FROM t"), "n\n101\n");
    } else {
        let done = pipeline.run(&["run"]);
        done.complains(1, &["the compression of the records of `records.zstd-0`", "is not supported yet", "zstd"]);
        assert_eq!(rows(&pipeline), "");
    }
}

/// A hundred records by a stock producer.
fn produce_by_python(topic: &Topic<'_>, compression: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("producer.py");
    std::fs::write(&script, PRODUCER).unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    let python =
        std::env::var("DELTAWORKS_TEST_PYTHON").unwrap_or_else(|_| format!("{home}/.cache/deltaworks/venv/bin/python"));
    let mut command = Command::new(python);
    command.arg(script).args([&topic.broker.servers(), &topic.name, compression]).env_remove("PYTHONPATH");
    let produced = command.output().unwrap();
    assert!(produced.status.success(), "{produced:?}");
}
