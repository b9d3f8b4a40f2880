//! The records of the crash test, and what a plain computation makes of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::topics::Record;

/// The topic's partitions.
pub const PARTITIONS: i64 = 3;

/// So many records have a new event.
const NEW: i64 = 48;
/// The event time of event 0, in seconds since the epoch.
const BEGINNING: i64 = 1_767_225_600;
/// As the pipeline has them: the watermark of `minutes`, and its windows.
const DELAY_S: i64 = 300;
const WINDOW_S: i64 = 20;

/// A change of an account. Events that are late from their birth have negative ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    id: i64,
}

impl Event {
    fn account(self) -> i64 {
        self.id.rem_euclid(17)
    }

    fn is_delete(self) -> bool {
        self.id % 23 == 5
    }

    fn amount(self) -> i64 {
        self.id * 7 % 101
    }

    /// One event a second; late ones are years too old.
    fn at(self) -> i64 {
        if self.id < 0 { 86_400 - self.id } else { BEGINNING + self.id }
    }

    fn op(self) -> &'static str {
        if self.is_delete() { "d" } else { "u" }
    }

    fn record(self) -> Record {
        let Self { id } = self;
        let (account, op, amount, at) = (self.account(), self.op(), self.amount(), self.at());
        let value =
            format!("{{\"id\": {id}, \"account\": {account}, \"op\": \"{op}\", \"amount\": {amount}, \"at\": {at}}}");
        Record::value(value).at(i32::try_from(id.rem_euclid(PARTITIONS)).unwrap())
    }
}

/// Everything that was produced so far.
#[derive(Default)]
pub struct Events {
    parts: i64,
    records: usize,
}

impl Events {
    /// The next records: new events, not in the order of their ids; events that came before, recently and so long ago that
    /// nobody remembers them; and from the third part on events that are late.
    pub fn next_part(&mut self) -> Vec<Record> {
        let first = self.parts * NEW;
        // 29 and 48 have no common divisor.
        let new = (0..NEW).map(|n| first + n * 29 % NEW);
        let repeated = (0..4).map(|n| first + n * 11);
        let before =
            [first - 40, first - 41, first - 500, first - 700, first - 1_001].into_iter().filter(|id| *id >= 0);
        let late = (self.parts > 1).then_some([-2 * self.parts, -2 * self.parts - 1]);
        let ids = new.chain(repeated).chain(before).chain(late.into_iter().flatten());
        let records: Vec<Record> = ids.map(|id| Event { id }.record()).collect();
        self.parts += 1;
        self.records += records.len();
        records
    }

    /// The rows of every table as [`QUERIES`] give them, once all is processed.
    pub fn tables(&self) -> Vec<String> {
        let events: Vec<Event> = (0..self.parts * NEW).map(|id| Event { id }).collect();
        let silver = events
            .iter()
            .map(|event| format!("{},{},{},{},{}", event.id, event.account(), event.op(), event.amount(), event.at()));
        vec![
            format!("records,different\n{0},{0}\n", self.records),
            table("id,account,op,amount,at", silver),
            table("start,n,amount", minutes(&events)),
            table("account,id,amount,__START_AT,__END_AT", versions(&events).iter().map(Version::row)),
            table("account,versions,current,amount", accounts(&versions(&events))),
        ]
    }
}

/// The rows of every table, in order.
pub const QUERIES: [&str; 5] = [
    "SELECT count(*) AS records, count(DISTINCT partition, offset) AS different FROM bronze",
    "SELECT id, account, op, amount, CAST(at AS BIGINT) AS at FROM silver ORDER BY id",
    "SELECT CAST(start AS BIGINT) AS start, n, amount FROM minutes ORDER BY start",
    "SELECT account, id, amount, __START_AT, __END_AT FROM history ORDER BY account, id",
    "SELECT account, versions, current, amount FROM gold ORDER BY account",
];

fn table(header: &str, rows: impl Iterator<Item = String>) -> String {
    std::iter::once(header.to_owned()).chain(rows).map(|row| row + "\n").collect()
}

/// The windows that the watermark has passed.
fn minutes(events: &[Event]) -> impl Iterator<Item = String> {
    let watermark = events.iter().map(|event| event.at()).max().unwrap_or_default() - DELAY_S;
    let mut windows: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for event in events {
        let window = windows.entry(event.at() / WINDOW_S * WINDOW_S).or_default();
        *window = (window.0 + 1, window.1 + event.amount());
    }
    let is_final = move |start: i64| start + WINDOW_S <= watermark;
    windows.into_iter().filter(move |(start, _)| is_final(*start)).map(|(start, (n, sum))| format!("{start},{n},{sum}"))
}

struct Version {
    event: Event,
    end: Option<Event>,
}

impl Version {
    fn row(&self) -> String {
        let (account, id, amount) = (self.event.account(), self.event.id, self.event.amount());
        format!("{account},{id},{amount},{id},{}", self.end.map_or_else(String::new, |end| end.id.to_string()))
    }
}

fn versions(events: &[Event]) -> Vec<Version> {
    let mut by_account: BTreeMap<i64, BTreeSet<Event>> = BTreeMap::new();
    for event in events {
        by_account.entry(event.account()).or_default().insert(*event);
    }
    let mut versions = Vec::new();
    for changes in by_account.into_values() {
        let ends = changes.iter().skip(1).copied().map(Some).chain([None]);
        let all = changes.iter().zip(ends).map(|(event, end)| Version { event: *event, end });
        versions.extend(all.filter(|version| !version.event.is_delete()));
    }
    versions
}

fn accounts(versions: &[Version]) -> impl Iterator<Item = String> {
    let mut accounts: BTreeMap<i64, [i64; 3]> = BTreeMap::new();
    for version in versions {
        let [count, current, amount] = accounts.entry(version.event.account()).or_default();
        *count += 1;
        *current += i64::from(version.end.is_none());
        *amount += version.event.amount();
    }
    accounts.into_iter().map(|(account, [count, current, amount])| format!("{account},{count},{current},{amount}"))
}
