//! `cargo xtask faults`: makes every fault that `tests/faults` knows, where the tests make a tenth, and sums up what held.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::workspace::{self, start_error};

/// Tells the tests to make all faults.
const ALL: (&str, &str) = ("NEFTPIPE_FAULTS", "all");
/// How a line of the tests begins that tells of faults: then their kind, their count and what held.
const MARK: &str = "fault | ";

/// Makes the faults whose tests these names select, all of them without; prints a table of them at the end.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub fn make_all(names: &[OsString]) -> Result<(), Error> {
    let mut tests = workspace::plain_cargo();
    tests.args(["test", "--release", "--package", "neftpipe", "--test", "faults", "--"]);
    tests.args(["--nocapture", "--test-threads", "1"]).args(names);
    tests.env(ALL.0, ALL.1).env("RUST_BACKTRACE", "0").stdout(Stdio::piped());
    let rows = listen(&mut tests)?;
    println!("| faults | made | what held |\n|---|---|---|");
    rows.iter().for_each(|row| println!("| {row} |"));
    Ok(())
}

/// Runs the tests to their end, shows what they do, and keeps what they tell of faults.
fn listen(tests: &mut Command) -> Result<Vec<String>, Error> {
    let mut child = tests.spawn().map_err(|source| start_error(tests, source))?;
    let output = child.stdout.take().expect("stdout is piped");
    let mut rows = Vec::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Some((_, row)) = line.split_once(MARK) {
            rows.push(row.to_owned());
        }
        eprintln!("{line}");
    }
    let status = child.wait().map_err(|source| start_error(tests, source))?;
    if status.success() { Ok(rows) } else { Err(workspace::failed(tests, status)) }
}
