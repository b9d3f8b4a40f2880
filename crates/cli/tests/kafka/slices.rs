//! Batches of bounded size, their checkpoints and what is left after each.

use std::path::Path;

use crate::broker::Broker;
use crate::starts::{rows, runs, streaming_table};
use crate::support::Pipeline;
use crate::topics::{Record, Topic};

/// The offsets of every batch, in order.
fn offsets(pipeline: &Pipeline) -> Vec<String> {
    let mut files: Vec<_> = files(&pipeline.path().join(".deltaworks/checkpoints"));
    files.sort_by_key(|file| file.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap());
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    texts
        .map(|text| {
            let progress: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(progress["sources"][0]["identity"], "kafka");
            progress["sources"][0]["offset"].to_string()
        })
        .collect()
}

/// The progress files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

#[test]
fn max_offsets_per_trigger_is_shared_out_in_proportion() {
    let topic = Topic::create(Broker::shared(), "slices.max", 3);
    let records =
        [(0, 6), (1, 3)].map(|(partition, count)| (0..count).map(move |n| Record::value(n.to_string()).at(partition)));
    topic.produce(records.into_iter().flatten().collect());
    let options = "subscribe => 'slices.max', startingOffsets => 'earliest', maxOffsetsPerTrigger => 3";
    let sql = streaming_table("t", topic.broker, options);
    let settings = "name: slices\nid: 11111111-2222-3333-4444-555555555555\n";
    let pipeline = Pipeline::new(&[("pipeline.sql", &sql), ("deltaworks.yml", settings)]);
    runs(&pipeline);
    assert_eq!(rows(&pipeline), "0:0=0 0:1=1 0:2=2 0:3=3 0:4=4 0:5=5 1:0=0 1:1=1 1:2=2");
    assert_eq!(
        offsets(&pipeline),
        [
            r#"{"slices.max":{"0":2,"1":1,"2":0}}"#,
            r#"{"slices.max":{"0":4,"1":2,"2":0}}"#,
            r#"{"slices.max":{"0":6,"1":3,"2":0}}"#,
        ]
    );
    let backlog = pipeline.query(
        "SELECT details:flow_progress.metrics.backlog_records AS backlog, details:flow_progress.metrics.num_output_rows AS rows
         FROM event_log('11111111-2222-3333-4444-555555555555') WHERE details:flow_progress.metrics.num_output_rows IS NOT NULL ORDER BY timestamp",
    );
    assert_eq!(backlog, "backlog,rows\n6,3\n3,3\n0,3\n");
}

#[test]
fn partitions_are_cut_into_pieces() {
    let topic = Topic::create(Broker::shared(), "slices.pieces", 1);
    topic.produce((0..50).map(|n| Record::value(n.to_string())).collect());
    let options =
        "subscribe => 'slices.pieces', startingOffsets => 'earliest', minPartitions => 4, maxRecordsPerPartition => 7";
    let pipeline = Pipeline::new(&[("pipeline.sql", &streaming_table("t", topic.broker, options))]);
    runs(&pipeline);
    let expected: Vec<String> = (0..50).map(|n| format!("0:{n}={n}")).collect();
    assert_eq!(rows(&pipeline), expected.join(" "));
}

#[test]
fn many_records_of_many_topics_come_once() {
    let topics = ["slices.many.a", "slices.many.b", "slices.many.c"];
    let topics = topics.map(|name| Topic::create(Broker::shared(), name, 2));
    for (number, topic) in topics.iter().enumerate() {
        let record = |n: usize| Record::value("x".repeat(n % 997)).at((n % 2) as i32);
        let count = 4_000 * (number + 1);
        topic.produce_with(&[("compression.type", "lz4"), ("linger.ms", "20")], (0..count).map(record).collect());
    }
    let options =
        r"subscribePattern => 'slices\\.many\\..', startingOffsets => 'earliest', maxOffsetsPerTrigger => 1500";
    let pipeline = Pipeline::new(&[("pipeline.sql", &streaming_table("t", Broker::shared(), options))]);
    runs(&pipeline);
    let bytes = |count: usize| (0..count).map(|n| n % 997).sum::<usize>();
    assert_eq!(
        pipeline.query(
            "SELECT topic, count(*) n, sum(l) l
             FROM (SELECT topic, partition, offset, sum(length(value)) AS l FROM t GROUP BY topic, partition, offset)
             GROUP BY topic ORDER BY topic"
        ),
        format!(
            "topic,n,l\nslices.many.a,4000,{}\nslices.many.b,8000,{}\nslices.many.c,12000,{}\n",
            bytes(4_000),
            bytes(8_000),
            bytes(12_000)
        )
    );
}
