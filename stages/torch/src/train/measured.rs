//! What differs from run to run: speed and memory.

use std::time::{Duration, Instant};

use neftpipe_protocol::artifact::Metrics;
use serde_json::json;
use tch::Device;

use crate::measure::peak_memory_bytes;

/// Steps that warm caches and allocators up and are left out of the rate.
const WARM_UP_STEPS: u64 = 2;

/// Counts tokens and time of the steps that this process computes.
#[derive(Debug, Default)]
pub struct Meter {
    started: Option<Instant>,
    last: Option<(u64, Duration)>,
    steps: u64,
    tokens: u64,
    time: Duration,
}

impl Meter {
    /// A step begins.
    pub fn start_step(&mut self) {
        self.started = Some(Instant::now());
    }

    /// A step of so many real tokens ended.
    pub fn end_step(&mut self, tokens: u64) {
        let elapsed = self.started.take().map_or(Duration::ZERO, |started| started.elapsed());
        self.last = Some((tokens, elapsed)).filter(|_| !elapsed.is_zero());
        self.steps += 1;
        if self.steps > WARM_UP_STEPS {
            self.tokens += tokens;
            self.time += elapsed;
        }
    }

    /// Real tokens a second without the first two steps; none where there were no others.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (!self.time.is_zero()).then(|| self.tokens as f64 / self.time.as_secs_f64())
    }

    /// Speed of the last step and memory so far.
    pub fn figures_of_step(&self, device: Device) -> Metrics {
        let rate = self.last.map(|(tokens, time)| tokens as f64 / time.as_secs_f64());
        let figures = [("tokens_per_second", json!(rate)), ("peak_memory_bytes", json!(peak_memory_bytes(device)))];
        figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The figures of a run that was asked for some steps, computed some and took others from a checkpoint.
    pub fn figures(&self, device: Device, steps_asked: u64, steps_computed: u64, steps_reused: u64) -> Metrics {
        let figures = [
            ("steps_asked", json!(steps_asked)),
            ("steps_computed", json!(steps_computed)),
            ("steps_reused", json!(steps_reused)),
            ("tokens_per_second", json!(self.tokens_per_second())),
            ("peak_memory_bytes", json!(peak_memory_bytes(device))),
        ];
        figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
