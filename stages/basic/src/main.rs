//! The worker for the stages that need no tensors: download, tokenize, judge and report.
//!
//! This file only says which kinds there are and hands a job to its module. Each kind lives in a module of its own and
//! knows nothing of the others, nor of the store: inputs arrive as paths, outputs are left in the job's folder.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clip;
mod download;
mod jsonl;
mod judge;
mod report;
mod tokenize;
mod web;

use std::process::ExitCode;

use mimalloc::MiMalloc;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::event::EventBody;
use neftpipe_protocol::request::Describe;
use neftpipe_protocol::worker::{self, Job, Outcome, Worker};
use neftpipe_protocol::{Failure, Kind};
use serde_json::Value;

/// A third of tokenizing is taking and giving back small memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The program's name in descriptions and provenance.
const NAME: &str = env!("CARGO_PKG_NAME");
/// The program's version in descriptions and provenance.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What it carries out.
const KINDS: &[Kind] = &[Kind::Download, Kind::Tokenize, Kind::Judge, Kind::Report];

struct Basic;

impl Worker for Basic {
    fn describe(&self) -> Describe {
        let facts: Metrics = [("version".to_owned(), Value::from(VERSION))].into_iter().collect();
        worker::description(NAME, KINDS, facts)
    }

    fn execute(&self, job: &Job) -> Result<Outcome, Failure> {
        job.emit(EventBody::Started { device: None });
        limit_threads(job.request.threads)?;
        match job.request.kind {
            Kind::Download => download::execute(job),
            Kind::Tokenize => tokenize::execute(job),
            Kind::Judge => judge::execute(job),
            Kind::Report => report::execute(job),
            other => Err(Failure::internal(format!("{NAME} does not carry out {other}"))),
        }
    }
}

/// Gives rayon as many threads as the stage may use.
fn limit_threads(threads: usize) -> Result<(), Failure> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build_global()
        .map_err(|error| Failure::environment(format!("{threads} threads cannot be started: {error}")))
}

fn main() -> ExitCode {
    worker::run(&Basic)
}
