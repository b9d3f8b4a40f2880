//! The whole of streaming, killed (SIGKILL) again and again: Kafka, a streaming table, one without duplicates, windows of
//! time, AUTO CDC and a materialized view, in triggered and in continuous mode.
//!
//! A pipeline lives through all kills of its mode, while records keep coming, so that an update also begins on what several
//! kills have left. After each kill another reader looks at every version that was committed since the last one ([`Reader`]).
//! Now and then the pipeline may run to the end, and its tables must be those of a plain computation ([`Events`]); at last
//! they must be those of a pipeline that nobody has killed, too. Whatever the instants hit, the outcome must be the same, so
//! the test does not depend on timing; that the instants are well spread makes it thorough. An instant ([`instant`]) is what the
//! program has told last, for each flow in turn, and a time after that from a generator with a seed.

mod events;
mod instant;
mod reader;

use std::time::{Duration, Instant};

use self::events::{Events, PARTITIONS, QUERIES};
use self::instant::{Killed, Random};
use self::reader::Reader;
use crate::broker::Broker;
use crate::running::Running;
use crate::starts::runs;
use crate::support::Pipeline;
use crate::topics::Topic;

/// Kills in each mode.
const KILLS: u32 = 50;
/// After so many of them the pipeline runs to the end.
const KILLS_UNTIL_END: u32 = 10;

const FLOWS: [&str; 5] = ["bronze", "silver", "minutes", "history_changes", "gold"];

fn pipeline(topic: &Topic<'_>, settings: &str) -> Pipeline {
    let (servers, name) = (topic.broker.servers(), &topic.name);
    let sql = format!(
        "CREATE OR REFRESH STREAMING TABLE bronze AS
         SELECT partition, offset, event.* FROM (
           SELECT partition, offset, from_json(CAST(value AS STRING),
             'id BIGINT, account BIGINT, op STRING, amount BIGINT, at TIMESTAMP') AS event
           FROM STREAM read_kafka(bootstrapServers => '{servers}', subscribe => '{name}',
             startingOffsets => 'earliest', maxOffsetsPerTrigger => 20));
         CREATE OR REFRESH STREAMING TABLE silver AS
         SELECT DISTINCT id, account, op, amount, at FROM STREAM(bronze) WATERMARK at DELAY OF INTERVAL 10 MINUTES;
         CREATE OR REFRESH STREAMING TABLE minutes AS
         SELECT window.start AS start, count(*) AS n, sum(amount) AS amount
         FROM STREAM(silver) WATERMARK at DELAY OF INTERVAL 5 MINUTES GROUP BY window(at, '20 seconds');
         CREATE OR REFRESH STREAMING TABLE history;
         CREATE FLOW history_changes AS AUTO CDC INTO history FROM STREAM(silver) KEYS (account)
         APPLY AS DELETE WHEN op = 'd' SEQUENCE BY id COLUMNS * EXCEPT (op, at) STORED AS SCD TYPE 2;
         CREATE OR REFRESH MATERIALIZED VIEW gold AS
         SELECT account, count(*) AS versions, count_if(__END_AT IS NULL) AS current, sum(amount) AS amount
         FROM history GROUP BY account;"
    );
    Pipeline::new(&[("pipeline.sql", &sql), ("deltaworks.yml", settings)])
}

#[test]
fn killed_at_any_instant_triggered_updates_give_the_rows_of_undisturbed_ones() {
    let mut test = CrashTest::new("crash.triggered", "name: crash\n", 1);
    let calm = Instant::now();
    test.run_to_the_end();
    test.kill_again_and_again(calm.elapsed());
}

#[test]
fn killed_at_any_instant_continuous_updates_give_the_rows_of_undisturbed_ones() {
    let settings = "name: crash\ncontinuous: true\nconfiguration:\n  pipelines.trigger.interval: 20 ms\n";
    let mut test = CrashTest::new("crash.continuous", settings, 2);
    let calm = Instant::now();
    let mut running = Running::start(&test.pipeline);
    running.until_idle(&FLOWS);
    let calm = calm.elapsed();
    assert_eq!(running.stop().0, Some(0));
    test.kill_again_and_again(calm);
}

struct CrashTest {
    topic: Topic<'static>,
    /// That is killed.
    pipeline: Pipeline,
    /// That is not.
    undisturbed: Pipeline,
    events: Events,
    reader: Reader,
    random: Random,
}

impl CrashTest {
    /// Pipelines that have processed two parts of the records: from then on the watermark tells what is late. There is a third
    /// part to process.
    fn new(topic: &str, settings: &str, seed: u64) -> Self {
        let topic = Topic::create(Broker::shared(), topic, i32::try_from(PARTITIONS).unwrap());
        let mut test = Self {
            pipeline: pipeline(&topic, settings),
            undisturbed: pipeline(&topic, "name: crash\n"),
            events: Events::default(),
            reader: Reader::start(),
            random: Random(seed),
            topic,
        };
        for _ in 0..2 {
            test.produce();
            test.run_to_the_end();
            runs(&test.undisturbed);
        }
        test.produce();
        test
    }

    fn produce(&mut self) {
        self.topic.produce(self.events.next_part());
    }

    /// Processes all there is, and compares.
    fn run_to_the_end(&mut self) {
        let done = self.pipeline.run(&["run", "--set", "continuous=false"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        self.reader.every_version_is_whole(self.pipeline.path(), "after a run to the end");
        for (query, expected) in QUERIES.iter().zip(self.events.tables()) {
            assert_eq!(self.pipeline.query(query), expected, "{query}");
        }
    }

    /// `calm` is how long it takes to process a part of the records without a kill.
    fn kill_again_and_again(&mut self, calm: Duration) {
        let (mut kills, mut attempts) = (0, 0);
        while kills < KILLS {
            attempts += 1;
            assert!(attempts < 4 * KILLS, "most runs end before they are killed");
            let instant = self.random.instant(attempts, calm);
            let mut killed = Killed::start(&self.pipeline);
            self.produce();
            killed.wait_until(&instant);
            if killed.kill() {
                kills += 1;
                self.reader.every_version_is_whole(self.pipeline.path(), &format!("kill {kills}, {instant:?}"));
                if kills % KILLS_UNTIL_END == 0 {
                    self.run_to_the_end();
                }
            }
        }
        runs(&self.undisturbed);
        for query in QUERIES {
            assert_eq!(self.pipeline.query(query), self.undisturbed.query(query), "{query}");
        }
        let versions = self.reader.versions;
        assert!(versions.iter().all(|versions| *versions > u64::from(KILLS / 5)), "few versions: {versions:?}");
    }
}
