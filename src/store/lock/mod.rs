//! Locks that die with their process: nothing ever has to be unlocked by hand.
//!
//! On a file system of this machine a lock is a file that the operating system locks for its holder ([`os`]): exact,
//! and gone the moment the holder is. On a network file system such locks may hang, fail, or hold on one machine only,
//! and a lock is a lease ([`lease`]): a file that says who holds it, and that its holder touches while it lives. Which it
//! is depends on what the store lies on; everything that is not known to be local is taken for a network.
//!
//! What a lease cannot do: a holder on another machine that dies is found out only when its lease has not been touched
//! for a minute, and one that is suspended for longer than that and wakes up does not know that it lost its lease. Then
//! work may be done twice, or a blob be collected that was just found; results stay whole all the same, since they are
//! published atomically and a hit needs every blob. Programs on a file server and its clients must not use a store at
//! the same time, for the server takes its own disk for local.

mod lease;
mod os;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neftpipe_protocol::Digest;
use serde::{Deserialize, Serialize};

use super::error::Result;
use super::{Store, layout};
use crate::process::{Life, Process};
use lease::Leases;

/// How long to wait before a busy guard is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Who holds a lock, as others read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub process: Process,
    /// The run that it carries out.
    pub run: String,
    /// What of the run it holds the lock for.
    #[serde(default)]
    pub stage: Option<String>,
}

impl Holder {
    /// This process, for a run.
    pub fn of_run(run: &str) -> Self {
        Self { process: Process::current(), run: run.to_owned(), stage: None }
    }

    /// This process, for a stage of a run.
    pub fn of_stage(run: &str, stage: &str) -> Self {
        Self { stage: Some(stage.to_owned()), ..Self::of_run(run) }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}", self.run)?;
        if self.process.life() == Life::Elsewhere { write!(f, " on {}", self.process.host) } else { Ok(()) }
    }
}

/// How a store locks.
#[derive(Debug, Clone)]
pub enum Locking {
    /// With locks of the operating system.
    Os,
    /// With leases.
    Leases(Arc<Leases>),
}

impl Locking {
    /// What fits the file system of this folder.
    pub fn fit_for(folder: &Path) -> Self {
        if os::is_local(folder) { Self::Os } else { Self::leases() }
    }

    /// Leases, whatever the file system.
    pub fn leases() -> Self {
        Self::Leases(Arc::default())
    }
}

/// A lock that is held. Dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    _held: Box<dyn fmt::Debug + Send + Sync>,
}

impl Lock {
    fn new(held: impl fmt::Debug + Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

/// What a try to lock came to.
#[derive(Debug)]
pub enum Waiting {
    /// It is ours.
    Held(Lock),
    /// Someone else has it. Who, is not known where he is about to write it down.
    Busy(Option<Holder>),
}

impl Store {
    /// Tries to lock a key.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn try_lock(&self, key: &Digest, holder: &Holder) -> Result<Waiting> {
        self.try_lock_file(&self.fanned(layout::LOCKS, key, ""), holder)
    }

    /// Tries to lock the file of this path, which belongs to the lock alone.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn try_lock_file(&self, path: &Path, holder: &Holder) -> Result<Waiting> {
        super::files::ensure_parent(path)?;
        let tried = match &self.locking {
            Locking::Os => os::Lock::attempt(path, holder)?.map(Lock::new),
            Locking::Leases(leases) => leases.attempt(path, holder)?.map(Lock::new),
        };
        Ok(tried.map_or_else(Waiting::Busy, Waiting::Held))
    }

    /// Whether someone holds the lock of this path. Looking does not take it from anyone who tries.
    ///
    /// # Errors
    /// Where that cannot be found out.
    pub fn is_locked(&self, path: &Path) -> Result<bool> {
        match &self.locking {
            Locking::Os => os::is_held(path),
            Locking::Leases(_) => lease::is_held(path),
        }
    }

    /// To be held from the first [`Store::ingest`] of a result until it is published: it keeps the collector out. All
    /// who publish can hold it together.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn publishing(&self) -> Result<Lock> {
        Ok(match &self.locking {
            Locking::Os => Lock::new(os::shared(&self.path(layout::COLLECTOR))?),
            Locking::Leases(leases) => Lock::new(leases.share(&self.path(layout::COLLECTOR_LEASES))?),
        })
    }

    /// Keeps all out that publish.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn collecting(&self) -> Result<Lock> {
        Ok(match &self.locking {
            Locking::Os => Lock::new(os::exclusive(&self.path(layout::COLLECTOR))?),
            Locking::Leases(leases) => Lock::new(leases.exclude(&self.path(layout::COLLECTOR_LEASES))?),
        })
    }
}
