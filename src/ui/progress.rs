//! A run as people watch it: a line for each finished stage, a live bar for each running one, a summary.
//!
//! At a terminal the bars are redrawn in place; elsewhere (a CI log, a file) there are plain lines only, one when a stage
//! starts and one when it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::printer::{BAD, DIM, GOOD, HEADING, NOTICE, Printer, styled};
use super::table::{bytes, clip, seconds};
use crate::engine::event::{Event, EventBody, RunOutcome, StageOutcome};
use crate::record::RunState;

/// Shows the events of a run.
pub struct Progress {
    printer: Printer,
    /// The lines are what was asked for, and go to stdout.
    is_result: bool,
    bars: Option<MultiProgress>,
    running: BTreeMap<String, Running>,
    failures: Vec<(String, String, Option<String>)>,
}

struct Running {
    bar: ProgressBar,
    message: String,
}

impl Progress {
    /// A view for this printer.
    pub fn new(printer: Printer) -> Self {
        let bars = printer.is_watched().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        Self { printer, is_result: false, bars, running: BTreeMap::new(), failures: Vec::new() }
    }

    /// A view whose lines are what was asked for.
    pub fn as_result(printer: Printer) -> Self {
        Self { is_result: true, ..Self::new(printer) }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match &event.body {
            EventBody::RunStarted { run, pipeline, stages } => {
                self.say(styled(DIM, format!("{pipeline} · run {run} · {stages} stages")));
            }
            EventBody::StageStarted { stage, attempt, reasons, .. } => {
                let why: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                self.start(stage, *attempt, &why.join("; "));
            }
            EventBody::StageWaiting { stage, holder } => {
                self.say(format!("{stage}: waits for {holder}, which does the same work"))
            }
            EventBody::StageProgress { stage, done, total, unit, message } => {
                self.advance(stage, *done, *total, unit, message.as_deref());
            }
            EventBody::StageMetric { stage, values, .. } => {
                if let Some(loss) = values.get("loss").and_then(serde_json::Value::as_f64)
                    && let Some(running) = self.running.get_mut(stage)
                {
                    running.message = format!("loss {loss:.3}");
                    running.bar.set_message(running.message.clone());
                }
            }
            EventBody::StageWarning { stage, message, .. } => {
                self.say(format!("{}: {stage}: {message}", styled(NOTICE, "warning")));
            }
            EventBody::RunWarning { message, .. } => self.say(format!("{}: {message}", styled(NOTICE, "warning"))),
            EventBody::StageRetrying { stage, message, seconds: wait } => {
                self.say(format!("{stage}: {message}; again in {}", seconds(*wait)));
            }
            EventBody::StageFinished { stage, outcome, seconds, .. } => self.finish(stage, outcome, *seconds),
            EventBody::RunFinished { .. } => self.summary(&event.body),
        }
    }

    /// Runs something that prints, the bars out of its way.
    fn say(&self, line: impl AsRef<str>) {
        if self.printer.is_json() {
            return;
        }
        match &self.bars {
            Some(bars) => bars.suspend(|| self.print(line)),
            None => self.print(line),
        }
    }

    fn print(&self, line: impl AsRef<str>) {
        if self.is_result {
            let _closed = self.printer.line(line);
        } else {
            self.printer.note(line);
        }
    }

    fn start(&mut self, stage: &str, attempt: u32, why: &str) {
        let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
        let Some(bars) = &self.bars else {
            let why = if why.is_empty() { String::new() } else { styled(DIM, format!("  {why}")) };
            self.say(format!("{} {stage}{again}{why}", styled(DIM, "start   ")));
            return;
        };
        let bar = bars.add(ProgressBar::no_length().with_style(spinner()).with_prefix(format!("{stage}{again}")));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.running.insert(stage.to_owned(), Running { bar, message: String::new() });
    }

    fn advance(&mut self, stage: &str, done: u64, total: Option<u64>, unit: &str, message: Option<&str>) {
        let Some(running) = self.running.get_mut(stage) else { return };
        let bar = &running.bar;
        match total {
            Some(total) if bar.length() != Some(total) => {
                bar.set_style(if unit == "bytes" { bytes_bar() } else { counted_bar(unit) });
                bar.set_length(total);
            }
            None if unit == "bytes" => bar.set_message(bytes(done)),
            None => bar.set_message(format!("{done} {unit}")),
            Some(_) => {}
        }
        bar.set_position(done);
        if let Some(message) = message {
            running.message = clip(message, 40);
            bar.set_message(running.message.clone());
        }
    }

    fn finish(&mut self, stage: &str, outcome: &StageOutcome, spent: f64) {
        if let Some(running) = self.running.remove(stage) {
            running.bar.finish_and_clear();
        }
        match outcome {
            StageOutcome::Cached => {}
            StageOutcome::Executed => {
                self.say(format!("{} {stage}  {}", styled(GOOD, "done    "), styled(DIM, seconds(spent))))
            }
            StageOutcome::Failed { message, hint, .. } => {
                self.failures.push((stage.to_owned(), message.clone(), hint.clone()));
                self.say(format!("{} {stage}  {}", styled(BAD, "failed  "), styled(DIM, seconds(spent))));
            }
            StageOutcome::Interrupted => self.say(format!("{} {stage}", styled(NOTICE, "stopped "))),
            StageOutcome::Blocked { by } => {
                self.say(format!("{} {stage}  {}", styled(DIM, "blocked "), styled(DIM, format!("needs {by}"))));
            }
        }
    }

    fn summary(&self, body: &EventBody) {
        let EventBody::RunFinished { run, outcome, executed, cached, failed, blocked, seconds: spent, saved_seconds } =
            body
        else {
            return;
        };
        for (stage, message, hint) in &self.failures {
            self.say(format!(
                "\n{} {}\n  {}",
                styled(BAD, "error:"),
                styled(HEADING, stage),
                message.replace('\n', "\n  ")
            ));
            if let Some(hint) = hint {
                self.say(format!("  {}: {hint}", styled(HEADING, "help")));
            }
            self.say(styled(DIM, format!("  what it printed: neftpipe logs '{stage}@{run}'")));
        }
        let style = match outcome {
            RunOutcome::Succeeded => GOOD,
            RunOutcome::Failed => BAD,
            RunOutcome::Interrupted => NOTICE,
        };
        let word = styled(style, RunState::from(*outcome).name());
        let mut parts = vec![format!("{executed} executed"), format!("{cached} cached")];
        parts.extend((*failed > 0).then(|| format!("{failed} failed")));
        parts.extend((*blocked > 0).then(|| format!("{blocked} blocked")));
        let saved = if *saved_seconds >= 1.0 {
            format!(", {} saved by the cache", seconds(*saved_seconds))
        } else {
            String::new()
        };
        self.say(format!("{word} in {}: {}{saved}", seconds(*spent), parts.join(", ")));
        if *outcome == RunOutcome::Interrupted {
            self.say("what was finished is kept; the same command goes on from there");
        }
    }
}

fn spinner() -> ProgressStyle {
    style("{spinner} {prefix} {wide_msg}")
}

fn counted_bar(unit: &str) -> ProgressStyle {
    style(&format!("{{spinner}} {{prefix}} {{bar:16}} {{pos}}/{{len}} {unit} {{eta}} left {{wide_msg}}"))
}

fn bytes_bar() -> ProgressStyle {
    style("{spinner} {prefix} {bar:16} {bytes}/{total_bytes} {eta} left {wide_msg}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are whole").progress_chars("━╸─")
}
