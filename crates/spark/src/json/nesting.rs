//! How deep JSON text is nested, found out without a call for each level: those that read it make one.

/// Whether brackets are nested no deeper than `most` levels.
pub(crate) fn is_shallow(text: &str, most: usize) -> bool {
    let opening = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    opening <= most || depth_within(text, most)
}

fn depth_within(text: &str, most: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > most {
                    return false;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_within_text_are_none() {
        assert!(is_shallow(r#"["[[", "\"[[", {}, [{}]]"#, 3));
        assert!(!is_shallow(r#"["[[", "\"[[", {}, [{}]]"#, 2));
        assert!(is_shallow(&"[]".repeat(1000), 1));
        assert!(!is_shallow(&"[".repeat(100_000), 500));
    }
}
