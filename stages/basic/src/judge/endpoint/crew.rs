//! Several askers at one list: each takes the next comparison, asks until there is an answer, and keeps it at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use neftpipe_protocol::Failure;
use neftpipe_protocol::judging::{AskedRow, Usage};
use neftpipe_protocol::worker::Job;
use serde_json::Value;

use super::patience::{ATTEMPTS, Gate, WAITS, pause, sleep};
use super::wire::{Answer, Service, Trouble};
use crate::judge::budget::{Budget, Reserved};

/// So many answers that cannot be read, and none that can, end the asking: the others would be paid for in vain.
const UNREAD_IN_VAIN: usize = 10;
/// A pause that a person would wonder about.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// A comparison to ask about.
pub struct Item {
    /// Its name.
    pub id: String,
    /// The request.
    pub body: Value,
    /// Bytes of its messages.
    pub bytes: usize,
}

/// What all askers share.
pub struct Crew<'a> {
    pub job: &'a Job,
    pub service: &'a Service,
    pub budget: &'a Budget,
    pub items: &'a [Item],
    pub max_tokens: u64,
    /// Comparisons that were paid for before.
    pub known: usize,
    /// Whether an answer to the item at this place can be read.
    pub is_read: &'a (dyn Fn(usize, &Value) -> bool + Sync),
}

/// How the asking ended.
#[derive(Debug)]
pub enum End {
    /// Every comparison has its answer.
    Done,
    /// It was asked to stop.
    Stopped,
    /// The stage's cap is reached.
    StageCap,
    /// The run's is.
    RunCap,
    /// No attempt would do better.
    Failed(Failure),
}

/// What came of it.
pub struct Asked {
    /// Answers, in the order in which they came.
    pub rows: Vec<AskedRow>,
    /// How it ended.
    pub end: End,
    /// Attempts that were made anew, and why the last was.
    pub retried: Option<(usize, String)>,
}

#[derive(Default)]
struct Shared {
    next: AtomicUsize,
    ended: AtomicBool,
    gate: Gate,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    rows: Vec<AskedRow>,
    read: usize,
    end: Option<End>,
    retried: usize,
    last_trouble: String,
    /// Whether a long wait was told of.
    wait_is_told: bool,
}

impl Crew<'_> {
    /// Asks all, so many at a time.
    pub fn ask_all(&self, at_a_time: usize) -> Asked {
        let shared = Shared::default();
        self.tell(0);
        std::thread::scope(|scope| {
            for _ in 0..at_a_time.clamp(1, self.items.len().max(1)) {
                scope.spawn(|| self.work(&shared));
            }
        });
        let notes = shared.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let stopped = notes.rows.len() < self.items.len();
        let end = notes.end.unwrap_or(if stopped { End::Stopped } else { End::Done });
        let retried = (notes.retried > 0).then_some((notes.retried, notes.last_trouble));
        Asked { rows: notes.rows, end, retried }
    }

    fn work(&self, shared: &Shared) {
        while !self.should_stop(shared) {
            let at = shared.next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = self.items.get(at) else { return };
            if let Err(end) = self.settle_item(shared, at, item) {
                shared.ended.store(true, Ordering::Relaxed);
                let mut notes = shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
                // The first reason is the one to tell; what is stopped for it is none.
                if notes.end.is_none() && !matches!(end, End::Stopped) {
                    notes.end = Some(end);
                }
                return;
            }
        }
    }

    fn should_stop(&self, shared: &Shared) -> bool {
        shared.ended.load(Ordering::Relaxed) || self.job.should_stop()
    }

    /// Asks about one comparison, pays and keeps its answer.
    fn settle_item(&self, shared: &Shared, at: usize, item: &Item) -> Result<(), End> {
        let stop = || self.should_stop(shared);
        let aside = match self.budget.reserve(item.bytes, self.max_tokens, stop).map_err(End::Failed)? {
            Reserved::Granted(amount) => amount,
            Reserved::StageCap => return Err(End::StageCap),
            Reserved::RunCap => return Err(End::RunCap),
            Reserved::Stopped => return Err(End::Stopped),
        };
        let answer = self.insist(shared, item);
        let usage = answer.as_ref().ok().map(|answer| answer.usage.unwrap_or(Usage::most(item.bytes, self.max_tokens)));
        let settled = self.budget.settle(aside, item.bytes, usage).map_err(End::Failed);
        let (answer, usage) = (answer?, usage.unwrap_or_default());
        let row = AskedRow { id: item.id.clone(), choice: answer.choice, usage };
        self.keep(shared, at, row).map_err(End::Failed)?;
        settled
    }

    /// Asks until there is an answer, or no hope for one.
    fn insist(&self, shared: &Shared, item: &Item) -> Result<Answer, End> {
        let stop = || self.should_stop(shared);
        let (mut failed, mut waits) = (0, 0);
        loop {
            if !shared.gate.pass(stop) {
                return Err(End::Stopped);
            }
            let (reason, retry_after) = match self.service.ask(&item.body) {
                Ok(answer) => {
                    answer.pause.into_iter().for_each(|pause| shared.gate.close(pause));
                    return Ok(answer);
                }
                Err(Trouble::Lasting(failure)) => return Err(End::Failed(failure)),
                Err(Trouble::Passing { reason, retry_after }) => (reason, retry_after),
            };
            // Waiting as asked is no failure, but it has an end.
            *(if retry_after.is_some() { &mut waits } else { &mut failed }) += 1;
            if failed >= ATTEMPTS || waits >= WAITS {
                let message =
                    format!("{}: given up after {} attempts: {reason}", self.service.address(), failed + waits);
                return Err(End::Failed(Failure::environment(message).with_hint(
                    "run again later: what was paid for is kept. If it never answered, look at `endpoint.base_url`",
                )));
            }
            let pause = pause(failed, retry_after);
            {
                let mut notes = shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
                notes.retried += 1;
                if retry_after.is_some() && pause >= LONG_PAUSE && !notes.wait_is_told {
                    notes.wait_is_told = true;
                    let seconds = pause.as_secs();
                    self.job.warn(
                        "judge_waits",
                        format!("nothing is asked for {seconds} s, as the service wants: {reason}"),
                    );
                }
                notes.last_trouble = reason;
            }
            if retry_after.is_some() {
                shared.gate.close(pause);
            } else if !sleep(pause, stop) {
                return Err(End::Stopped);
            }
        }
    }

    fn keep(&self, shared: &Shared, at: usize, row: AskedRow) -> Result<(), Failure> {
        self.job.save_row(&serde_json::to_value(&row).expect("rows serialise"))?;
        let mut notes = shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.read += usize::from((self.is_read)(at, &row.choice));
        notes.rows.push(row);
        self.tell(notes.rows.len());
        if notes.read == 0 && notes.rows.len() >= UNREAD_IN_VAIN && notes.rows.len() < self.items.len() {
            return Err(Failure::data(format!("none of the first {} answers can be read", notes.rows.len())));
        }
        Ok(())
    }

    fn tell(&self, done: usize) {
        let total = self.known + self.items.len();
        let message = self.budget.spent().map(|spent| format!("${spent:.4}"));
        self.job.progress((self.known + done) as u64, Some(total as u64), "comparisons", message);
    }
}
