//! The worker for what needs tensors: describes itself and hands each request to the module of its kind.

use std::process::ExitCode;

use neftpipe_protocol::question::Question;
use neftpipe_protocol::request::Describe;
use neftpipe_protocol::worker::{Job, Outcome, Worker, description, run};
use neftpipe_protocol::{Failure, Kind};
use neftpipe_stage_torch::device::Devices;
use neftpipe_stage_torch::{generate, merge, score, train};
use serde_json::{Value, to_value};

/// The kinds that this program carries out. Of `judge` it does the scoring of pairs alone: see `neftpipe_protocol::scoring`.
const KINDS: &[Kind] = &[Kind::Train, Kind::Generate, Kind::Judge];

struct TorchWorker {
    devices: Devices,
}

impl Worker for TorchWorker {
    fn describe(&self) -> Describe {
        let name = concat!("neftpipe-stage-torch ", env!("CARGO_PKG_VERSION"));
        description(name, KINDS, self.devices.facts())
    }

    fn answer(&self, question: &Question) -> Result<Value, Failure> {
        let answer = match question {
            Question::Merge(question) => to_value(merge::merge(question)?),
            Question::Try(question) => to_value(train::trial::run(question, &self.devices)?),
        };
        answer.map_err(|error| Failure::internal(format!("the answer does not serialise: {error}")))
    }

    fn execute(&self, job: &Job) -> Result<Outcome, Failure> {
        tch::set_num_threads(job.request.threads.max(1) as i32);
        match job.request.kind {
            Kind::Train => train::run(job, &self.devices),
            Kind::Generate => generate::run(job, &self.devices),
            Kind::Judge => score::run(job, &self.devices),
            kind => Err(Failure::internal(format!("`{kind}` is not a stage for the worker that needs tensors"))),
        }
    }
}

fn main() -> ExitCode {
    run(&TorchWorker { devices: Devices::find() })
}
