//! `run --confirm-over`: asks before work begins that earlier runs say will take long.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use super::forecast::forecast;
use super::overrides::FileArgs;
use super::{Chosen, CliError, Context};
use crate::spec::parse_duration;
use crate::ui::table::seconds;

/// What may be done without asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit(Duration);

impl Limit {
    /// `1h`, `30m`. An amount of money is refused: no stage has a price, and a limit that nothing can pass guards nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            return Err(
                "no kind of stage has a price yet, so an amount of money guards nothing; give a time: 1h".into()
            );
        }
        parse_duration(text).map(Self)
    }
}

/// Reads and selects, and asks where the work will take longer than the limit.
pub(super) fn choose(
    context: &Context,
    file: &FileArgs,
    selectors: &[String],
    force: &[String],
    Limit(limit): Limit,
) -> Result<Chosen, CliError> {
    let (chosen, plan) = context.plan(file, selectors, force)?;
    let Some(forecast) = forecast(&chosen.pipeline, &plan, &chosen.store)? else { return Ok(chosen) };
    if forecast.estimate.seconds <= limit.as_secs_f64() {
        return Ok(chosen);
    }
    context.printer.warning(forecast.text());
    let over = format!("that is more than {}", seconds(limit.as_secs_f64()));
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(CliError::usage(format!("{over}, and there is no terminal to ask at"))
            .with_hint("leave out --confirm-over, or give it a longer time"));
    }
    if asked(&over)? { Ok(chosen) } else { Err(CliError::usage("nothing was started")) }
}

fn asked(over: &str) -> Result<bool, CliError> {
    let mut stderr = io::stderr();
    write!(stderr, "{over}: go on? [y/N] ").and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].iter().any(|yes| answer.trim().eq_ignore_ascii_case(yes)))
}
