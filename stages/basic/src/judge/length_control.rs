//! The length-controlled win rate of a verdict: its files, its C, and what came of the fit.

use neftpipe_measures::leaderboard::{Annotation, Scored, scored};
use neftpipe_measures::length_control::{LengthControl, LengthControlError, Strength};
use neftpipe_protocol::Failure;
use neftpipe_protocol::params::judge::{self, JudgeParams};
use neftpipe_protocol::request::Input;
use neftpipe_protocol::worker::Job;

use super::files;

/// The leaderboard's line, length-controlled where the slot `length_control` is filled. `set` is the instructions of all
/// rows in the order of their set, which the official tables go by.
///
/// # Errors
/// Where length control is asked for and cannot be done.
pub fn line(job: &Job, params: &JudgeParams, rows: &[Annotation], set: &[&str]) -> Result<Scored, Failure> {
    let Some(input) = job.optional_input("length_control") else {
        return scored(rows, None).map_err(|error| Failure::internal(error.to_string()));
    };
    let failure = |error: LengthControlError| Failure::data(format!("length control by {}: {error}", input.stage));
    let control = read(input)?;
    let control = LengthControl::from_files(&control, set).map_err(failure)?;
    let strength = match params.length_control.c {
        judge::Strength::Value(c) => Strength::Fixed(c),
        judge::Strength::CrossValidated => Strength::CrossValidated,
    };
    scored(rows, Some((&control, strength))).map_err(failure)
}

fn read(input: &Input) -> Result<Vec<(String, String)>, Failure> {
    let mut found = files::with_extension(&input.path, "csv")?;
    found.extend(files::with_extension(&input.path, "json")?);
    found.iter().map(|path| Ok((path.display().to_string(), files::text(path)?))).collect()
}
