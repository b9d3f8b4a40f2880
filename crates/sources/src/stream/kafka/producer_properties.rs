//! Properties of Java's producer that librdkafka calls otherwise, or gives other defaults.

use std::collections::BTreeMap;

use deltaworks_spark::Result;

use crate::errors::invalid_option;

/// Takes them out of `given`, as properties of librdkafka; with what they are unless they are given.
///
/// # Errors
/// `User` for values that cannot be.
pub(super) fn take(given: &mut BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut properties = BTreeMap::new();
    let mut set = |key: &str, value: String| properties.insert(key.to_owned(), value);
    // Keys go to the partitions that Java's producer chooses.
    set("partitioner", given.remove("partitioner").unwrap_or_else(|| "murmur2_random".to_owned()));
    let acknowledged_by_all = given.get("acks").is_none_or(|acks| matches!(acks.trim(), "all" | "-1"));
    // Whoever wants fewer acknowledgements cannot have the broker leave out what comes twice; as in Java's producer.
    let idempotent = given.remove("enable.idempotence").unwrap_or_else(|| acknowledged_by_all.to_string());
    set("enable.idempotence", idempotent);
    // Java's default; librdkafka's is more than twice as long.
    set("delivery.timeout.ms", given.remove("delivery.timeout.ms").unwrap_or_else(|| "120000".to_owned()));
    if let Some(size) = given.remove("max.request.size") {
        set("message.max.bytes", size);
    }
    if let Some(memory) = given.remove("buffer.memory") {
        let bytes: u64 =
            memory.trim().parse().map_err(|_| invalid_option("kafka.buffer.memory", &memory, "a number of bytes"))?;
        set("queue.buffering.max.kbytes", (bytes / 1024).max(1).to_string());
    }
    // How long Java's producer blocks; rows wait as long as it takes.
    given.remove("max.block.ms");
    // A property of readers that a shared set of options may have.
    given.remove("isolation.level");
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[(&str, &str)], expected: &[(&str, &str)], left: &[&str]) {
        let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let mut given = own(given);
        let mut wanted = own(&[
            ("partitioner", "murmur2_random"),
            ("enable.idempotence", "true"),
            ("delivery.timeout.ms", "120000"),
        ]);
        wanted.extend(own(expected));
        assert_eq!(take(&mut given).unwrap(), wanted);
        assert_eq!(given.keys().collect::<Vec<_>>(), left);
    }

    #[test]
    fn javas_names_and_defaults() {
        check(&[], &[], &[]);
        check(&[("acks", "all"), ("linger.ms", "5")], &[], &["acks", "linger.ms"]);
        check(&[("acks", "1")], &[("enable.idempotence", "false")], &["acks"]);
        check(&[("max.request.size", "5"), ("max.block.ms", "1")], &[("message.max.bytes", "5")], &[]);
        check(&[("buffer.memory", "33554432")], &[("queue.buffering.max.kbytes", "32768")], &[]);
    }

    #[test]
    fn wrong_numbers_are_named() {
        let mut given = BTreeMap::from([("buffer.memory".to_owned(), "much".to_owned())]);
        let error = take(&mut given).unwrap_err();
        assert_eq!(error.message(), "option `kafka.buffer.memory` has value `much`, expected a number of bytes");
    }
}
