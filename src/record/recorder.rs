//! Writing a run down while it goes on.
//!
//! The parameters of ten thousand instances are not copied for that: the record looks into the pipeline until it is written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure, Kind};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{JOURNAL, RECORD, RunRecord, TIME_FORMAT};
use crate::engine::event::{Event, EventBody, StageOutcome};
use crate::process::Process;
use crate::spec::model::{Instance, Pipeline, Settled};

/// Writes down one run while it goes on. Where nothing has to be done, it is written down once, at the end.
#[derive(Debug)]
pub struct Recorder<'p> {
    folder: PathBuf,
    journal: BufWriter<File>,
    /// The last line of it.
    line: Vec<u8>,
    record: RunRecord<Stages<'p>>,
    /// Whether others can see the run already.
    shown: bool,
}

/// Instances of a pipeline, by name, and how each ended.
#[derive(Debug)]
struct Stages<'p> {
    pipeline: &'p Pipeline,
    ends: IndexMap<&'p str, (usize, End)>,
}

#[derive(Debug, Default)]
struct End {
    key: Option<Digest>,
    outcome: Option<StageOutcome>,
    seconds: Option<f64>,
}

/// A [`super::StageRecord`] as it is written.
#[derive(Serialize)]
struct StageView<'p> {
    kind: Kind,
    axes: &'p IndexMap<String, Value>,
    label: &'p Option<String>,
    params: &'p Settled,
    inputs: IndexMap<&'p str, Vec<(&'p str, &'p str)>>,
    key: Option<Digest>,
    outcome: &'p Option<StageOutcome>,
    seconds: Option<f64>,
}

impl<'p> Recorder<'p> {
    /// Begins the record of a run of these instances.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(
        runs: &Path,
        id: &str,
        pipeline: &'p Pipeline,
        chosen: impl Iterator<Item = usize>,
    ) -> Result<Self, Failure> {
        let folder = runs.join(id);
        fs::create_dir_all(&folder).map_err(|error| io_failure("create", &folder, &error))?;
        let path = folder.join(JOURNAL);
        let journal = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| io_failure("write", &path, &error))?;
        let bytes = fs::read(&pipeline.file).map_err(|error| io_failure("read", &pipeline.file, &error))?;
        let record = RunRecord {
            version: 1,
            run: id.to_owned(),
            pipeline: pipeline.name.clone(),
            file: pipeline.file.clone(),
            file_digest: Digest::of(&bytes),
            started: jiff::Timestamp::now().strftime(TIME_FORMAT).to_string(),
            process: Some(Process::current()),
            outcome: None,
            counts: None,
            seconds: None,
            stages: Stages::new(pipeline, chosen),
        };
        Ok(Self { folder, journal: BufWriter::new(journal), line: Vec::new(), record, shown: false })
    }

    /// Writes an event down. The journal is for people: where it cannot be written the run goes on and says so once
    /// at its end.
    pub fn note(&mut self, event: &Event) {
        if let Err(error) = self.write_event(event) {
            tracing::warn!("{}: {error}", self.folder.join(JOURNAL).display());
        }
        match &event.body {
            EventBody::StageFinished { stage, key, outcome, seconds, .. } => {
                if let Some((_, end)) = self.record.stages.ends.get_mut(stage.as_str()) {
                    *end = End { key: *key, outcome: Some(outcome.clone()), seconds: Some(*seconds) };
                }
            }
            EventBody::RunFinished { outcome, seconds, counts, .. } => {
                self.record.outcome = Some(*outcome);
                self.record.counts = Some(*counts);
                self.record.seconds = Some(*seconds);
            }
            _ => {}
        }
    }

    /// Events that come by the thousand before anything begins may wait; all others are there for who follows the run.
    fn write_event(&mut self, event: &Event) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)?;
        self.line.push(b'\n');
        self.journal.write_all(&self.line)?;
        if is_of_work(&event.body) {
            self.journal.flush()?;
            if !std::mem::replace(&mut self.shown, true) {
                self.write_record().map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Writes down how everything ended.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(mut self) -> Result<(), Failure> {
        let journal = self.folder.join(JOURNAL);
        self.journal.flush().map_err(|error| io_failure("write", &journal, &error))?;
        self.write_record()
    }

    /// Not forced to the disk: a run that is not there after a power cut, or not whole, is told from its journal.
    fn write_record(&self) -> Result<(), Failure> {
        let path = self.folder.join(RECORD);
        let partial = path.with_extension("partial");
        let write = || {
            let mut file = BufWriter::new(File::create(&partial)?);
            serde_json::to_writer(&mut file, &self.record)?;
            file.flush()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|error| io_failure("write", &path, &error))
    }
}

/// Whether an event tells of work, and not of results that were there.
fn is_of_work(event: &EventBody) -> bool {
    use EventBody::{RunFinished, RunStarted, StageFinished};
    !matches!(event, RunStarted { .. } | RunFinished { .. } | StageFinished { outcome: StageOutcome::Cached, .. })
}

impl<'p> Stages<'p> {
    fn new(pipeline: &'p Pipeline, chosen: impl Iterator<Item = usize>) -> Self {
        let ends = chosen.map(|index| (pipeline.instances[index].id.as_str(), (index, End::default())));
        Self { pipeline, ends: ends.collect() }
    }

    fn view<'v>(&'v self, instance: &'v Instance, end: &'v End) -> StageView<'v> {
        let inputs = instance.inputs.iter().map(|(slot, inputs)| {
            let made_by =
                inputs.iter().map(|input| (self.pipeline.instances[input.instance].id.as_str(), input.output.as_str()));
            (slot.as_str(), made_by.collect())
        });
        StageView {
            kind: instance.kind,
            axes: &instance.axes,
            label: &instance.label,
            params: &instance.params,
            inputs: inputs.collect(),
            key: end.key,
            outcome: &end.outcome,
            seconds: end.seconds,
        }
    }
}

impl Serialize for Stages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let instances = &self.pipeline.instances;
        serializer.collect_map(self.ends.iter().map(|(id, (index, end))| (id, self.view(&instances[*index], end))))
    }
}
