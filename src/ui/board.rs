//! What is at work in a run, and how fast: the lines that people watch.

use std::collections::VecDeque;

use indexmap::IndexMap;

use super::live::Scene;
use super::table::{bytes, clip, seconds};

/// The pace is that of this span.
const WINDOW_MS: u64 = 30_000;
/// A name is cut to this before anything that is said of it is left out.
const NAME: usize = 24;

/// Stages at work, and what became of the others.
#[derive(Debug, Default)]
pub struct Board {
    at_work: IndexMap<String, Work>,
    tally: Tally,
    began_ms: u64,
}

#[derive(Debug, Default)]
struct Tally {
    stages: usize,
    done: usize,
    cached: usize,
    failed: usize,
}

/// One stage at work.
#[derive(Debug, Default)]
pub struct Work {
    began_ms: u64,
    /// When so much was done, within the window.
    past: VecDeque<(u64, u64)>,
    total: Option<u64>,
    unit: String,
    /// What is said beside the figures: a loss, for whom it waits.
    note: String,
}

impl Board {
    /// A run of so many stages begins.
    pub fn begin(&mut self, stages: usize, now_ms: u64) {
        self.tally.stages = stages;
        self.began_ms = now_ms;
    }

    /// A stage begins, or begins anew.
    pub fn start(&mut self, stage: &str, note: &str, now_ms: u64) {
        let work = Work { began_ms: now_ms, note: note.to_owned(), ..Work::default() };
        self.at_work.insert(stage.to_owned(), work);
    }

    /// So much of a stage is done.
    pub fn advance(&mut self, stage: &str, done: u64, total: Option<u64>, unit: &str, now_ms: u64) {
        let Some(work) = self.at_work.get_mut(stage) else { return };
        work.total = total;
        unit.clone_into(&mut work.unit);
        work.past.push_back((now_ms, done));
        while work.past.len() > 2 && now_ms.saturating_sub(work.past[0].0) > WINDOW_MS {
            work.past.pop_front();
        }
    }

    /// Something to say beside the figures of a stage.
    pub fn remark(&mut self, stage: &str, note: &str) {
        if let Some(work) = self.at_work.get_mut(stage) {
            note.clone_into(&mut work.note);
        }
    }

    /// A stage is done with.
    pub fn finish(&mut self, stage: &str, is_cached: bool, is_failed: bool) {
        self.at_work.shift_remove(stage);
        self.tally.done += 1;
        self.tally.cached += usize::from(is_cached);
        self.tally.failed += usize::from(is_failed);
    }

    /// What is known of a stage at work, in the order of its worth.
    pub fn figures(&self, stage: &str, now_ms: u64) -> Vec<String> {
        self.at_work.get(stage).map_or_else(Vec::new, |work| work.figures(now_ms))
    }

    fn lines_at(&self, width: usize, height: usize, now_ms: u64) -> Vec<String> {
        if self.at_work.is_empty() {
            return Vec::new();
        }
        let room = height.saturating_sub(2).max(1);
        let longest = self.at_work.keys().take(room).map(|id| id.chars().count()).max().unwrap_or(0);
        let mut lines: Vec<String> = Vec::new();
        for (id, work) in self.at_work.iter().take(room) {
            lines.push(line(id, longest, &work.figures(now_ms), width));
        }
        if self.at_work.len() > room {
            lines.push(clip(&format!("and {} more", self.at_work.len() - room), width));
        }
        lines.push(clip(&self.sum(now_ms), width));
        lines
    }

    fn sum(&self, now_ms: u64) -> String {
        let Tally { stages, done, cached, failed } = self.tally;
        let mut parts = vec![format!("{done} of {stages} done")];
        parts.extend((cached > 0).then(|| format!("{cached} cached")));
        parts.extend((failed > 0).then(|| format!("{failed} failed")));
        parts.push(format!("{} at work", self.at_work.len()));
        parts.push(seconds(now_ms.saturating_sub(self.began_ms) as f64 / 1000.0));
        parts.join(" · ")
    }
}

impl Scene for Board {
    fn lines(&self, width: usize, height: usize) -> Vec<String> {
        self.lines_at(width, height, jiff::Timestamp::now().as_millisecond().max(0) as u64)
    }
}

impl Work {
    fn figures(&self, now_ms: u64) -> Vec<String> {
        let mut figures = Vec::new();
        let done = self.past.back().map_or(0, |&(_, done)| done);
        match self.total {
            _ if self.past.is_empty() => figures.push(seconds(now_ms.saturating_sub(self.began_ms) as f64 / 1000.0)),
            Some(total) if self.unit == "bytes" => figures.push(format!("{} of {}", bytes(done), bytes(total))),
            Some(total) => figures.push(format!("{done}/{total} {}", self.unit)),
            None if self.unit == "bytes" => figures.push(bytes(done)),
            None => figures.push(format!("{done} {}", self.unit)),
        }
        if let Some(pace) = self.pace() {
            let left = self.total.map(|total| total.saturating_sub(done) as f64 / pace);
            let since = self.past.back().map_or(0, |&(at, _)| now_ms.saturating_sub(at)) as f64 / 1000.0;
            figures.extend(left.map(|left| format!("{} left", seconds((left - since).max(0.0)))));
            figures.push(if self.unit == "bytes" {
                format!("{}/s", bytes(pace as u64))
            } else {
                format!("{}/s", rate(pace))
            });
        }
        figures.extend((!self.note.is_empty()).then(|| self.note.clone()));
        figures
    }

    /// Units a second.
    fn pace(&self) -> Option<f64> {
        let (&(from_ms, from), &(to_ms, to)) = (self.past.front()?, self.past.back()?);
        let (span, done) = (to_ms.saturating_sub(from_ms) as f64 / 1000.0, to.saturating_sub(from) as f64);
        (span > 0.0 && done > 0.0).then(|| done / span)
    }
}

fn rate(pace: f64) -> String {
    if pace >= 10.0 {
        format!("{pace:.0}")
    } else if pace >= 0.1 {
        format!("{pace:.1}")
    } else {
        format!("{pace:.3}")
    }
}

/// A name and what is said of it, as much of that as fits beside the name, cut if need be.
fn line(name: &str, longest: usize, figures: &[String], width: usize) -> String {
    for said in (0..=figures.len()).rev() {
        let facts = figures[..said].join(" · ");
        let left = width.saturating_sub(facts.chars().count() + 2);
        if left >= longest.min(NAME) || said == 0 {
            let column = longest.min(left);
            let line = format!("{:<column$}  {facts}", clip_middle(name, column));
            return line.trim_end().chars().take(width).collect();
        }
    }
    String::new()
}

/// At most `width` characters, the middle left out: the end of an instance's name tells it from its sisters.
fn clip_middle(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let end = width.saturating_sub(1) * 2 / 3;
    let begin = width.saturating_sub(1) - end;
    text.chars().take(begin).chain(['…'].into_iter().take(width)).chain(text.chars().skip(count - end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(stages: usize) -> Board {
        let mut board = Board::default();
        board.begin(stages + 3, 0);
        board.finish("model", true, false);
        for index in 0..stages {
            let id = format!("train[variant=neft5-step,dataset=alpaca,seed={index}]");
            board.start(&id, "", 1000);
            board.advance(&id, 0, Some(400), "steps", 2000);
            board.advance(&id, 100, Some(400), "steps", 12_000);
            board.remark(&id, "loss 2.103");
        }
        board
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let lines = board(1).lines_at(120, 24, 12_000);
        assert_eq!(
            lines,
            [
                "train[variant=neft5-step,dataset=alpaca,seed=0]  100/400 steps · 30s left · 10/s · loss 2.103",
                "1 of 4 done · 1 cached · 1 at work · 12s"
            ]
        );
        assert_eq!(board(1).lines_at(59, 24, 12_000)[0], "train[var…t=alpaca,seed=0]  100/400 steps · 30s left · 10/s");
    }

    #[test]
    fn nothing_is_wider_or_higher_than_the_window() {
        for (width, height) in [(200, 50), (59, 23), (40, 5), (20, 3), (5, 2), (1, 1)] {
            for stages in [0, 1, 7, 300] {
                let lines = board(stages).lines_at(width, height, 15_000);
                assert!(lines.len() <= height.max(3), "{width}x{height}: {lines:?}");
                assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}x{height}: {lines:?}");
            }
        }
    }

    #[test]
    fn a_stage_that_says_nothing_tells_its_time() {
        let mut board = Board::default();
        board.begin(1, 0);
        board.start("plot", "", 0);
        assert_eq!(board.lines_at(80, 24, 65_000), ["plot  1m05s", "0 of 1 done · 1 at work · 1m05s"]);
        board.advance("plot", 5_000_000, None, "bytes", 66_000);
        assert_eq!(board.figures("plot", 66_000), ["5.0 MB"]);
    }
}
