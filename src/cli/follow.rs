//! Logs as they grow: the lines of a run, and what its stages print.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;

use super::{CliError, CliResult, Context};
use crate::engine::event::{Event, EventBody, RunOutcome, StageOutcome};
use crate::exec::{STDERR_FILE, STDOUT_FILE, Tail};
use crate::exit::Exit;
use crate::record::{self, RunRecord, RunState};
use crate::store::Store;
use crate::ui::printer::{DIM, HEADING, styled};
use crate::ui::progress::Progress;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Shows a run as its own terminal does. To the end, if `follow`, with the run's exit code.
pub(super) fn run(context: &Context, store: &Store, run: &RunRecord, follow: bool) -> CliResult {
    let mut journal = Tail::open(&record::journal_of(&store.runs_dir(), &run.run));
    let mut progress = Progress::as_result(context.printer);
    let (mut classes, mut outcome) = (Vec::new(), None);
    loop {
        let mut closed = Ok(());
        let goes_on = follow && RunState::of(store, run)? == RunState::Running;
        journal.read(&mut |event: Event| {
            match &event.body {
                EventBody::StageFinished { outcome: StageOutcome::Failed { class, .. }, .. } => classes.push(*class),
                EventBody::RunFinished { outcome: how, .. } => outcome = Some(*how),
                _ => {}
            }
            progress.show(&event);
            if context.printer.is_json() && closed.is_ok() {
                closed = context.printer.json(&event);
            }
        });
        closed?;
        match outcome {
            Some(_) if !follow => return Ok(Exit::Success),
            Some(RunOutcome::Succeeded) => return Ok(Exit::Success),
            Some(RunOutcome::Interrupted) => return Ok(Exit::Interrupted),
            Some(RunOutcome::Failed) => return Ok(Exit::of_failures(classes)),
            None if goes_on => std::thread::sleep(LOOK_AGAIN),
            None if follow => return Err(killed(run)),
            None => return Ok(Exit::Success),
        }
    }
}

fn killed(run: &RunRecord) -> CliError {
    Failure::environment(format!("run {} was killed", run.run))
        .with_hint(format!("`neftpipe run {}` goes on from what is kept", run.file.display()))
        .into()
}

/// What one stage prints.
pub(super) struct StageLog {
    /// The instance.
    pub id: String,
    /// Where its files may be: the first folder that has them counts.
    folders: Vec<PathBuf>,
    streams: [Stream; 2],
    is_over: bool,
}

/// One file, which is moved when the stage ends and made anew when it is tried again.
struct Stream {
    name: &'static str,
    open: Option<(File, u64)>,
}

impl StageLog {
    /// The log of an instance, to be looked for in these folders.
    pub(super) fn new(id: String, folders: Vec<PathBuf>) -> Self {
        let streams = [STDERR_FILE, STDOUT_FILE].map(|name| Stream { name, open: None });
        Self { id, folders, streams, is_over: false }
    }

    /// The folder with its files, where there is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        let has_files = |folder: &&PathBuf| self.streams.iter().any(|stream| folder.join(stream.name).exists());
        self.folders.iter().find(has_files).map(PathBuf::as_path)
    }

    /// What was printed since the last call.
    fn news(&mut self) -> Result<Vec<u8>, Failure> {
        let mut news = Vec::new();
        for stream in &mut self.streams {
            stream.read(&mut news)?; // what was open has moved or is the same
            let paths = self.folders.iter().map(|folder| folder.join(stream.name));
            if let Some(path) = paths.into_iter().find(|path| path.exists()) {
                stream.turn_to(&path)?;
                stream.read(&mut news)?;
            }
        }
        Ok(news)
    }
}

impl Stream {
    fn turn_to(&mut self, path: &Path) -> Result<(), Failure> {
        let failure = |error: std::io::Error| io_failure("read", path, &error);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failure(error)),
        };
        let inode = file.metadata().map_err(failure)?.ino();
        if self.open.as_ref().is_none_or(|(_, known)| *known != inode) {
            self.open = Some((file, inode));
        }
        Ok(())
    }

    fn read(&mut self, news: &mut Vec<u8>) -> Result<(), Failure> {
        let Some((file, _)) = &mut self.open else { return Ok(()) };
        file.read_to_end(news).map(drop).map_err(|error| io_failure("read", Path::new(self.name), &error))
    }
}

/// Prints what is there of a log.
pub(super) fn print(context: &Context, mut log: StageLog) -> CliResult {
    introduce(context, &log);
    let news = log.news()?;
    context.printer.bytes(&news)?;
    if news.is_empty() {
        context.printer.note(styled(DIM, "it printed nothing"));
    }
    Ok(Exit::Success)
}

/// Prints the logs of stages; if `follow`, as they grow, until all of them have ended or the run has.
pub(super) fn stages(
    context: &Context,
    store: &Store,
    run: &RunRecord,
    mut logs: Vec<StageLog>,
    follow: bool,
) -> CliResult {
    if !follow || RunState::of(store, run)? != RunState::Running {
        for log in logs {
            match log.folder() {
                None => context.printer.note(styled(DIM, format!("{}: it did not start", log.id))),
                Some(_) => {
                    print(context, log)?;
                }
            }
        }
        return Ok(Exit::Success);
    }
    let mut journal = Tail::open(&record::journal_of(&store.runs_dir(), &run.run));
    let mut last = String::new();
    loop {
        let goes_on = RunState::of(store, run)? == RunState::Running;
        journal.read(&mut |event: Event| {
            if let EventBody::StageFinished { stage, .. } = &event.body {
                logs.iter_mut().filter(|log| log.id == *stage).for_each(|log| log.is_over = true);
            }
        });
        for log in &mut logs {
            let news = log.news()?;
            if !news.is_empty() && last != log.id {
                introduce(context, log);
                last.clone_from(&log.id);
            }
            context.printer.bytes(&news)?;
        }
        logs.retain(|log| !log.is_over);
        if !goes_on || logs.is_empty() {
            return Ok(Exit::Success);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn introduce(context: &Context, log: &StageLog) {
    let folder = log.folder().unwrap_or(Path::new("")).display();
    context.printer.note(format!("{} {}", styled(HEADING, format!("── {}", log.id)), styled(DIM, folder)));
}
