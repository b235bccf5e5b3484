//! The one way to stdout and stderr: data to the first, everything else to the second.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::Serialize;

use super::{diagnostic, table};
use crate::spec::Problems;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// Where the output is a terminal that wants it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Printer {
    json: bool,
    quiet: bool,
}

/// Emphasis of a heading.
pub const HEADING: Style = Style::new().bold();
/// What is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What wants attention.
pub const NOTICE: Style = AnsiColor::Yellow.on_default();
/// What failed.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();

/// Text in a style; the printer removes the codes where colour is off.
pub fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Characters of a line of what is said on the way; as many as one likes where that goes to no terminal.
fn width_of_stderr() -> usize {
    terminal_size::terminal_size_of(io::stderr()).map_or(usize::MAX, |(width, _)| usize::from(width.0))
}

impl Printer {
    /// A printer for this choice of form, loudness and colour.
    pub fn new(json: bool, quiet: bool, color: Color) -> Self {
        match color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        Self { json, quiet }
    }

    /// Whether results are wanted as JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Whether only results and errors are wanted.
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Whether people watch stderr.
    pub fn is_watched(self) -> bool {
        io::stderr().is_terminal() && !crate::env::is_dumb_terminal() && !self.quiet && !self.json
    }

    /// Characters of a line of results, where they go to a terminal.
    pub fn width(self) -> Option<usize> {
        terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
    }

    /// Prints a result for people.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(anstream::stdout(), "{}", text.as_ref())
    }

    /// Prints a table for people, its columns in the order of their importance.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn table(self, heading: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        self.line(table::fitting(heading, rows, self.width().unwrap_or(usize::MAX)))
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Prints a result for programs, on one line.
    ///
    /// # Errors
    /// Where stdout is closed.
    pub fn json(self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        writeln!(io::stdout().lock(), "{text}")
    }

    /// Says something beside the results; nobody is told that stderr is closed.
    pub fn note(self, text: impl AsRef<str>) {
        if !self.quiet {
            let _closed = writeln!(anstream::stderr(), "{}", text.as_ref());
        }
    }

    /// Says something to those who want to hear little, too.
    pub fn insist(self, text: impl AsRef<str>) {
        let _closed = writeln!(anstream::stderr(), "{}", text.as_ref());
    }

    /// Says what is wrong with a pipeline file: for programs on stdout, for people on stderr.
    pub fn problems(self, problems: &Problems) {
        let mut stderr = anstream::stderr();
        let _closed = if self.json {
            writeln!(io::stdout().lock(), "{}", problems.to_json())
        } else {
            writeln!(stderr, "{}", diagnostic::render_in(problems, true, width_of_stderr()))
        };
    }

    /// Says what in a pipeline file deserves a warning.
    pub fn warnings(self, warnings: &Problems) {
        if !warnings.diagnostics.is_empty() {
            self.note(diagnostic::render_in(warnings, true, width_of_stderr()));
        }
    }

    /// Says a warning.
    pub fn warning(self, text: impl AsRef<str>) {
        let _closed = writeln!(anstream::stderr(), "{}: {}", styled(NOTICE, "warning"), text.as_ref());
    }

    /// Says an error, with advice.
    pub fn error(self, message: &str, hint: Option<&str>) {
        let mut stderr = anstream::stderr();
        let _closed = writeln!(stderr, "{}: {message}", styled(BAD, "error"));
        if let Some(hint) = hint {
            let _closed = writeln!(stderr, "  {}: {hint}", styled(HEADING, "help"));
        }
    }
}
