//! `run --confirm-over`: asks before work begins that earlier runs say will take long, or whose judges may cost much.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use super::bill::Bill;
use super::forecast::forecast;
use super::overrides::FileArgs;
use super::{Chosen, CliError, Context};
use crate::plan::Plan;
use crate::spec::parse_duration;
use crate::ui::table::seconds;

/// What may be done without asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Limit {
    /// Work that takes so long.
    Time(Duration),
    /// Judges that cost so many dollars.
    Money(f64),
}

impl Limit {
    /// `1h`, `30m`, `$20`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('$') {
            Some(amount) => match amount.parse::<f64>() {
                Ok(amount) if amount.is_finite() && amount >= 0.0 => Ok(Self::Money(amount)),
                _ => Err("an amount of dollars is wanted: $20".to_owned()),
            },
            None => parse_duration(text).map(Self::Time),
        }
    }

    /// What is told of a plan that is over the limit, and what it is over.
    fn passed_by(
        self,
        chosen: &Chosen,
        plan: &Plan,
        cap_usd: Option<f64>,
    ) -> Result<Option<(String, String)>, CliError> {
        match self {
            Self::Time(limit) => {
                let forecast = forecast(&chosen.pipeline, plan, &chosen.store)?;
                let over = forecast.filter(|forecast| forecast.estimate.seconds > limit.as_secs_f64());
                Ok(over.map(|forecast| (forecast.text(), seconds(limit.as_secs_f64()))))
            }
            Self::Money(limit) => {
                let bill = Bill::new(&chosen.pipeline, plan, &chosen.store, cap_usd);
                // What cannot be told may be any sum.
                let over = bill.most_usd().is_none_or(|most| most > limit);
                Ok(over.then(|| (bill.text(), format!("${limit}"))))
            }
        }
    }
}

/// Reads and selects, and asks where the work will take more than the limit.
pub(super) fn choose(
    context: &Context,
    file: &FileArgs,
    selectors: &[String],
    force: &[String],
    limit: Limit,
    cap_usd: Option<f64>,
) -> Result<Chosen, CliError> {
    let (chosen, plan) = context.plan(file, selectors, force)?;
    let Some((told, limit)) = limit.passed_by(&chosen, &plan, cap_usd)? else { return Ok(chosen) };
    context.printer.warning(told);
    let over = format!("that is, or may be, more than {limit}");
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(CliError::usage(format!("{over}, and there is no terminal to ask at"))
            .with_hint("leave out --confirm-over, or give it more"));
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
