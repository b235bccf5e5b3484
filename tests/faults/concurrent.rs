//! Several programs on one store: equal work is done once, and what one needs no other removes.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use neftpipe::store::{Entry, Lookup, Outputs, Policy, Store};
use neftpipe_protocol::{ArtifactType, Digest};
use serde_json::json;
use tempfile::TempDir;

use crate::bench::{Bench, Ended, pipeline};
use crate::{share_of, told};

const PROGRAMS: usize = 8;

#[test]
fn programs_on_one_store_do_equal_work_once() {
    let rounds = share_of(10);
    for _ in 0..rounds {
        let bench = Bench::new(&pipeline(24, 16));
        let programs: Vec<_> = (0..PROGRAMS)
            .map(|_| bench.command(&["run", "p.yaml", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn())
            .collect();
        let ended: Vec<Ended> = std::thread::scope(|scope| {
            // Each is read from at once: a full pipe would hold it up.
            let read = |program: std::io::Result<Child>| scope.spawn(|| program.unwrap().wait_with_output().unwrap());
            let readers: Vec<_> = programs.into_iter().map(read).collect();
            readers.into_iter().map(|reader| Ended::from(reader.join().unwrap()).exits(0)).collect()
        });
        let artifacts = ended[0].artifacts();
        assert!(ended.iter().all(|ended| ended.artifacts() == artifacts));
        let mut stages: Vec<String> = artifacts.into_keys().collect();
        stages.sort();
        assert_eq!(bench.executed(), stages, "each once");
        bench.is_whole();
    }
    told("rounds of 8 programs at once on one store", rounds, "each of 60 keys was carried out once");
}

/// A store with results, of which those named by `pinned` numbers are needed.
struct Shared {
    folder: TempDir,
}

impl Shared {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// As a process of its own opens it.
    fn store(&self) -> Store {
        Store::open(&self.folder.path().join("cache")).unwrap()
    }

    /// Publishes a result, the way a stage does. A third of its content is that of other results too.
    fn publish(&self, store: &Store, who: &str, number: usize) {
        let source = self.folder.path().join(format!("{who}-{number}"));
        std::fs::create_dir_all(&source).unwrap();
        for (name, text) in
            [("own", number.to_string()), ("shared", (number / 7).to_string()), ("all", "all".to_owned())]
        {
            std::fs::write(source.join(name), text).unwrap();
        }
        let _publishing = store.publishing().unwrap();
        let outputs = Outputs::from([("output".to_owned(), store.ingest(&source, ArtifactType::Files).unwrap())]);
        store.publish(&Entry::new(key(number), json!({}), "stage", outputs)).unwrap();
    }
}

fn key(number: usize) -> Digest {
    Digest::of(number.to_string().as_bytes())
}

fn entry_path(store: &Store, number: usize) -> std::path::PathBuf {
    let name = key(number).to_string();
    store.root().join(format!("entries/{}/{name}.json", &name[..2]))
}

fn backdate(path: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    File::open(path).unwrap().set_modified(long_ago).unwrap();
}

#[test]
fn what_two_publish_a_third_does_not_collect() {
    let results = share_of(5000);
    let (shared, done) = (Shared::new(), AtomicBool::new(false));
    let merciless = |number: usize| Policy {
        pinned: (0..number).filter(|number| number % 2 == 0).map(key).collect(),
        grace: Duration::ZERO,
        unfinished_grace: Duration::ZERO,
        ..Policy::default()
    };
    let collections = std::thread::scope(|scope| {
        let publishers = ["one", "other"].map(|who| {
            let shared = &shared;
            scope.spawn(move || {
                let store = shared.store();
                for number in 0..results {
                    shared.publish(&store, who, number);
                    std::thread::sleep(Duration::from_millis(1)); // the collector has its turn
                }
            })
        });
        let collector = scope.spawn(|| {
            let (store, mut collections) = (shared.store(), 0);
            while !done.load(Ordering::Relaxed) {
                store.collect(&merciless(results)).unwrap();
                collections += 1;
                std::thread::sleep(Duration::from_millis(20)); // those who publish have their turn
            }
            collections
        });
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        done.store(true, Ordering::Relaxed);
        collector.join().unwrap()
    });
    let store = shared.store();
    for number in (0..results).step_by(2) {
        assert!(matches!(store.lookup(&key(number)).unwrap(), Lookup::Hit(_)), "result {number} is lost");
    }
    assert!(collections > 1);
    told(
        "results published by two at once while a third collects",
        results,
        &format!("nothing reachable was lost in {collections} collections"),
    );
}

#[test]
fn what_is_found_is_not_collected_a_moment_later() {
    let results = share_of(5000);
    let (shared, done) = (Shared::new(), AtomicBool::new(false));
    let store = shared.store();
    (0..results).for_each(|number| shared.publish(&store, "first", number));
    (0..results).for_each(|number| backdate(&entry_path(&store, number)));
    let is_hit = |number: &usize| matches!(store.lookup(&key(*number)).unwrap(), Lookup::Hit(_));
    let (early, late) = (0..results / 10, results / 10..results);
    let mut found: Vec<usize> = early.filter(is_hit).collect();
    found.extend(std::thread::scope(|scope| {
        scope.spawn(|| {
            let store = shared.store();
            while !done.load(Ordering::Relaxed) {
                store.collect(&Policy::default()).unwrap();
                std::thread::sleep(Duration::from_millis(20)); // who looks up has his turn
            }
        });
        let found: Vec<usize> = late.rev().filter(is_hit).collect();
        done.store(true, Ordering::Relaxed);
        found
    }));
    store.collect(&Policy::default()).unwrap();
    for number in &found {
        assert!(
            matches!(store.lookup(&key(*number)).unwrap(), Lookup::Hit(_)),
            "result {number} was found and is lost"
        );
    }
    told(
        "old results looked up while another collects",
        results,
        &format!("the {} that were found stayed", found.len()),
    );
}
