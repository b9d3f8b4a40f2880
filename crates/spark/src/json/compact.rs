//! JSON text written anew, as Jackson writes what it has read: no blanks, numbers and texts in their usual form.

use super::write::quote;
use crate::cast::format::java_double;

/// `raw` (well-formed JSON) without blanks; `1.50` becomes `1.5`, and of the escapes in texts only those that are needed
/// stay. `None` if a text cannot be read.
pub(crate) fn compact(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => {
                let end = text_end(rest)?;
                let text: String = serde_json::from_str(&rest[..end]).ok()?;
                quote(&text, &mut out);
                end
            }
            '-' | '0'..='9' => {
                let of_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
                let end = rest.find(|c| !of_number(c)).unwrap_or(rest.len());
                number(&rest[..end], &mut out)?;
                end
            }
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = rest[taken..].trim_start();
    }
    Some(out)
}

/// Where the text ends that begins with a quotation mark: behind its second one.
fn text_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    let end = text.bytes().enumerate().skip(1).find(|(_, byte)| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map(|(at, _)| at + 1)
}

fn number(text: &str, out: &mut String) -> Option<()> {
    if !text.contains(['.', 'e', 'E']) {
        out.push_str(text);
        return Some(());
    }
    java_double(out, text.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn json_is_written_anew() {
        for (raw, expected) in [
            (r#" { "a" : [ 1 , 2.50, true ] , "b\u0041" : null } "#, r#"{"a":[1,2.5,true],"bA":null}"#),
            (
                r#"[1e3, -0.0, 12345678901234567890, "x y", "\/\n\u0001"]"#,
                r#"[1000.0,-0.0,12345678901234567890,"x y","/\n\u0001"]"#,
            ),
            (r#""a \" , b""#, r#""a \" , b""#),
        ] {
            assert_eq!(compact(raw).as_deref(), Some(expected), "{raw}");
        }
        assert_eq!(compact(r#"{"a"#), None);
    }
}
