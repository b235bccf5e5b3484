//! What asking costs: a sum that is bounded for the stage, and one for the whole run that other stages share.
//!
//! Before a request its cost is set aside, by the tokens a byte that were seen so far; when the answer is there, what it
//! really cost takes that place. So the bounds hold up to how far the requests under way differ from those before them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neftpipe_protocol::Failure;
use neftpipe_protocol::judging::{Prices, Usage};
use neftpipe_protocol::request::RunBudget;
use neftpipe_protocol::worker::io_failure;

/// How often a request that waits for money to be left looks whether it should stop.
const TICK: Duration = Duration::from_millis(100);

/// What may be spent, and what was.
pub struct Budget {
    prices: Option<Prices>,
    /// Dollars for the stage's comparisons, those of earlier work among them.
    cap: Option<f64>,
    run: Option<Ledger>,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Default)]
struct State {
    /// Dollars for the stage's comparisons.
    spent: f64,
    /// Dollars set aside for requests under way.
    aside: f64,
    under_way: usize,
    /// The most tokens a byte of a prompt so far.
    density: Option<f64>,
}

impl State {
    fn learn(&mut self, bytes: usize, usage: Usage) {
        if usage.prompt_tokens > 0 {
            let density = usage.prompt_tokens as f64 / bytes.max(1) as f64;
            self.density = Some(self.density.map_or(density, |known| known.max(density)));
        }
    }
}

/// A request's part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reserved {
    /// So many dollars are set aside.
    Granted(f64),
    /// The stage's cap is reached.
    StageCap,
    /// The run's is.
    RunCap,
    /// The wait for it was ended.
    Stopped,
}

impl Budget {
    /// A budget from which some went for comparisons of earlier work: bytes of their prompts, and what was counted.
    pub fn new(prices: Option<Prices>, cap: Option<f64>, run: Option<&RunBudget>, known: &[(usize, Usage)]) -> Self {
        let spent = prices.map_or(0.0, |prices| known.iter().map(|&(_, usage)| prices.cost(usage)).sum());
        let mut state = State { spent, ..State::default() };
        known.iter().for_each(|&(bytes, usage)| state.learn(bytes, usage));
        let state = Mutex::new(state);
        Self { prices, cap, run: run.map(Ledger::new), state, settled: Condvar::new() }
    }

    /// Sets aside what a request of this size will cost. Waits for requests under way where they may leave enough.
    ///
    /// # Errors
    /// Where the run's ledger cannot be read.
    pub fn reserve(&self, bytes: usize, max_tokens: u64, stop: impl Fn() -> bool) -> Result<Reserved, Failure> {
        let Some(prices) = self.prices else { return Ok(Reserved::Granted(0.0)) };
        let mut state = self.state();
        loop {
            // One answer is waited for before there are several: it tells what the others will cost.
            if self.is_bounded() && state.density.is_none() && state.under_way > 0 {
                if stop() {
                    return Ok(Reserved::Stopped);
                }
                state = self.wait(state);
                continue;
            }
            let amount = prices.cost(expected(bytes, max_tokens, state.density));
            let over_stage = self.cap.is_some_and(|cap| state.spent + state.aside + amount > cap);
            let over_run = match &self.run {
                Some(run) if !over_stage => !run.take(amount)?,
                _ => false,
            };
            if !over_stage && !over_run {
                state.aside += amount;
                state.under_way += 1;
                return Ok(Reserved::Granted(amount));
            }
            if state.under_way == 0 {
                return Ok(if over_stage { Reserved::StageCap } else { Reserved::RunCap });
            }
            if stop() {
                return Ok(Reserved::Stopped);
            }
            state = self.wait(state);
        }
    }

    fn is_bounded(&self) -> bool {
        self.cap.is_some() || self.run.is_some()
    }

    /// Waits until a request is settled, or a while.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.settled.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Puts what a request cost in the place of what was set aside; nothing where it got no answer.
    ///
    /// # Errors
    /// Where the run's ledger cannot be written.
    pub fn settle(&self, aside: f64, bytes: usize, usage: Option<Usage>) -> Result<(), Failure> {
        let Some(prices) = self.prices else { return Ok(()) };
        let paid = usage.map_or(0.0, |usage| prices.cost(usage));
        let mut state = self.state();
        // The ledger first: whoever is waked by this must find the true sum.
        let corrected = self.run.as_ref().map_or(Ok(()), |run| run.correct(paid - aside));
        state.under_way -= 1;
        state.aside = if state.under_way == 0 { 0.0 } else { state.aside - aside };
        state.spent += paid;
        usage.into_iter().for_each(|usage| state.learn(bytes, usage));
        self.settled.notify_all();
        corrected
    }

    /// Dollars for the stage's comparisons so far, where there are prices.
    pub fn spent(&self) -> Option<f64> {
        self.prices.map(|_| self.state().spent)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn expected(bytes: usize, max_tokens: u64, density: Option<f64>) -> Usage {
    match density {
        Some(density) => Usage { prompt_tokens: (bytes as f64 * density).ceil() as u64, completion_tokens: max_tokens },
        None => Usage::likely(bytes, max_tokens),
    }
}

/// The run's sum: a file that all its stages add to, under a lock of the operating system.
struct Ledger {
    path: PathBuf,
    limit: f64,
}

impl Ledger {
    /// Digits of the sum, in millionths of a dollar. One write of a fixed length leaves no half of a number.
    const DIGITS: usize = 20;
    const UNIT: f64 = 1e6;

    fn new(budget: &RunBudget) -> Self {
        Self { path: budget.ledger.clone(), limit: budget.limit_usd }
    }

    /// Adds to the sum if that leaves it within the limit.
    fn take(&self, amount: f64) -> Result<bool, Failure> {
        self.change(|sum| if sum + amount <= self.limit { Some(sum + amount) } else { None })
    }

    fn correct(&self, difference: f64) -> Result<(), Failure> {
        self.change(|sum| Some((sum + difference).max(0.0))).map(|_| ())
    }

    fn change(&self, new: impl Fn(f64) -> Option<f64>) -> Result<bool, Failure> {
        let failure = |error: std::io::Error| io_failure("write", &self.path, &error);
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(&self.path).map_err(failure)?;
        file.lock().map_err(failure)?; // given back when the file is closed
        let text = std::fs::read_to_string(&self.path).map_err(failure)?;
        let sum: u64 = match text.trim() {
            "" => 0,
            digits => {
                digits.parse().map_err(|_| Failure::internal(format!("{}: not a sum of money", self.path.display())))?
            }
        };
        let Some(sum) = new(sum as f64 / Self::UNIT) else { return Ok(false) };
        let digits = format!("{:0width$}\n", (sum * Self::UNIT).round() as u64, width = Self::DIGITS);
        file.write_all_at(digits.as_bytes(), 0).map_err(failure)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neftpipe_protocol::params::judge::Endpoint;
    use serde_json::json;

    fn prices() -> Option<Prices> {
        let endpoint: Endpoint =
            serde_json::from_value(json!({"model": "m", "prices": {"input": 1e6, "output": 0.0}})).unwrap();
        Prices::of(&endpoint)
    }

    fn usage(prompt_tokens: u64) -> Usage {
        Usage { prompt_tokens, completion_tokens: 0 }
    }

    #[test]
    fn the_cap_counts_earlier_work_and_learns_from_answers() {
        let budget = Budget::new(prices(), Some(100.0), None, &[(120, usage(30))]);
        // Four bytes were a token, which costs a dollar.
        assert_eq!(budget.reserve(40, 0, || false).unwrap(), Reserved::Granted(10.0));
        budget.settle(10.0, 40, Some(usage(40))).unwrap();
        assert_eq!(budget.spent(), Some(70.0));
        assert_eq!(budget.reserve(30, 0, || false).unwrap(), Reserved::Granted(30.0));
        assert_eq!(budget.reserve(1, 0, || true).unwrap(), Reserved::Stopped);
        budget.settle(30.0, 30, None).unwrap();
        assert_eq!(budget.reserve(31, 0, || false).unwrap(), Reserved::StageCap);
    }

    #[test]
    fn stages_of_a_run_share_its_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunBudget { limit_usd: 15.0, ledger: folder.path().join("spent") };
        let stages = [(); 2].map(|()| Budget::new(prices(), None, Some(&run), &[]));
        assert_eq!(stages[0].reserve(40, 0, || false).unwrap(), Reserved::Granted(10.0));
        assert_eq!(stages[1].reserve(40, 0, || false).unwrap(), Reserved::RunCap);
        stages[0].settle(10.0, 40, Some(usage(5))).unwrap();
        assert_eq!(stages[1].reserve(40, 0, || false).unwrap(), Reserved::Granted(10.0));
        assert_eq!(stages[0].reserve(40, 0, || false).unwrap(), Reserved::RunCap);
    }
}
