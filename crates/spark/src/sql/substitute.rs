//! `${key}` in SQL text, replaced before parsing.

/// Replaces every `${key}` that `lookup` knows, also inside strings and back-quotes; others stay as they are.
///
/// What is put in is not searched again.
pub fn substitute(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start + 2..].find('}') else { break };
        let (before, key) = (&rest[..start], &rest[start + 2..start + 2 + length]);
        out.push_str(before);
        match lookup(key.trim()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[start..start + length + 3]),
        }
        rest = &rest[start + length + 3..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_known_keys_anywhere_and_keeps_the_others() {
        let lookup = |key: &str| match key {
            "cat" => Some("main".to_owned()),
            "spark.path" => Some("/data/${cat}".to_owned()),
            _ => None,
        };
        let text = "SELECT '${spark.path}/x', `${ cat }`.t FROM ${cat}.s.${unknown} -- ${open";
        assert_eq!(substitute(text, lookup), "SELECT '/data/${cat}/x', `main`.t FROM main.s.${unknown} -- ${open");
    }
}
