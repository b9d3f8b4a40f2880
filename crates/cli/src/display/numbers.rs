//! Numbers for people.

use chrono::TimeDelta;

/// `1,234,567`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `0.4s`, `12s`, `3m 05s`, `2h 03m`
pub(super) fn duration(span: TimeDelta) -> String {
    let ms = span.num_milliseconds().max(0);
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Rows per second as `850/s`, `12k/s`, `3.4M/s`; `None` for no time or no rows.
pub(super) fn rate(rows: u64, span: TimeDelta) -> Option<String> {
    let ms = u64::try_from(span.num_milliseconds()).ok().filter(|ms| *ms > 0)?;
    let per_second = rows.saturating_mul(1000) / ms;
    match per_second {
        0 => None,
        1..10_000 => Some(format!("{per_second}/s")),
        10_000..1_000_000 => Some(format!("{}k/s", per_second / 1000)),
        _ => Some(format!("{}.{}M/s", per_second / 1_000_000, per_second % 1_000_000 / 100_000)),
    }
}
