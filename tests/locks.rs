//! Locks of both kinds: one holder at a time, and none that outlives its process.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use neftpipe::process::Process;
use neftpipe::store::{Holder, Lock, Locking, Store, Waiting};
use neftpipe_protocol::Digest;
use serde_json::json;
use tempfile::TempDir;

fn both() -> [Locking; 2] {
    [Locking::Os, Locking::leases()]
}

fn place(locking: Locking) -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_with(&folder.path().join("cache"), locking).unwrap();
    (folder, store)
}

fn held(waiting: Waiting) -> Option<Lock> {
    match waiting {
        Waiting::Held(lock) => Some(lock),
        Waiting::Busy(_) => None,
    }
}

#[test]
fn a_lock_has_one_holder_and_says_who() {
    for locking in both() {
        let (_folder, store) = place(locking.clone());
        let (key, path) = (Digest::of(b"k"), store.root().join("locks/x"));
        let lock = held(store.try_lock(&key, &Holder::of_stage("1", "train")).unwrap()).unwrap();
        let other = Store::open_with(store.root(), locking).unwrap();
        let Waiting::Busy(Some(holder)) = other.try_lock(&key, &Holder::of_run("2")).unwrap() else {
            panic!("two holders")
        };
        assert_eq!((holder.to_string().as_str(), holder.stage.as_deref()), ("run 1", Some("train")));
        drop(lock);
        assert!(held(other.try_lock(&key, &Holder::of_run("2")).unwrap()).is_some());
        assert!(!store.is_locked(&path).unwrap());
        let _lock = held(store.try_lock_file(&path, &Holder::of_run("1")).unwrap()).unwrap();
        assert!(other.is_locked(&path).unwrap());
    }
}

#[test]
fn of_many_who_try_one_at_a_time_succeeds() {
    for locking in both() {
        let (_folder, store) = place(locking.clone());
        let (inside, times) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let own = Store::open_with(store.root(), locking.clone()).unwrap();
                let (inside, times) = (&inside, &times);
                scope.spawn(move || {
                    for _ in 0..20 {
                        let lock = loop {
                            match own.try_lock(&Digest::of(b"k"), &Holder::of_run("r")).unwrap() {
                                Waiting::Held(lock) => break lock,
                                Waiting::Busy(_) => std::thread::yield_now(),
                            }
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        times.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(times.into_inner(), 160);
    }
}

#[test]
fn who_collects_and_who_publishes_keep_each_other_out() {
    for locking in both() {
        let (_folder, store) = place(locking.clone());
        let others: Vec<Store> = (0..3).map(|_| Store::open_with(store.root(), locking.clone()).unwrap()).collect();
        let (publishing, collecting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let together = [store.publishing().unwrap(), others[0].publishing().unwrap()];
        drop(together);
        std::thread::scope(|scope| {
            for (index, own) in others.iter().enumerate() {
                let (publishing, collecting) = (&publishing, &collecting);
                scope.spawn(move || {
                    for _ in 0..15 {
                        if index == 0 {
                            let _alone = own.collecting().unwrap();
                            collecting.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(publishing.load(Ordering::SeqCst), 0);
                            std::thread::sleep(Duration::from_millis(1));
                            collecting.fetch_sub(1, Ordering::SeqCst);
                        } else {
                            let _share = own.publishing().unwrap();
                            publishing.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(collecting.load(Ordering::SeqCst), 0);
                            std::thread::sleep(Duration::from_millis(1));
                            publishing.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }
}

/// Another process that holds the lock, a share in the guard and nothing else.
fn holder_elsewhere(root: &Path, kind: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_holder_to_be_killed", "--nocapture"])
        .env("NEFTPIPE_TEST_STORE", root)
        .env("NEFTPIPE_TEST_LOCKING", kind)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while !root.join("holding").exists() {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
#[ignore = "run by others as a process of its own"]
fn a_holder_to_be_killed() {
    let root = PathBuf::from(std::env::var_os("NEFTPIPE_TEST_STORE").unwrap());
    let is_lease = std::env::var("NEFTPIPE_TEST_LOCKING").unwrap() == "lease";
    let store = Store::open_with(&root, if is_lease { Locking::leases() } else { Locking::Os }).unwrap();
    let _lock = held(store.try_lock(&Digest::of(b"k"), &Holder::of_run("1")).unwrap()).unwrap();
    let _share = store.publishing().unwrap();
    File::create(root.join("holding")).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn what_a_killed_process_held_is_free_at_once() {
    for (locking, kind) in both().into_iter().zip(["os", "lease"]) {
        let (_folder, store) = place(locking);
        let mut child = holder_elsewhere(store.root(), kind);
        let attempt = || held(store.try_lock(&Digest::of(b"k"), &Holder::of_run("2")).unwrap());
        assert!(attempt().is_none());
        child.kill().unwrap();
        let killed = Instant::now();
        while attempt().is_none() {
            assert!(killed.elapsed() < Duration::from_secs(5));
        }
        drop(store.collecting().unwrap());
        child.wait().unwrap();
    }
}

/// Leaves a lease as a process would that died with it, so long ago.
fn leave(path: &Path, process: &Process, age: Duration) {
    let mut file = File::create(path).unwrap();
    write!(file, "{}", json!({ "holder": { "process": process, "run": "old" }, "serial": 0 })).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn a_lease_is_void_when_its_process_is_gone_or_was_silent_elsewhere_for_long() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (_folder, store) = place(Locking::leases());
    let path = store.root().join("locks/x");
    let is_free = || held(store.try_lock_file(&path, &Holder::of_run("new")).unwrap()).is_some();
    let here = Process::current();
    let reused = Process { started: here.started + 1, ..here.clone() };
    let elsewhere = Process { realm: "another boot".to_owned(), host: "node7".to_owned(), ..here.clone() };

    leave(&path, &here, HOUR);
    assert!(!is_free(), "it is alive, however long it did not touch it");
    leave(&path, &reused, Duration::ZERO);
    assert!(is_free(), "its process id was given to another");
    leave(&path, &elsewhere, Duration::ZERO);
    assert!(!is_free() && store.is_locked(&path).unwrap());
    let Waiting::Busy(Some(holder)) = store.try_lock_file(&path, &Holder::of_run("new")).unwrap() else {
        panic!("a lease of another host")
    };
    assert_eq!(holder.to_string(), "run old on node7");
    leave(&path, &elsewhere, HOUR);
    assert!(!store.is_locked(&path).unwrap() && is_free());
    fs::write(&path, "{").unwrap();
    assert!(!is_free(), "it may be about to be written");
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - HOUR).unwrap();
    assert!(is_free());
}

#[test]
fn a_void_share_keeps_no_collector_out() {
    let (_folder, store) = place(Locking::leases());
    drop(store.publishing().unwrap());
    let here = Process::current();
    let gone = Process { started: here.started + 1, ..here };
    leave(&store.root().join("locks/collector.leases/1-1-1"), &gone, Duration::ZERO);
    drop(store.collecting().unwrap());
    leave(&store.root().join("locks/collector.leases/collecting"), &gone, Duration::ZERO);
    drop(store.publishing().unwrap());
}
