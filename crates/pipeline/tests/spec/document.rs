//! A specification as data.

use crate::input;

/// One specification file.
#[derive(Debug)]
pub struct Document {
    /// Path without extension, below `spec/`.
    pub name: String,
    /// Files that exist from the start: settings, source files, input.
    pub files: Vec<File>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// A file to write below the pipeline's folder.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative path. One that ends with `/` is an empty folder.
    pub path: String,
    /// Content; `None` for a file to delete.
    pub content: Option<Vec<u8>>,
}

/// New files, then an update, then what must hold.
#[derive(Debug, Default)]
pub struct Step {
    /// The heading.
    pub title: String,
    /// Files that arrive before the update. A file without content is deleted.
    pub files: Vec<File>,
    /// Datasets to clear before: the words after `full-refresh` in the heading's options.
    pub full_refresh: Vec<String>,
    /// What the step must end with.
    pub expected: Vec<Expected>,
    /// Whether the update runs for this step alone even in modes that join steps.
    pub barrier: bool,
}

/// Something that must hold after a step.
#[derive(Debug, Clone)]
pub enum Expected {
    /// The rows of a query: `table NAME` or `query SQL`; sorted, as a Markdown table.
    Rows { query: String, table: Vec<Vec<String>> },
    /// Each line is part of a problem that the definitions or the update must have.
    Problems(Vec<String>),
    /// Each line is part of a warning that the definitions must have.
    Warnings(Vec<String>),
    /// The versions of these tables are what they were before the step.
    Unchanged(Vec<String>),
    /// Rows of expectation counts: dataset, expectation, passed, failed in the step's own update.
    Expectations(Vec<Vec<String>>),
}

impl Document {
    /// Parses a file. Panics on what it does not understand: a specification must not be skipped silently.
    pub fn parse(text: &str, name: &str) -> Self {
        let mut document = Self { name: name.to_owned(), files: Vec::new(), steps: Vec::new() };
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(title) = line.strip_prefix("## Update") {
                document.steps.push(Step::titled(title.trim()));
            } else if let Some(info) = line.strip_prefix("```") {
                let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                document.block(info.trim(), &body);
            }
        }
        assert!(!document.steps.is_empty(), "{name}: a specification has at least one `## Update`");
        document
    }

    fn block(&mut self, info: &str, body: &[&str]) {
        if let Some(path) = attribute(info, "file") {
            let text: String = body.iter().map(|line| format!("{line}\n")).collect();
            let content = (text.trim() != "(deleted)").then(|| input::encode(info, &text));
            let file = File { path, content };
            match self.steps.last_mut() {
                Some(step) => step.files.push(file),
                None => self.files.push(file),
            }
            return;
        }
        let step = self.steps.last_mut().unwrap_or_else(|| panic!("{}: `{info}` before any update", self.name));
        let (kind, rest) = info.split_once(' ').unwrap_or((info, ""));
        step.expected.push(match kind {
            "table" => Expected::Rows { query: format!("SELECT * FROM {rest}"), table: table(body) },
            "query" => Expected::Rows { query: rest.to_owned(), table: table(body) },
            "problems" => Expected::Problems(body.iter().map(|line| (*line).to_owned()).collect()),
            "warnings" => Expected::Warnings(body.iter().map(|line| (*line).to_owned()).collect()),
            "unchanged" => Expected::Unchanged(body.iter().map(|line| line.trim().to_owned()).collect()),
            "expectations" => Expected::Expectations(table(body)),
            other => panic!("{}: unknown block `{other}`", self.name),
        });
    }
}

impl Step {
    fn titled(title: &str) -> Self {
        let full_refresh = title
            .split_once("full refresh of ")
            .map(|(_, names)| names.split(',').map(|name| name.trim().to_owned()).collect())
            .unwrap_or_default();
        let mut step = Self { title: title.to_owned(), full_refresh, ..Self::default() };
        step.barrier = !step.full_refresh.is_empty() || title.contains("(alone)");
        step
    }
}

/// The value of `key=value` in an info string.
pub fn attribute(info: &str, key: &str) -> Option<String> {
    info.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
}

/// A Markdown table, header first; without its dashes.
fn table(lines: &[&str]) -> Vec<Vec<String>> {
    lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .filter(|line| !line.chars().all(|c| matches!(c, '|' | '-' | ' ' | ':')))
        .map(|line| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}
