//! The line between a stage's thread and the dispatcher: what happens, and the room on the machine that the stage has.
//!
//! A stage that only waits (for the same work elsewhere, for the next attempt) gives its room to others meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use super::dispatcher::News;
use super::event::EventBody;
use super::stage::Ended;
use crate::exec::{Grant, Level, Stop};

/// How often a wish to stop is noticed by who waits.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One stage's end of the line.
pub struct Room {
    index: usize,
    dispatcher: Sender<News>,
    grant: Option<Grant>,
    stop: Stop,
    is_ending: Arc<AtomicBool>,
}

impl Room {
    /// The line of an instance that was granted room. `is_ending` says that the run begins nothing more.
    pub fn new(index: usize, dispatcher: Sender<News>, grant: Grant, stop: Stop, is_ending: Arc<AtomicBool>) -> Self {
        Self { index, dispatcher, grant: Some(grant), stop, is_ending }
    }

    /// Says what happens. The dispatcher outlives its stages, so that it is heard.
    pub fn tell(&self, body: EventBody) {
        drop(self.dispatcher.send(News::Event(body)));
    }

    /// What the stage may use.
    pub fn grant(&self) -> &Grant {
        self.grant.as_ref().expect("a stage works in the room that it has entered")
    }

    /// Gives the room to others.
    pub fn leave(&mut self) {
        if let Some(grant) = self.grant.take() {
            drop(self.dispatcher.send(News::Left(grant)));
        }
    }

    /// Waits for room again, if it was left. False where the run ends before there is any.
    pub fn enter(&mut self) -> bool {
        if self.grant.is_none() {
            let (granting, granted) = mpsc::channel();
            drop(self.dispatcher.send(News::Wants(self.index, granting)));
            self.grant = granted.recv().ok();
        }
        self.grant.is_some()
    }

    /// Sleeps outside the room, and says whether the run goes on.
    pub fn sleep(&mut self, span: Duration) -> bool {
        self.leave();
        let until = Instant::now() + span;
        while !self.is_over() && Instant::now() < until {
            std::thread::sleep(LOOK_AGAIN.min(until.saturating_duration_since(Instant::now())));
        }
        !self.is_over()
    }

    /// Whether the run begins nothing more.
    pub fn is_over(&self) -> bool {
        self.stop.level() > Level::Run || self.is_ending.load(Ordering::Relaxed)
    }

    /// The stage has ended. Its room goes with that, not before: what it came to may decide who has it next.
    pub fn close(self, ended: Ended) {
        drop(self.dispatcher.send(News::Ended(self.index, Box::new(ended), self.grant)));
    }
}
