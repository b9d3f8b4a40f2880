//! Records that are gone before they were read.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::broker::Broker;
use crate::starts::{rows, runs, streaming_table};
use crate::support::Pipeline;
use crate::topics::{Record, Topic, values};

const LENIENT: &str = "startingOffsets => 'earliest', failOnDataLoss => false";
const STRICT: &str = "startingOffsets => 'earliest'";

/// A pipeline that fails on loss of data, and one that does not, both after their first update.
fn strict_and_lenient(broker: &Broker, subscription: &str) -> [Pipeline; 2] {
    [STRICT, LENIENT].map(|options| {
        let sql = streaming_table("t", broker, &format!("{subscription}, {options}"));
        let pipeline = Pipeline::new(&[("pipeline.sql", &sql)]);
        runs(&pipeline);
        pipeline
    })
}

#[test]
fn deleted_records_fail_the_flow_unless_they_may_be_missing() {
    let topic = Topic::create(Broker::shared(), "loss.deleted", 1);
    topic.produce(values(["a", "b"]));
    let [strict, lenient] = strict_and_lenient(topic.broker, "subscribe => 'loss.deleted'");
    topic.produce(values(["c", "d", "e"]));
    topic.delete_before(0, 4);
    strict.run(&["run"]).complains(
        1,
        &[
            "KAFKA_DATA_LOSS.START_OFFSET_RESET",
            "`loss.deleted-0` is to be read from offset 2, but begins at offset 4 now",
            "`failOnDataLoss` to false",
        ],
    );
    assert_eq!(rows(&strict), "0:0=a 0:1=b");
    runs(&lenient);
    assert_eq!(rows(&lenient), "0:0=a 0:1=b 0:4=e");
}

#[test]
fn records_that_were_read_may_be_deleted() {
    let topic = Topic::create(Broker::shared(), "loss.read", 1);
    topic.produce(values(["a", "b"]));
    let [strict, _] = strict_and_lenient(topic.broker, "subscribe => 'loss.read'");
    topic.delete_before(0, 2);
    topic.produce(values(["c"]));
    runs(&strict);
    assert_eq!(rows(&strict), "0:0=a 0:1=b 0:2=c");
}

#[test]
fn a_topic_that_is_gone_fails_the_flow_unless_it_may_be() {
    let broker = Broker::shared();
    let gone = Topic::create(broker, "loss.gone.a", 2);
    let stays = Topic::create(broker, "loss.gone.b", 1);
    gone.produce(values(["a"]));
    stays.produce(values(["b"]));
    let [strict, lenient] = strict_and_lenient(broker, "subscribe => 'loss.gone.a,loss.gone.b'");
    gone.delete();
    stays.produce(values(["c"]));
    strict.run(&["run"]).complains(1, &["KAFKA_DATA_LOSS.PARTITIONS_DELETED", "`loss.gone.a-0`, `loss.gone.a-1`"]);
    runs(&lenient);
    assert_eq!(rows(&lenient), "0:0=a 0:0=b 0:1=c");
    // A topic that comes back is a new one.
    Topic::create(broker, "loss.gone.a", 1).produce(values(["d"]));
    runs(&lenient);
    assert_eq!(rows(&lenient), "0:0=a 0:0=d 0:0=b 0:1=c");
}

#[test]
fn a_topic_that_was_made_anew_ends_too_early() {
    let broker = Broker::shared();
    let topic = Topic::create(broker, "loss.anew", 1);
    topic.produce(values(["a", "b", "c"]));
    let [strict, lenient] = strict_and_lenient(broker, "subscribe => 'loss.anew'");
    topic.delete();
    let topic = Topic::create(broker, "loss.anew", 1);
    topic.produce(values(["x"]));
    strict.run(&["run"]).complains(
        1,
        &["KAFKA_DATA_LOSS.PARTITION_OFFSET_CHANGED", "is to be read from offset 3, but ends at offset 1 now"],
    );
    runs(&lenient);
    topic.produce(values(["y"]));
    runs(&lenient);
    assert_eq!(rows(&lenient), "0:0=a 0:1=b 0:1=y 0:2=c");
}

#[test]
fn starting_offsets_must_exist() {
    let topic = Topic::create(Broker::shared(), "loss.start", 1);
    topic.produce((0..5).map(|n| Record::value(n.to_string())).collect());
    topic.delete_before(0, 2);
    let start =
        |offset: i64| format!(r#"subscribe => 'loss.start', startingOffsets => '{{"loss.start":{{"0":{offset}}}}}'"#);
    let pipeline = |options: &str| Pipeline::new(&[("pipeline.sql", &streaming_table("t", topic.broker, options))]);
    pipeline(&start(1)).run(&["run"]).complains(1, &["KAFKA_DATA_LOSS.START_OFFSET_RESET"]);
    pipeline(&start(9)).run(&["run"]).complains(1, &["KAFKA_DATA_LOSS.PARTITION_OFFSET_CHANGED"]);
    let lenient = pipeline(&format!("{}, failOnDataLoss => false", start(1)));
    runs(&lenient);
    assert_eq!(rows(&lenient), "0:2=2 0:3=3 0:4=4");
}

#[test]
fn records_may_be_deleted_while_they_are_read() {
    let check = |name: &str, lenient: bool| {
        let topic = Topic::create(Broker::shared(), name, 1);
        // Reading takes longer than deleting: every record is a batch.
        topic.produce(values(0..300));
        let options =
            format!("subscribe => '{name}', maxOffsetsPerTrigger => 1, {}", if lenient { LENIENT } else { STRICT });
        let pipeline = Pipeline::new(&[("pipeline.sql", &streaming_table("t", topic.broker, &options))]);
        let mut run =
            pipeline.command(&["run", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut events = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
        events.find(|event| event.contains("num_output_rows\":1")).expect("a batch is reported");
        topic.delete_before(0, 298);
        let rest: Vec<String> = events.collect();
        assert_eq!(run.wait().unwrap().success(), lenient, "{rest:#?}");
        (rest, rows(&pipeline))
    };
    let (events, _) = check("loss.middle.strict", false);
    assert!(events.iter().any(|event| event.contains("KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE")), "{events:#?}");
    let (_, rows) = check("loss.middle.lenient", true);
    assert!(rows.starts_with("0:0=0 ") && rows.ends_with(" 0:298=298 0:299=299"), "{rows}");
    assert!(!rows.contains(" 0:297=297 "), "{rows}");
}
