//! Clocks that go back and times that were set by hand: no wrong hit, nothing lost.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use neftpipe::store::{Policy, Store};

use crate::bench::{Bench, pipeline};
use crate::random::Random;
use crate::{share_of, told};

const READER: &str = r#"version: 1
name: clock
stages:
  read: { command: { run: "cp data.txt {out}", files: [data.txt] } }
"#;

/// Sets the time of change that a program can set.
fn set_time(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn an_edit_of_equal_size_and_time_is_seen() {
    let edits = share_of(200);
    let bench = Bench::new(READER);
    let data = bench.file("data.txt");
    let mut random = Random::new(11);
    let time = SystemTime::now() - Duration::from_secs(3600);
    for edit in 0..edits {
        // Into the file, or another in its place; at once after the run that read it, or once its state has settled.
        let text = format!("{edit:08}");
        if random.below(2) == 0 {
            bench.write("data.txt", &text);
        } else {
            bench.write("other.txt", &text);
            fs::rename(bench.file("other.txt"), &data).unwrap();
        }
        let span = Duration::from_secs(random.below(3) as u64 * 1_000_000);
        set_time(&data, if random.below(2) == 0 { time } else { time - span });
        if edit % 20 == 19 {
            bench.run().exits(0);
            std::thread::sleep(Duration::from_millis(2100));
        }
        bench.run().exits(0);
        let kept = bench.neftpipe(&["show", "read", "data.txt"]).exits(0);
        assert!(kept.stdout.contains(&text), "{text}: {}", kept.stdout);
    }
    told("edits of a source that keep size and time", edits, "no wrong hit");
}

#[test]
fn what_is_from_the_future_is_neither_lost_nor_made_again() {
    let bench = Bench::new(&pipeline(2, 2));
    let artifacts = bench.run().exits(0).artifacts();
    let carried_out = bench.executed();
    let mut files = 0;
    for item in walkdir::WalkDir::new(bench.store()).into_iter().map(Result::unwrap) {
        if item.file_type().is_file() {
            set_time(item.path(), SystemTime::now() + Duration::from_secs(30 * 24 * 3600));
            files += 1;
        }
    }
    bench.goes_on_to(&artifacts);
    assert_eq!(bench.executed(), carried_out, "the clock was set back a month: everything is still there");
    let nobody_vouches = Policy::default();
    let collected = Store::open(&bench.store()).unwrap().collect(&nobody_vouches).unwrap();
    assert_eq!((collected.entries.len(), collected.blobs), (0, 0), "what is from the future is young");
    told("files of a store that are from the future", files, "found, and not collected");
}
