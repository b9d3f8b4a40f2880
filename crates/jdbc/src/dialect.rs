//! How the databases write names and literals.

/// The databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// PostgreSQL
    Postgres,
    /// MySQL and MariaDB
    MySql,
    /// SQLite
    Sqlite,
}

impl Dialect {
    /// A name in quotes.
    pub(crate) fn quote(self, name: &str) -> String {
        match self {
            Self::MySql => format!("`{}`", name.replace('`', "``")),
            Self::Postgres | Self::Sqlite => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// A text in quotes; `None` if what a backslash means depends on the server's settings, or text cannot be sent.
    pub(crate) fn text(self, value: &str) -> Option<String> {
        let is_safe = !value.contains('\0') && (self == Self::Sqlite || !value.contains('\\'));
        is_safe.then(|| format!("'{}'", value.replace('\'', "''")))
    }

    /// The parts of a table's name as written, without quotes.
    ///
    /// `None` if it is no name, but a query.
    pub(crate) fn split_name(self, written: &str) -> Option<Vec<String>> {
        let mut parts = Vec::new();
        let mut rest = written.trim();
        loop {
            let (part, after) = match rest.chars().next()? {
                open @ ('"' | '`') => quoted(rest, open)?,
                _ => plain(rest)?,
            };
            parts.push(part);
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => return Some(parts),
                None => return None,
            }
        }
    }
}

fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match (c == quote, chars.peek()) {
            (true, Some((_, next))) if *next == quote => {
                name.push(quote);
                chars.next();
            }
            (true, _) => return Some((name, &text[at + quote.len_utf8()..])),
            (false, _) => name.push(c),
        }
    }
    None
}

fn plain(text: &str) -> Option<(String, &str)> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_break_out() {
        assert_eq!(Dialect::Postgres.quote(r#"a"b"#), r#""a""b""#);
        assert_eq!(Dialect::MySql.quote("a`b"), "`a``b`");
        assert_eq!(Dialect::Postgres.text("it's").as_deref(), Some("'it''s'"));
        assert_eq!(Dialect::MySql.text(r"\' OR 1=1 -- "), None);
        assert_eq!(Dialect::Sqlite.text(r"\").as_deref(), Some(r"'\'"));
    }

    #[test]
    fn names_are_split_and_queries_are_none() {
        let check = |written: &str, expected: &[&str]| {
            let parts = Dialect::Postgres.split_name(written);
            assert_eq!(parts, (!expected.is_empty()).then(|| expected.iter().map(|p| (*p).to_owned()).collect()));
        };
        check("t", &["t"]);
        check(" s.t ", &["s", "t"]);
        check(r#""a.b"."c""d""#, &["a.b", r#"c"d"#]);
        check("`x`.y", &["x", "y"]);
        check("(SELECT 1) AS t", &[]);
        check("t; DROP TABLE u", &[]);
        check("", &[]);
    }
}
