//! A run as people watch it: a line for each finished stage, live lines for those at work, a summary.
//!
//! At a terminal the live lines are redrawn in place; elsewhere (a CI log, a file) there are plain lines only: one when a
//! stage starts, one when it ends, and one a minute between.

use std::collections::HashMap;

use super::board::Board;
use super::live::Live;
use super::printer::{BAD, DIM, GOOD, HEADING, NOTICE, Printer, styled};
use super::table::{clip, seconds};
use crate::engine::event::{Counts, Event, EventBody, RunOutcome, StageOutcome};
use crate::plan::in_a_line;
use crate::record::RunState;

/// Where nothing is redrawn, a stage at work says how far it is so often.
const SAID_EVERY_MS: u64 = 60_000;

/// Shows the events of a run.
pub struct Progress {
    printer: Printer,
    /// The lines are what was asked for, and go to stdout.
    is_result: bool,
    board: Shown,
    /// When a stage last said how far it is, where nothing is redrawn.
    said_ms: HashMap<String, u64>,
    failures: Vec<Failed>,
}

enum Shown {
    Live(Live<Board>),
    Plain(Board),
}

struct Failed {
    stage: String,
    message: String,
    hint: Option<String>,
    /// Stages that could not run since it failed.
    blocks: usize,
    /// Whether its program was started.
    has_log: bool,
}

impl Progress {
    /// A view for this printer.
    pub fn new(printer: Printer) -> Self {
        let board = Board::default();
        let board = if printer.is_watched() { Shown::Live(Live::new(board)) } else { Shown::Plain(board) };
        Self { printer, is_result: false, board, said_ms: HashMap::new(), failures: Vec::new() }
    }

    /// A view whose lines are what was asked for.
    pub fn as_result(printer: Printer) -> Self {
        Self { is_result: true, ..Self::new(printer) }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        let now = event.time_ms;
        match &event.body {
            EventBody::RunStarted { run, pipeline, stages } => {
                self.change(|board| board.begin(*stages, now));
                let unit = if *stages == 1 { "stage" } else { "stages" };
                self.say(styled(DIM, format!("{pipeline} · run {run} · {stages} {unit}")));
            }
            EventBody::WorkBegins => {}
            EventBody::StageStarted { stage, attempt, reasons, .. } => {
                self.start(stage, *attempt, &in_a_line(reasons), now);
            }
            EventBody::StageWaiting { stage, holder } => {
                self.change(|board| board.start(stage, &format!("waits for {holder}"), now));
                self.say(format!("{stage}: waits for {holder}, which does the same work"));
            }
            EventBody::StageProgress { stage, done, total, unit, message } => {
                self.change(|board| {
                    board.advance(stage, *done, *total, unit, now);
                    message.iter().for_each(|message| board.remark(stage, &clip(message, 40)));
                });
                self.say_how_far(stage, now);
            }
            EventBody::StageMetric { stage, values, .. } => {
                if let Some(loss) = values.get("loss").and_then(serde_json::Value::as_f64) {
                    self.change(|board| board.remark(stage, &format!("loss {loss:.3}")));
                }
            }
            EventBody::StageWarning { stage, message, .. } => self.warn(&format!("{stage}: {message}")),
            EventBody::RunWarning { message, .. } => self.warn(message),
            EventBody::StageRetrying { stage, message, seconds: wait } => {
                self.change(|board| board.start(stage, &format!("tries again in {}", seconds(*wait)), now));
                self.say(format!("{stage}: {message}; again in {}", seconds(*wait)));
            }
            EventBody::StageFinished { stage, outcome, seconds, .. } => self.finish(stage, outcome, *seconds),
            EventBody::RunFinished { .. } => self.summary(&event.body),
        }
    }

    fn change(&mut self, act: impl FnOnce(&mut Board)) {
        match &mut self.board {
            Shown::Live(live) => live.change(act),
            Shown::Plain(board) => act(board),
        }
    }

    /// Prints a line above what is at work.
    fn say(&self, line: impl AsRef<str>) {
        if self.printer.is_json() {
            return;
        }
        let print = || {
            if self.is_result {
                let _closed = self.printer.line(line);
            } else {
                self.printer.note(line);
            }
        };
        match &self.board {
            Shown::Live(live) => live.above(print),
            Shown::Plain(_) => print(),
        }
    }

    /// The same for what is said to those who want to hear little, too.
    fn insist(&self, line: impl AsRef<str>) {
        if self.printer.is_quiet() && !self.printer.is_json() {
            self.printer.insist(line);
        } else {
            self.say(line);
        }
    }

    fn warn(&self, message: &str) {
        self.insist(format!("{}: {message}", styled(NOTICE, "warning")));
    }

    fn start(&mut self, stage: &str, attempt: u32, why: &str, now: u64) {
        let again = if attempt > 1 { format!("attempt {attempt}") } else { String::new() };
        self.change(|board| board.start(stage, &again, now));
        self.said_ms.insert(stage.to_owned(), now);
        if let Shown::Plain(_) = self.board {
            let why: Vec<&str> = [again.as_str(), why].into_iter().filter(|text| !text.is_empty()).collect();
            let why = if why.is_empty() { String::new() } else { styled(DIM, format!("  {}", why.join("; "))) };
            self.say(format!("{} {stage}{why}", styled(DIM, "start   ")));
        }
    }

    fn say_how_far(&mut self, stage: &str, now: u64) {
        let Shown::Plain(board) = &self.board else { return };
        let said = self.said_ms.entry(stage.to_owned()).or_insert(now);
        if now.saturating_sub(*said) >= SAID_EVERY_MS {
            *said = now;
            let figures = board.figures(stage, now).join(" · ");
            self.say(format!("{} {stage}  {figures}", styled(DIM, "at work ")));
        }
    }

    fn finish(&mut self, stage: &str, outcome: &StageOutcome, spent: f64) {
        let is_cached = *outcome == StageOutcome::Cached;
        let is_failed = matches!(outcome, StageOutcome::Failed { .. });
        self.change(|board| board.finish(stage, is_cached, is_failed));
        let line = |style, word: &str| format!("{} {stage}  {}", styled(style, word), styled(DIM, seconds(spent)));
        match outcome {
            StageOutcome::Cached => {}
            StageOutcome::Executed => self.say(line(GOOD, "done    ")),
            StageOutcome::Failed { message, hint, .. } => {
                let (stage, message, hint) = (stage.to_owned(), message.clone(), hint.clone());
                let has_log = self.said_ms.contains_key(&stage);
                self.failures.push(Failed { stage, message, hint, blocks: 0, has_log });
                self.say(line(BAD, "failed  "));
            }
            StageOutcome::Interrupted => self.say(line(NOTICE, "stopped ")),
            StageOutcome::Blocked { by } => {
                self.failures.iter_mut().filter(|failed| failed.stage == *by).for_each(|failed| failed.blocks += 1);
            }
        }
    }

    fn summary(&self, body: &EventBody) {
        let EventBody::RunFinished { run, outcome, counts, seconds: spent, saved_seconds } = body else { return };
        let Counts { executed, cached, failed, blocked, interrupted } = counts;
        self.failures.iter().for_each(|failed| self.insist(failed.text(run)));
        let style = match outcome {
            RunOutcome::Succeeded => GOOD,
            RunOutcome::Failed => BAD,
            RunOutcome::Interrupted => NOTICE,
        };
        let word = styled(style, RunState::from(*outcome).name());
        let mut parts = vec![format!("{executed} executed"), format!("{cached} cached")];
        parts.extend((*failed > 0).then(|| format!("{failed} failed")));
        parts.extend((*interrupted > 0).then(|| format!("{interrupted} interrupted")));
        parts.extend((*blocked > 0).then(|| format!("{blocked} not run since something they need failed")));
        parts.extend((*saved_seconds >= 1.0).then(|| format!("{} saved by the cache", seconds(*saved_seconds))));
        self.say(format!("{word} in {}: {}", seconds(*spent), parts.join(", ")));
        if *outcome == RunOutcome::Interrupted {
            self.say("what was finished is kept: the same command goes on");
        }
    }
}

impl Failed {
    fn text(&self, run: &str) -> String {
        let Self { stage, message, hint, blocks, has_log } = self;
        let head = format!("\n{} {}", styled(BAD, "error:"), styled(HEADING, stage));
        let mut text = format!("{head}\n  {}", message.replace('\n', "\n  "));
        if let Some(hint) = hint {
            text += &format!("\n  {}: {hint}", styled(HEADING, "help"));
        }
        if *blocks > 0 {
            text +=
                &format!("\n  {blocks} stage{} not run since it failed", if *blocks == 1 { " was" } else { "s were" });
        }
        if *has_log {
            text += &styled(DIM, format!("\n  what it printed: neftpipe logs '{stage}@{run}'"));
        }
        text
    }
}
