//! The one place that writes to stdout and stderr.
//!
//! A reader that goes away (`deltaworks events | head`) is no error: what remains is not written.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use parking_lot::Mutex;

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How much to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Results and errors only.
    Quiet,
    /// Progress too.
    #[default]
    Normal,
    /// Metrics of every batch too.
    Verbose,
}

type Stream = Arc<Mutex<Box<dyn Write + Send>>>;

/// Where results (stdout) and everything else (stderr) go. Clones write to the same place.
#[derive(Clone)]
pub(crate) struct Output {
    out: Stream,
    err: Stream,
    reader_gone: Arc<AtomicBool>,
    /// Whether results are coloured.
    pub(crate) color: bool,
    /// Whether what goes to stderr is coloured.
    pub(crate) color_errors: bool,
    /// Whether a person watches stderr and stdout.
    pub(crate) interactive: bool,
    /// How much to say.
    pub(crate) verbosity: Verbosity,
}

impl Output {
    /// The streams of this process.
    pub(crate) fn standard(choice: ColorChoice, verbosity: Verbosity) -> Self {
        let (out_terminal, err_terminal) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = dumb || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colored = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !no_color,
        };
        Self {
            out: Arc::new(Mutex::new(Box::new(std::io::stdout()))),
            err: Arc::new(Mutex::new(Box::new(std::io::stderr()))),
            reader_gone: Arc::default(),
            color: colored(out_terminal),
            color_errors: colored(err_terminal),
            interactive: out_terminal && err_terminal && !dumb,
            verbosity,
        }
    }

    /// Writes a result.
    pub(crate) fn result(&self, text: &str) {
        if self.reader_gone.load(Ordering::Relaxed) {
            return;
        }
        let mut out = self.out.lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.reader_gone.store(true, Ordering::Relaxed),
            Err(error) => tracing::error!(error = %error, "cannot write to stdout"),
            Ok(()) => {}
        }
    }

    /// Writes a line of result.
    pub(crate) fn line(&self, text: &str) {
        self.result(&format!("{text}\n"));
    }

    /// Writes a line about the course of things, unless quiet.
    pub(crate) fn note(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.line(text);
        }
    }

    /// Writes text about what went wrong.
    pub(crate) fn error(&self, text: &str) {
        let mut err = self.err.lock();
        // There is no other place to report a failure of stderr to.
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// Writes a line about what went wrong.
    pub(crate) fn error_line(&self, text: &str) {
        self.error(&format!("{text}\n"));
    }

    /// Whether nobody reads results any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.reader_gone.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// What was written, for tests.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock()).into_owned()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        /// An output without colour, whose streams can be read.
        pub(crate) fn captured() -> (Self, Captured, Captured) {
            let (out, err) = (Captured::default(), Captured::default());
            let output = Self {
                out: Arc::new(Mutex::new(Box::new(out.clone()))),
                err: Arc::new(Mutex::new(Box::new(err.clone()))),
                reader_gone: Arc::default(),
                color: false,
                color_errors: false,
                interactive: false,
                verbosity: Verbosity::Normal,
            };
            (output, out, err)
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn reader_that_goes_away_is_no_error() {
        let (mut output, _, _) = Output::captured();
        output.out = Arc::new(Mutex::new(Box::new(Gone)));
        output.line("one");
        assert!(output.is_closed());
        output.line("two");
    }
}
