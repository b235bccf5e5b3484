//! The store by its public face: what it keeps, what it refuses, what it finds out.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use neftpipe::store::{Artifact, Entry, Lookup, Materialize, Outputs, Policy, Store, StoreError};
use neftpipe_protocol::{ArtifactType, Digest};
use serde_json::json;
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        Self { folder, store }
    }

    fn tree(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = self.folder.path().join(name);
        fs::create_dir_all(&root).unwrap();
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn ingest(&self, files: &[(&str, &str)]) -> Artifact {
        self.store.ingest(&self.tree("source", files), ArtifactType::Files).unwrap()
    }

    fn publish(&self, key: &str, artifact: Artifact) -> Digest {
        let key = Digest::of(key.as_bytes());
        let outputs = Outputs::from([("output".to_owned(), artifact)]);
        let entry = Entry::new(key, json!({"a": 1}), "train[seed=0]", outputs);
        self.store.publish(&entry).unwrap();
        self.store.remember_history(&entry).unwrap();
        key
    }

    fn reopened(&self) -> Store {
        self.store.flush();
        Store::open(self.store.root()).unwrap()
    }
}

/// Overwrites a blob, and sees to it that the clock of the file system ticks meanwhile.
fn overwrite(path: &Path, text: &str) {
    let changed = |path: &Path| fs::metadata(path).map(|m| (m.ctime(), m.ctime_nsec())).unwrap();
    let before = changed(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    loop {
        fs::write(path, text).unwrap();
        if changed(path) != before {
            return;
        }
    }
}

#[test]
fn a_published_result_is_found_by_the_next_process() {
    let place = Place::new();
    let artifact = place.ingest(&[("a.txt", "one"), ("b/c.txt", "two"), ("empty", "")]);
    assert_eq!(artifact.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a.txt", "b/c.txt", "empty"]);
    assert!(!place.folder.path().join("source/a.txt").exists(), "files move in");
    let key = place.publish("k", artifact.clone());

    let Lookup::Hit(manifest) = place.reopened().lookup(&key).unwrap() else { panic!("no hit") };
    assert_eq!(manifest.outputs["output"], artifact);
    assert_eq!(place.store.lookup(&Digest::of(b"other")).unwrap(), Lookup::Miss);
    let blob = place.store.blob_path(&artifact.files[0].digest);
    assert_eq!(fs::metadata(blob).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(place.store.history("train", 5).unwrap(), [key]);
}

#[test]
fn an_old_result_is_found_time_and_again() {
    let place = Place::new();
    let key = place.publish("k", place.ingest(&[("a.txt", "one")]));
    let name = key.to_string();
    let record = place.store.root().join(format!("entries/{}/{name}.json", &name[..2]));
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(&record).unwrap().set_modified(an_hour_ago).unwrap();
    std::thread::sleep(Duration::from_millis(2100)); // the index only takes a record that has lain still
    assert!(matches!(place.store.lookup(&key).unwrap(), Lookup::Hit(_)), "from the record");
    assert!(matches!(place.store.lookup(&key).unwrap(), Lookup::Hit(_)), "from the index, and marked as used");
    assert!(fs::metadata(&record).unwrap().modified().unwrap() > an_hour_ago, "it is marked as used");
    assert!(matches!(place.reopened().lookup(&key).unwrap(), Lookup::Hit(_)));
}

#[test]
fn a_missing_blob_makes_an_entry_incomplete_until_it_is_back() {
    let place = Place::new();
    let artifact = place.ingest(&[("a", "one"), ("b", "two")]);
    let key = place.publish("k", artifact.clone());
    fs::remove_file(place.store.blob_path(&artifact.files[1].digest)).unwrap();
    let Lookup::Incomplete { missing, .. } = place.store.lookup(&key).unwrap() else { panic!("not incomplete") };
    assert_eq!(missing, ["output/b"]);
    assert!(matches!(place.store.view(&artifact), Err(StoreError::Incomplete { .. })));
    place.ingest(&[("b", "two")]);
    assert!(matches!(place.store.lookup(&key).unwrap(), Lookup::Hit(_)));
}

#[test]
fn a_blob_that_was_changed_is_never_served() {
    let place = Place::new();
    let artifact = place.ingest(&[("a", "one")]);
    let key = place.publish("k", artifact.clone());
    let blob = place.store.blob_path(&artifact.files[0].digest);
    for damage in ["two", "longer", ""] {
        overwrite(&blob, damage);
        assert!(matches!(place.store.lookup(&key).unwrap(), Lookup::Incomplete { .. }), "{damage}");
        assert_eq!(place.store.take_damage()[0].path, blob);
        assert!(!blob.exists());
        place.ingest(&[("a", "one")]);
        assert!(matches!(place.store.lookup(&key).unwrap(), Lookup::Hit(_)));
    }
}

#[test]
fn an_entry_that_was_changed_is_no_entry() {
    let place = Place::new();
    let key = place.publish("k", place.ingest(&[("a", "one")]));
    let name = key.to_string();
    let path = place.store.root().join("entries").join(&name[..2]).join(format!("{name}.json"));
    let whole = fs::read(&path).unwrap();
    for position in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[position] ^= 4;
        fs::write(&path, bytes).unwrap();
        assert_eq!(place.store.lookup(&key).unwrap(), Lookup::Miss, "byte {position}");
        assert!(!path.exists());
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(place.store.lookup(&key).unwrap(), Lookup::Miss);
    fs::write(&path, &whole).unwrap();
    assert!(matches!(place.store.lookup(&key).unwrap(), Lookup::Hit(_)));
}

#[test]
fn links_and_special_files_are_refused() {
    let place = Place::new();
    let tree = place.tree("links", &[("a", "one")]);
    symlink("/etc/passwd", tree.join("link")).unwrap();
    let error = place.store.ingest(&tree, ArtifactType::Files).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert!(tree.join("a").exists(), "nothing was taken");

    let tree = place.tree("socket", &[]);
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("s")).unwrap();
    assert!(place.store.ingest(&tree, ArtifactType::Files).unwrap_err().to_string().contains("neither a file"));
}

#[test]
fn a_file_with_a_second_name_is_copied() {
    let place = Place::new();
    let tree = place.tree("source", &[("a", "one")]);
    let other = place.folder.path().join("other");
    fs::hard_link(tree.join("a"), &other).unwrap();
    let artifact = place.store.ingest(&tree, ArtifactType::Files).unwrap();
    fs::write(&other, "changed").unwrap();
    assert_eq!(fs::read_to_string(place.store.blob_path(&artifact.files[0].digest)).unwrap(), "one");
}

#[test]
fn equal_files_are_one_blob() {
    let place = Place::new();
    let files: Vec<_> = (0..50).map(|i| (format!("f{i}"), "same")).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let artifact = place.ingest(&files);
    assert!(place.store.missing_files(&artifact).unwrap().is_empty());
    assert!(artifact.files.iter().all(|file| file.digest == artifact.files[0].digest));
}

#[test]
fn a_view_links_to_the_blobs_and_mends_itself() {
    let place = Place::new();
    let artifact = place.ingest(&[("a", "one"), ("d/e/f", "two")]);
    let view = place.store.view(&artifact).unwrap();
    assert_eq!(fs::read_to_string(view.join("d/e/f")).unwrap(), "two");
    assert_eq!(place.store.view(&artifact).unwrap(), view);
    fs::remove_file(view.join("a")).unwrap();
    fs::write(view.join("stray"), "x").unwrap();
    place.store.view(&artifact).unwrap();
    assert_eq!(fs::read_to_string(view.join("a")).unwrap(), "one");
    assert!(!view.join("stray").exists());

    let moved = place.folder.path().join("moved");
    fs::rename(place.store.root(), &moved).unwrap();
    let relative = view.strip_prefix(place.store.root()).unwrap();
    assert_eq!(fs::read_to_string(moved.join(relative).join("a")).unwrap(), "one");
}

#[test]
fn a_page_that_was_changed_in_its_view_is_laid_out_anew() {
    let place = Place::new();
    let tree = place.tree("source", &[("index.html", "<p>one")]);
    let report = place.store.ingest(&tree, ArtifactType::Report).unwrap();
    let page = place.store.view(&report).unwrap().join("index.html");
    place.publish("k", report.clone());
    overwrite(&page, "<p>two");
    let damaged = place.store.verify(false).unwrap().damaged;
    assert_eq!(damaged.iter().map(|damage| &damage.path).collect::<Vec<_>>(), [&page]);
    assert_eq!(place.store.view(&report).unwrap().join("index.html"), page);
    assert_eq!(fs::read_to_string(page).unwrap(), "<p>one");
}

#[test]
fn a_row_that_was_damaged_or_cut_short_is_passed_over() {
    let place = Place::new();
    let (scope, to) = (Digest::of(b"scope"), place.folder.path().join("rows"));
    place.store.append_rows(&scope, b"{\"a\":1}\n{\"a\":2}\n").unwrap();
    let name = scope.to_string();
    let rows = place.store.root().join("rows").join(&name[..2]).join(format!("{name}.jsonl"));
    let text = fs::read_to_string(&rows).unwrap().replace("\"a\":1", "\"a\":7");
    fs::write(&rows, text + "0123456789abcdef {\"a\":").unwrap();
    place.store.append_rows(&scope, b"{\"a\":3}\n").unwrap();
    assert!(place.store.copy_rows(&scope, &to).unwrap());
    assert_eq!(fs::read_to_string(&to).unwrap(), "{\"a\":2}\n{\"a\":3}\n");
}

#[test]
fn a_copy_can_be_written_to_without_touching_the_blob() {
    let place = Place::new();
    let artifact = place.ingest(&[("a", "one")]);
    let folder = place.folder.path().join("copy");
    place.store.materialize(&artifact, &folder, Materialize::Copy).unwrap();
    fs::write(folder.join("a"), "changed").unwrap();
    assert_eq!(fs::read_to_string(place.store.view(&artifact).unwrap().join("a")).unwrap(), "one");
}

#[test]
fn digests_of_sources_follow_their_content() {
    let place = Place::new();
    let path = place.tree("source", &[("a", "one")]).join("a");
    assert_eq!(place.store.digest_file(&path).unwrap(), Digest::of(b"one"));
    fs::write(&path, "two").unwrap();
    assert_eq!(place.store.digest_file(&path).unwrap(), Digest::of(b"two"));
    let old = fs::File::open(&path).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(place.store.digest_file(&path).unwrap(), Digest::of(b"two"));
    fs::write(&path, "six").unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(place.store.digest_file(&path).unwrap(), Digest::of(b"six"), "a rewound clock hides nothing");
    assert!(place.store.digest_file(&path.join("none")).is_err());
}

#[test]
fn a_large_file_has_the_digest_of_its_bytes() {
    let place = Place::new();
    let path = place.tree("source", &[]).join("large");
    let bytes: Vec<u8> = (0..17 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(place.store.digest_file(&path).unwrap(), Digest::of(&bytes));
}

#[test]
fn rows_gather_by_scope() {
    let place = Place::new();
    let (scope, to) = (Digest::of(b"scope"), place.folder.path().join("rows"));
    assert!(!place.store.copy_rows(&scope, &to).unwrap());
    place.store.append_rows(&scope, b"{\"a\":1}\n").unwrap();
    place.store.append_rows(&scope, b"{\"a\":2}\n").unwrap();
    assert!(place.store.copy_rows(&scope, &to).unwrap());
    assert_eq!(fs::read_to_string(&to).unwrap(), "{\"a\":1}\n{\"a\":2}\n");
}

#[test]
fn a_store_of_another_layout_is_refused() {
    let place = Place::new();
    fs::write(place.store.root().join("layout"), "7\n").unwrap();
    let error = Store::open(place.store.root()).unwrap_err();
    assert!(error.to_string().contains("layout 7"), "{error}");
}

#[test]
fn the_store_explains_itself() {
    let place = Place::new();
    let tag = fs::read_to_string(place.store.root().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    assert!(place.store.root().join("README.md").exists() && place.store.root().join(".gitignore").exists());
}

/// A policy without mercy for what is young.
fn at_once(keep: &[Digest]) -> Policy {
    let keep = keep.iter().copied().collect();
    Policy { keep, grace: Duration::ZERO, unfinished_grace: Duration::ZERO, ..Policy::default() }
}

impl Place {
    fn publish_text(&self, key: &str, text: &str, seconds: f64) -> Digest {
        let outputs = Outputs::from([("output".to_owned(), self.ingest(&[("f", text), ("shared", "shared")]))]);
        let key = Digest::of(key.as_bytes());
        let mut entry = Entry::new(key, json!({}), "train", outputs);
        entry.measured.insert("seconds".to_owned(), seconds.into());
        self.store.publish(&entry).unwrap();
        self.store.remember_history(&entry).unwrap();
        key
    }

    fn is_hit(&self, key: &Digest) -> bool {
        matches!(self.store.lookup(key).unwrap(), Lookup::Hit(_))
    }
}

#[test]
fn what_nothing_kept_needs_is_collected() {
    let place = Place::new();
    let (kept, dropped) = (place.publish_text("a", "one", 1.0), place.publish_text("b", "two", 1.0));
    place.store.append_rows(&Digest::of(b"scope"), b"{}\n").unwrap();
    let Lookup::Hit(manifest) = place.store.lookup(&dropped).unwrap() else { panic!("no hit") };
    let view = place.store.view(&manifest.outputs["output"]).unwrap();

    let dry = place.store.collect(&Policy { dry_run: true, ..at_once(&[kept]) }).unwrap();
    assert!(place.is_hit(&dropped));
    let collected = place.store.collect(&at_once(&[kept])).unwrap();
    assert_eq!(dry, collected);
    assert_eq!(collected.entries, [(dropped, "train".to_owned())]);
    assert_eq!((collected.blobs, collected.unfinished, collected.bytes, collected.kept_bytes), (1, 1, 24, 9));
    assert!(place.is_hit(&kept) && !place.is_hit(&dropped) && !view.exists());
    assert_eq!(place.store.history("train", 9).unwrap(), [kept]);
    assert!(place.store.verify(false).unwrap().damaged.is_empty());
}

#[test]
fn what_is_young_or_pinned_stays() {
    let place = Place::new();
    let key = place.publish_text("a", "one", 1.0);
    assert!(place.store.collect(&Policy::default()).unwrap().entries.is_empty());
    let pinned = Policy { pinned: [key].into(), max_bytes: Some(0), ..at_once(&[]) };
    assert!(place.store.collect(&pinned).unwrap().entries.is_empty());
    assert!(place.is_hit(&key));
}

#[test]
fn what_is_cheapest_to_make_again_for_its_size_goes_first() {
    let place = Place::new();
    let cheap = place.publish_text("cheap", &"c".repeat(1000), 1.0);
    let dear = place.publish_text("dear", &"d".repeat(1000), 100.0);
    let policy = Policy { max_bytes: Some(1500), ..at_once(&[cheap, dear]) };
    let collected = place.store.collect(&policy).unwrap();
    assert_eq!(collected.entries.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [cheap]);
    assert_eq!(collected.kept_bytes, 1006);
    assert!(place.is_hit(&dear));
}

#[test]
fn the_collector_waits_for_those_who_publish() {
    let place = Place::new();
    place.publish_text("old", "one", 1.0);
    let publishing = place.store.publishing().unwrap();
    let other = place.store.publishing().unwrap();
    let outputs = Outputs::from([("output".to_owned(), place.ingest(&[("f", "one")]))]);
    let key = Digest::of(b"new");
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| place.store.collect(&Policy { pinned: [key].into(), ..at_once(&[]) }).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        place.store.publish(&Entry::new(key, json!({}), "train", outputs)).unwrap();
        drop((publishing, other));
        assert_eq!(collector.join().unwrap().entries.len(), 1);
    });
    assert!(place.is_hit(&key), "a blob that was found in the store is not collected before its entry is there");
}

#[test]
fn every_flipped_bit_is_found_and_repair_makes_a_miss_of_it() {
    let place = Place::new();
    let keys: Vec<Digest> = (0..8).map(|i| place.publish_text(&format!("k{i}"), &format!("text {i}"), 1.0)).collect();
    place.store.flush();
    let Lookup::Hit(manifest) = place.store.lookup(&keys[3]).unwrap() else { panic!("no hit") };
    let blob = place.store.blob_path(&manifest.outputs["output"].file("f").unwrap().digest);
    let times = fs::metadata(&blob).unwrap().modified().unwrap();
    overwrite(&blob, "text 4");
    fs::File::open(&blob).unwrap().set_modified(times).unwrap();
    let name = keys[5].to_string();
    let record = place.store.root().join("entries").join(&name[..2]).join(format!("{name}.json"));
    let mut bytes = fs::read(&record).unwrap();
    bytes[40] ^= 1;
    fs::write(&record, bytes).unwrap();

    let found = place.store.verify(false).unwrap();
    assert_eq!(found.damaged.iter().map(|damage| &damage.path).collect::<Vec<_>>(), [&blob, &record]);
    assert_eq!(found.incomplete, [(keys[3], "train".to_owned(), 1)]);
    place.store.verify(true).unwrap();
    assert!(!blob.exists() && !record.exists());
    assert!(place.store.verify(false).unwrap().damaged.is_empty());
    assert!(place.is_hit(&keys[4]) && !place.is_hit(&keys[3]) && !place.is_hit(&keys[5]));
}

#[test]
fn a_damaged_training_state_is_found() {
    let place = Place::new();
    let key = Digest::of(b"step 5");
    place.store.keep_state(&key, &place.tree("5", &[("weights", "two")])).unwrap();
    assert!(place.store.verify(false).unwrap().damaged.is_empty());
    let name = key.to_string();
    let state = place.store.root().join("states").join(&name[..2]).join(&name);
    overwrite(&state.join("files/weights"), "six");
    let damaged = place.store.verify(true).unwrap().damaged;
    assert_eq!(damaged.iter().map(|damage| &damage.path).collect::<Vec<_>>(), [&state]);
    assert!(!place.store.has_state(&key));
}

#[test]
fn a_training_state_is_kept_handed_out_and_dropped() {
    let place = Place::new();
    let (key, to) = (Digest::of(b"step 5"), place.folder.path().join("known"));
    assert!(!place.store.lay_out_state(&key, &to).unwrap());
    place.store.keep_state(&key, &place.tree("5", &[("optimizer/m", "one"), ("weights", "two")])).unwrap();
    place.store.keep_state(&key, &place.tree("5", &[("weights", "other")])).unwrap();
    assert!(place.store.has_state(&key) && place.store.lay_out_state(&key, &to).unwrap());
    assert_eq!(fs::read_to_string(to.join("optimizer/m")).unwrap(), "one");
    place.store.drop_state(&key).unwrap();
    assert!(!place.store.has_state(&key));
    assert_eq!(fs::read_to_string(to.join("weights")).unwrap(), "two", "who was given it keeps it");
}
