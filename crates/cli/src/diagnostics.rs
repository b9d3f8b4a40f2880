//! Problems of a pipeline as text: where, what, the source with a caret, what to do.

use std::fmt::Write as _;
use std::path::Path;

use deltaworks_spark::Error;
use deltaworks_spark::diagnostic::{Diagnostic, Severity, SourceLocation};
use owo_colors::{OwoColorize as _, Style};
use unicode_width::UnicodeWidthStr as _;

/// Reads the user's sources for excerpts.
pub(crate) trait Sources {
    /// The text of a file, or `None` if it cannot be read: the problem is then shown without an excerpt.
    fn read(&self, file: &Path) -> Option<String>;
}

/// Files below the pipeline's folder.
pub(crate) struct Folder<'a>(pub(crate) &'a Path);

impl Sources for Folder<'_> {
    fn read(&self, file: &Path) -> Option<String> {
        std::fs::read_to_string(self.0.join(file)).ok()
    }
}

/// All problems in the order found, with a count at the end.
pub(crate) fn render_all(diagnostics: &[Diagnostic], sources: &dyn Sources, color: bool) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&render(diagnostic, sources, color));
        out.push('\n');
    }
    if !diagnostics.is_empty() {
        let _ = writeln!(out, "{}", count(diagnostics));
    }
    out
}

/// The problems an error stands for: itself, if it is a single one.
pub(crate) fn of_error(error: &Error) -> Vec<Diagnostic> {
    if error.diagnostics().is_empty() { vec![error.to_diagnostic()] } else { error.diagnostics().to_vec() }
}

/// How many errors and warnings: "Found 2 errors and 1 warning."
pub(crate) fn count(diagnostics: &[Diagnostic]) -> String {
    let number = |severity: Severity| diagnostics.iter().filter(|each| each.severity == severity).count();
    let counted = |count: usize, noun: &str| match count {
        0 => None,
        1 => Some(format!("1 {noun}")),
        many => Some(format!("{many} {noun}s")),
    };
    let parts = [counted(number(Severity::Error), "error"), counted(number(Severity::Warning), "warning")];
    match parts {
        [Some(errors), Some(warnings)] => format!("Found {errors} and {warnings}."),
        [Some(only), None] | [None, Some(only)] => format!("Found {only}."),
        [None, None] => "Found no problems.".to_owned(),
    }
}

/// The styles of one rendering; plain if colour is off.
struct Styles {
    severity: Style,
    strong: Style,
    frame: Style,
}

impl Styles {
    fn new(severity: Severity, color: bool) -> Self {
        if !color {
            return Self { severity: Style::new(), strong: Style::new(), frame: Style::new() };
        }
        let severity = match severity {
            Severity::Error => Style::new().red().bold(),
            Severity::Warning => Style::new().yellow().bold(),
        };
        Self { severity, strong: Style::new().bold(), frame: Style::new().blue().bold() }
    }
}

/// One problem, ending with a line break.
pub(crate) fn render(diagnostic: &Diagnostic, sources: &dyn Sources, color: bool) -> String {
    let styles = Styles::new(diagnostic.severity, color);
    let word = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let name = match &diagnostic.condition {
        Some(condition) => format!("{word}[{condition}]"),
        None => word.to_owned(),
    };
    let mut out = String::new();
    let _ = writeln!(out, "{}: {}", name.style(styles.severity), diagnostic.message.style(styles.strong));
    let mut gutter = 1;
    if let Some(location) = &diagnostic.location {
        let excerpt = Excerpt::read(location, sources);
        gutter = excerpt.as_ref().map_or(1, |excerpt| excerpt.gutter());
        let _ = writeln!(out, "{}{} {location}", " ".repeat(gutter), "-->".style(styles.frame));
        if let Some(excerpt) = excerpt {
            excerpt.write(&mut out, &styles);
        }
    }
    let margin = " ".repeat(gutter);
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "{margin} {} {}: {help}", "=".style(styles.frame), "help".style(styles.strong));
    }
    if let Some(traceback) = &diagnostic.traceback {
        let _ = writeln!(out, "{margin} {} {}:", "=".style(styles.frame), "traceback".style(styles.strong));
        for line in traceback.trim_end().lines() {
            let _ = writeln!(out, "{}", format!("{margin}     {line}").trim_end());
        }
    }
    out
}

/// The line of the source a problem is in, with its neighbour above.
struct Excerpt {
    before: Option<String>,
    line: String,
    number: usize,
    /// Width of what stands before the marked text, and of the marked text, on a terminal.
    mark: Option<(usize, usize)>,
}

impl Excerpt {
    fn read(location: &SourceLocation, sources: &dyn Sources) -> Option<Self> {
        let number = usize::try_from(location.line).ok().filter(|line| *line > 0)?;
        let text = sources.read(&location.file)?;
        let shown = |line: &str| line.replace('\t', "    ");
        let raw = text.lines().nth(number - 1)?;
        let before = number.checked_sub(2).and_then(|above| text.lines().nth(above)).map(shown);
        let before = before.filter(|line| !line.trim().is_empty());
        let mark = usize::try_from(location.column).ok().filter(|column| *column > 0).map(|column| {
            let head: String = raw.chars().take(column - 1).collect();
            let tail: String = raw.chars().skip(column - 1).collect();
            (shown(&head).width(), token(&tail).width().max(1))
        });
        Some(Self { before, line: shown(raw), number, mark })
    }

    fn gutter(&self) -> usize {
        self.number.to_string().len()
    }

    fn write(&self, out: &mut String, styles: &Styles) {
        let margin = " ".repeat(self.gutter());
        let bar = "|".style(styles.frame).to_string();
        let _ = writeln!(out, "{margin} {bar}");
        if let Some(before) = &self.before {
            let number = format!("{:>width$}", self.number - 1, width = self.gutter());
            let _ = writeln!(out, "{} {bar} {}", number.style(styles.frame), before.trim_end());
        }
        let number = self.number.to_string();
        let _ = writeln!(out, "{} {bar} {}", number.style(styles.frame), self.line.trim_end());
        match self.mark {
            Some((before, width)) => {
                let carets = "^".repeat(width);
                let _ = writeln!(out, "{margin} {bar} {}{}", " ".repeat(before), carets.style(styles.severity));
            }
            None => {
                let _ = writeln!(out, "{margin} {bar}");
            }
        }
    }
}

/// What a position points at: a quoted name, a word, or one character.
fn token(text: &str) -> &str {
    let mut characters = text.char_indices();
    let Some((_, first)) = characters.next() else { return "" };
    let end = match first {
        '`' | '"' | '\'' => characters.find(|(_, c)| *c == first).map(|(at, c)| at + c.len_utf8()),
        c if is_word(c) => Some(text.find(|c| !is_word(c)).unwrap_or(text.len())),
        _ => None,
    };
    text.get(..end.unwrap_or(first.len_utf8())).unwrap_or_default()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneFile(&'static str);

    impl Sources for OneFile {
        fn read(&self, file: &Path) -> Option<String> {
            (file == Path::new("silver.sql")).then(|| self.0.to_owned())
        }
    }

    const SQL: &str = "CREATE STREAMING TABLE clean AS\nSELECT *\n\tFROM STREAM(ordr)\nWHERE größe = `müll col` ;\n";

    fn check(diagnostic: &Diagnostic) -> String {
        render(diagnostic, &OneFile(SQL), false)
    }

    #[test]
    fn problem_is_shown_with_source_caret_and_help() {
        let problem = Diagnostic::error("flow `clean` reads unknown dataset `ordr`")
            .with_condition("TABLE_OR_VIEW_NOT_FOUND")
            .with_help("Did you mean `orders`?")
            .at(SourceLocation::new("silver.sql", 3, 14));
        insta::assert_snapshot!(check(&problem));
    }

    #[test]
    fn caret_counts_characters_not_bytes() {
        let problem = Diagnostic::error("unknown column").at(SourceLocation::new("silver.sql", 4, 15));
        insta::assert_snapshot!(check(&problem));
    }

    #[test]
    fn python_problem_is_shown_with_its_traceback() {
        let mut problem = Diagnostic::error("cannot evaluate `clean`").at(SourceLocation::new("pipeline.py", 7, 0));
        problem.traceback =
            Some("Traceback (most recent call last):\n  File \"pipeline.py\", line 7\nKeyError: 'a'\n".into());
        insta::assert_snapshot!(check(&problem));
    }

    #[test]
    fn all_problems_are_shown_in_one_go_and_counted() {
        let problems = [
            Diagnostic::error("dataset `a` is defined twice").at(SourceLocation::new("silver.sql", 1, 24)),
            Diagnostic::warning("setting `foo` is not known"),
            Diagnostic::error("flow `b` has no output").at(SourceLocation::file("gone.sql")),
        ];
        insta::assert_snapshot!(render_all(&problems, &OneFile(SQL), false));
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let problem = Diagnostic::error("x").with_condition("C").at(SourceLocation::new("silver.sql", 2, 8));
        let colored = render(&problem, &OneFile(SQL), true);
        assert!(colored.contains("\u{1b}["));
        assert_eq!(console_text(&colored), check(&problem));
    }

    /// The text without escape sequences.
    fn console_text(colored: &str) -> String {
        let mut plain = String::new();
        let mut rest = colored;
        while let Some((before, after)) = rest.split_once("\u{1b}[") {
            plain.push_str(before);
            rest = after.split_once('m').map_or("", |(_, after)| after);
        }
        plain + rest
    }
}
