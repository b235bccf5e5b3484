//! Following who does the same work: its progress is ours while we wait for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use neftpipe_protocol::event::{Event, EventBody};
use neftpipe_protocol::request::EVENTS_FILE;

use super::attempt;
use crate::exec::Tail;
use crate::store::{Holder, Store};

/// The attempt of another process.
pub struct Followed {
    /// Who makes it, where that is known.
    pub holder: Option<Holder>,
    events: Option<PathBuf>,
    /// The log, and the file that it is: each attempt has its own.
    tail: Option<(u64, Tail)>,
}

impl Followed {
    /// What this holder of a lock does.
    pub fn new(store: &Store, holder: Option<Holder>) -> Self {
        let events = holder.as_ref().and_then(|Holder { run, stage, .. }| {
            Some(attempt::of_stage(store, run, stage.as_ref()?).join(EVENTS_FILE))
        });
        Self { holder, events, tail: None }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        self.holder.as_ref().map_or_else(|| "another run".to_owned(), ToString::to_string)
    }

    /// The newest progress and the newest figures since the last call.
    pub fn news(&mut self) -> impl Iterator<Item = EventBody> {
        let (mut progress, mut metric) = (None, None);
        if let Some(tail) = self.tail() {
            tail.read(&mut |event: Event| match event.body {
                body @ EventBody::Progress { .. } => progress = Some(body),
                body @ EventBody::Metric { .. } => metric = Some(body),
                _ => {}
            });
        }
        [progress, metric].into_iter().flatten()
    }

    fn tail(&mut self) -> Option<&mut Tail> {
        let path: &Path = self.events.as_ref()?;
        let inode = fs::metadata(path).ok()?.ino();
        if self.tail.as_ref().is_none_or(|(known, _)| *known != inode) {
            self.tail = Some((inode, Tail::open(path)));
        }
        self.tail.as_mut().map(|(_, tail)| tail)
    }
}
