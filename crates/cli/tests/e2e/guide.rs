//! The guide in `docs/`: what each page writes is written, what it types is run, what it shows is there.
//!
//! A block whose info string has `file=PATH` is a file. In a `console` block, lines that begin with `$ ` are commands;
//! the lines after one are its output, in which `…` stands for any lines, and times, ids and dates of updates do not
//! count. `exit=CODE` in the info string is what the commands end with. Other blocks are for the reader.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Done, Pipeline};

/// Runs one page of the guide in a folder of its own.
fn page(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let pipeline = Pipeline::new(&[]);
    let mut folder = pipeline.path().to_path_buf();
    let mut lines = text.lines();
    let mut commands = 0;
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some(file) = attribute(info, "file") {
            pipeline.write(file, &(block.join("\n") + "\n"));
        } else if info.starts_with("console") {
            let code = attribute(info, "exit").map_or(0, |code| code.parse().unwrap());
            commands += block.iter().filter(|line| line.starts_with("$ ")).count();
            console(&pipeline, &mut folder, &block, code);
        }
    }
    assert!(commands > 0, "{name} runs nothing");
}

fn attribute<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn console(pipeline: &Pipeline, folder: &mut PathBuf, block: &[&str], code: i32) {
    let mut lines = block.iter().peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("`{line}` follows no command"));
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected.push(words(line));
        }
        if let Some(inner) = command.strip_prefix("cd ") {
            folder.push(inner);
            continue;
        }
        let done = shell(pipeline, folder, command);
        assert_eq!(done.code, Some(code), "{command}\n{done:?}");
        let found = format!("{}{}", done.out, done.err);
        let found_lines: Vec<_> = found.lines().map(words).collect();
        assert!(matches(&expected, &found_lines), "{command}\nshould write\n{}\nbut writes\n{found}", block.join("\n"));
    }
}

fn shell(pipeline: &Pipeline, folder: &Path, line: &str) -> Done {
    let program = Path::new(env!("CARGO_BIN_EXE_deltaworks")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(program.to_path_buf()).chain(std::env::split_paths(&path));
    let environment = pipeline.command(&[]);
    let mut command = Command::new("sh");
    command.current_dir(folder).args(["-c", line]);
    for (key, value) in environment.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    command.env("PATH", std::env::join_paths(paths).unwrap());
    Done::of(command)
}

/// The words of a line, without those that differ from run to run.
fn words(line: &str) -> Vec<String> {
    let time = |word: &str| {
        let number = word.trim_end_matches(['.', ':']).trim_end_matches('s');
        number.len() < word.len() && number.parse::<f64>().is_ok()
    };
    let mut words: Vec<String> = line.split_whitespace().filter(|word| !time(word)).map(str::to_owned).collect();
    if let Some(at) = words.iter().position(|word| word == "Update") {
        words.drain(at + 1..words.len().min(at + 2));
    }
    words
}

/// Whether `found` is `expected`, in which a line `…` stands for any lines, and `…` at the end of one for any words.
fn matches(expected: &[Vec<String>], found: &[Vec<String>]) -> bool {
    match expected.split_first() {
        None => found.iter().all(Vec::is_empty),
        Some((line, rest)) if line == &["…"] => (0..=found.len()).any(|skipped| matches(rest, &found[skipped..])),
        Some((line, rest)) => match found.split_first() {
            Some((first, after)) => {
                let same = match line.split_last() {
                    Some((last, start)) if last == "…" => first.starts_with(start),
                    _ => line == first,
                };
                same && matches(rest, after)
                    // `…` at the end of a line also stands for more lines like it.
                    || same && line.last().is_some_and(|last| last == "…") && matches(expected, after)
            }
            None => line.is_empty() && matches(rest, found),
        },
    }
}

macro_rules! pages {
    ($($name:ident: $file:literal;)*) => {
        $(#[test]
        fn $name() {
            page($file);
        })*
    };
}

pages! {
    getting_started: "getting-started.md";
    sql_pipelines: "sql-pipelines.md";
    python_pipelines: "python-pipelines.md";
    auto_loader: "auto-loader.md";
    kafka: "kafka.md";
    stateful_streaming: "stateful-streaming.md";
    change_data_capture: "change-data-capture.md";
    expectations: "expectations.md";
    updates: "updates.md";
    monitoring: "monitoring.md";
    command_line: "command-line.md";
    migrating: "migrating.md";
}

#[test]
fn pages_that_are_linked_exist() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let pages = std::fs::read_dir(&docs).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let exists = file.is_empty() || file.starts_with("https://") || docs.join(file).exists();
            assert!(exists, "{} links {link}", page.display());
        }
    }
}
