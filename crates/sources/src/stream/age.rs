//! `maxFileAge`: how long a stream of files cares about a file.

use deltaworks_spark::Result;
use deltaworks_spark::cast::delay_us;

use crate::errors::invalid_option;
use crate::options::Options;
use crate::relation::Reader;

const KEY: &str = "maxFileAge";
const DAY_US: i64 = 86_400_000_000;
/// Auto Loader takes nothing shorter: files would be read again, or not at all.
const SHORTEST_US: i64 = 14 * DAY_US;

/// By how much, in microseconds, a new file may be older than the newest that was read; `None` if it does not matter.
///
/// To Auto Loader the option says how long it has to remember what it has read. Our ledger remembers it for good.
///
/// # Errors
/// `User` if the option is no length of time, or too short.
pub(crate) fn max_file_age(options: &Options<'_>, reader: Reader) -> Result<Option<i64>> {
    let Some(text) = options.get(KEY) else { return Ok(None) };
    let expected = "a length of time such as `30 days` or `7d`";
    let age = short_us(text).map_or_else(|| delay_us(text), Ok).map_err(|_| invalid_option(KEY, text, expected))?;
    if reader == Reader::Plain {
        // Spark's rule: who reads the latest files first, some at a time, would never come to the others.
        let some_at_a_time = options.get("maxFilesPerTrigger").is_some() || options.get("maxBytesPerTrigger").is_some();
        let ignored = options.flag("latestFirst", false)? && some_at_a_time;
        return Ok((!ignored).then_some(age));
    }
    if age < SHORTEST_US {
        return Err(
            invalid_option(KEY, text, "at least `14 days`").with_help("Leave it out: files are remembered for good.")
        );
    }
    Ok(None)
}

/// `7d`, `12h`, `500ms`, as Spark writes lengths of time; a number alone counts milliseconds.
fn short_us(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit_us = match &text[digits..] {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => DAY_US,
        _ => return None,
    };
    text[..digits].parse::<i64>().ok()?.checked_mul(unit_us)
}
