//! Leases: lock files that say who holds them, and that their holder touches while it lives.
//!
//! A lease is taken by making its file, which one process succeeds in, on network file systems too. It is void once its
//! holder is known to be dead: at once where the holder is of this machine, else when it was not touched for
//! [`VOID_AFTER`]. Ages are told by the clock of the file system alone, so that the clocks of the machines do not matter.
//! A file is opened to be looked at, and a folder is written to before it is listed: a client of NFS asks the server then,
//! and not its own memory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use serde::{Deserialize, Serialize};

use super::{Holder, TRY_AGAIN};
use crate::process::Life;
use crate::store::error::{Result, StoreError};
use crate::store::files::remove_file;

/// How often a holder touches its leases.
const TOUCHED_EVERY: Duration = Duration::from_secs(10);
/// A lease of another machine that was not touched for this long is void.
const VOID_AFTER: Duration = Duration::from_secs(60);

/// The collector's lease, in the folder of those who publish.
const COLLECTING: &str = "collecting";

/// The leases that this process holds in one store.
#[derive(Debug, Default)]
pub struct Leases {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<PathBuf, File>,
    /// A thread touches them.
    is_kept: bool,
}

/// What a lease file says. Two leases never say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    holder: Holder,
    serial: u64,
}

/// A lease that is held.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    record: Record,
    leases: Arc<Leases>,
}

impl Leases {
    /// Tries to take the lease of this path. Where someone else has it: who.
    pub fn attempt(
        self: &Arc<Self>,
        path: &Path,
        holder: &Holder,
    ) -> Result<std::result::Result<Lease, Option<Holder>>> {
        loop {
            if let Some(lease) = self.make(path, holder)? {
                return Ok(Ok(lease));
            }
            match look(path)? {
                None => {}
                Some(found) if found.is_void && take_away(path, &found)? => {}
                Some(found) => return Ok(Err(found.record.map(|record| record.holder))),
            }
        }
    }

    /// A share in the guard whose folder this is.
    pub fn share(self: &Arc<Self>, folder: &Path) -> Result<Lease> {
        let holder = Holder::of_run("");
        let name = format!("{}-{}-{}", holder.process.pid, holder.process.started, next_serial());
        loop {
            let share = self.make_in(folder, &name, &holder)?;
            if !others(folder, |other| other == COLLECTING)? {
                return Ok(share);
            }
            drop(share);
            std::thread::sleep(TRY_AGAIN);
        }
    }

    /// The whole of the guard whose folder this is.
    pub fn exclude(self: &Arc<Self>, folder: &Path) -> Result<Lease> {
        let holder = Holder::of_run("");
        let alone = self.make_in(folder, COLLECTING, &holder)?;
        while others(folder, |other| other != COLLECTING)? {
            std::thread::sleep(TRY_AGAIN);
        }
        Ok(alone)
    }

    /// Takes the lease of this name as soon as nobody else has it.
    fn make_in(self: &Arc<Self>, folder: &Path, name: &str, holder: &Holder) -> Result<Lease> {
        fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        loop {
            match self.attempt(&folder.join(name), holder)? {
                Ok(lease) => return Ok(lease),
                Err(_) => std::thread::sleep(TRY_AGAIN),
            }
        }
    }

    /// Makes the file of a lease. None where there is one already.
    fn make(self: &Arc<Self>, path: &Path, holder: &Holder) -> Result<Option<Lease>> {
        let mut file = match File::create_new(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(StoreError::io("lock", path)(error)),
        };
        let record = Record { holder: holder.clone(), serial: next_serial() };
        let text = serde_json::to_vec(&record).expect("a holder serialises");
        let lease = Lease { path: path.to_owned(), record, leases: Arc::clone(self) };
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(StoreError::io("lock", path))?;
        let mut state = self.state();
        state.held.insert(path.to_owned(), file);
        if !std::mem::replace(&mut state.is_kept, true) {
            keep_touching(Arc::downgrade(self));
        }
        Ok(Some(lease))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether there will be something to touch again.
    fn touch_all(&self) -> bool {
        let mut state = self.state();
        for (path, file) in &state.held {
            if let Err(error) = touch(file) {
                tracing::warn!("{}: {error}", path.display());
            }
        }
        state.is_kept = !state.held.is_empty();
        state.is_kept
    }
}

impl Drop for Lease {
    /// Removed only if it is still ours: one that was taken away meanwhile is another's.
    fn drop(&mut self) {
        self.leases.state().held.remove(&self.path);
        match look(&self.path) {
            Ok(Some(found)) if found.record.as_ref().is_none_or(|record| *record == self.record) => {
                if let Err(error) = fs::remove_file(&self.path) {
                    tracing::debug!("{}: {error}", self.path.display());
                }
            }
            Ok(_) => tracing::warn!("{}: the lock was lost: this process was held up for long", self.path.display()),
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// Touches leases from a thread of its own, until none is held.
fn keep_touching(leases: Weak<Leases>) {
    let touch = move || {
        loop {
            std::thread::sleep(TOUCHED_EVERY);
            if !leases.upgrade().is_some_and(|leases| leases.touch_all()) {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("leases".to_owned()).spawn(touch) {
        tracing::warn!("leases cannot be kept: {error}");
    }
}

fn touch(file: &File) -> std::io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }; // the server's clock
    Ok(futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A lease as another process sees it.
struct Found {
    /// What it says; nothing while it is being written.
    record: Option<Record>,
    is_void: bool,
}

fn look(path: &Path) -> Result<Option<Found>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("look at", path)(error)),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(StoreError::io("look at", path))?;
    let record: Option<Record> = serde_json::from_slice(&bytes).ok();
    let is_void = match record.as_ref().map(|record| record.holder.process.life()) {
        Some(Life::Dead) => true,
        Some(Life::Alive) => false,
        Some(Life::Elsewhere) | None => is_old(&file, path)?,
    };
    Ok(Some(Found { record, is_void }))
}

/// Whether a lease was not touched for long, by the clock that touches it.
fn is_old(file: &File, path: &Path) -> Result<bool> {
    let modified = |file: &File| file.metadata().and_then(|metadata| metadata.modified());
    let touched = modified(file).map_err(StoreError::io("look at", path))?;
    let now: SystemTime = tempfile::tempfile_in(path.parent().unwrap_or(path))
        .and_then(|mut probe| probe.write_all(b".").and_then(|()| probe.sync_all()).and_then(|()| modified(&probe)))
        .map_err(StoreError::io("tell the time of", path))?;
    Ok(now.duration_since(touched).is_ok_and(|age| age > VOID_AFTER))
}

/// Takes a void lease away. Of several who try, one does; false where it was another.
fn take_away(path: &Path, void: &Found) -> Result<bool> {
    let claim = path.with_extension("claim");
    match File::create_new(&claim) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // Its maker needs it for a moment only, or died in that moment.
            let is_left = File::open(&claim).is_ok_and(|file| is_old(&file, &claim).unwrap_or(false));
            if is_left {
                remove_file(&claim)?;
            }
            return Ok(false);
        }
        Err(error) => return Err(StoreError::io("lock", &claim)(error)),
    }
    let is_still_void = look(path)?.is_some_and(|found| found.is_void && found.record == void.record);
    let taken = if is_still_void { remove_file(path) } else { Ok(()) };
    remove_file(&claim)?;
    taken.map(|()| true)
}

/// Whether someone holds the lease.
pub fn is_held(path: &Path) -> Result<bool> {
    Ok(look(path)?.is_some_and(|found| !found.is_void))
}

/// Whether one of these leases of a folder is held. Those that are void are taken away. The caller has just written to the folder.
fn others(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<bool> {
    for item in fs::read_dir(folder).map_err(StoreError::io("read", folder))? {
        let path = item.map_err(StoreError::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_lease = !name.starts_with('.') && !name.ends_with(".claim");
        if !is_lease || !wanted(&name) {
            continue;
        }
        match look(&path)? {
            None => {}
            Some(found) if found.is_void => {
                take_away(&path, &found)?;
            }
            Some(_) => return Ok(true),
        }
    }
    Ok(false)
}
