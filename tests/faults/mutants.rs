//! Files of the store, lock files and what workers leave, damaged: no panic, no hang, and never a wrong result.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bench::{Artifacts, Bench, Ended};
use crate::publishing::PIPELINE;
use crate::random::Random;
use crate::{each_of, share_of, told, worker};

/// Mutants that one project bears, one after another.
const A_PROJECT: usize = 100;

/// Makes another file of these bytes; `other` is one of the same kind.
pub fn mutate(random: &mut Random, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(30)).min(bytes.len());
    match random.below(8) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        // A digit for a digit leaves most formats whole.
        2 => {
            if let Some(digit) = bytes.iter_mut().skip(at).find(|byte| byte.is_ascii_digit()) {
                *digit = b'0' + (*digit - b'0' + 1 + random.below(9) as u8) % 10;
            }
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let from = random.below(other.len());
            let piece = other[from..(from + random.below(200)).min(other.len())].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        6 => bytes = other.to_vec(),
        _ => {
            let copy = bytes[at..end].to_vec();
            bytes.extend(copy);
        }
    }
    bytes
}

/// Writes a damaged file in the place of another, and sees to it that the clock of the file system ticks meanwhile.
fn overwrite(path: &Path, bytes: &[u8]) {
    let changed = || fs::metadata(path).map(|metadata| (metadata.ctime(), metadata.ctime_nsec())).unwrap();
    let (before, times) = (changed(), fs::metadata(path).unwrap().modified().unwrap());
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    loop {
        fs::write(path, bytes).unwrap();
        if changed() != before {
            break;
        }
    }
    fs::File::open(path).unwrap().set_modified(times).unwrap();
}

/// The files of a store by what they are: the folder or file at its top.
fn files(store: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for item in walkdir::WalkDir::new(store).sort_by_file_name() {
        let item = item.unwrap();
        let top = item.path().strip_prefix(store).unwrap().components().next();
        if let (true, Some(top)) = (item.file_type().is_file(), top) {
            files.entry(top.as_os_str().to_str().unwrap().to_owned()).or_default().push(item.into_path());
        }
    }
    files
}

struct Victim<'a> {
    bench: &'a Bench,
    artifacts: &'a Artifacts,
}

impl Victim<'_> {
    /// Damages one file of the store, and runs. Says what was damaged, and how long the run took.
    fn damage_and_run(&self, random: &mut Random) -> (String, Duration) {
        let store = self.bench.store();
        let kinds = files(&store);
        let names: Vec<&String> = kinds.keys().collect();
        let kind = (*random.one_of(&names)).clone();
        let path = random.one_of(&kinds[&kind]);
        let other = random.one_of(&kinds[&kind]);
        let (bytes, other) = (fs::read(path).unwrap(), fs::read(other).unwrap());
        let mutant = mutate(random, &bytes, &other);
        overwrite(path, &mutant);
        if ["rows", "states"].contains(&kind.as_str()) || random.below(4) == 0 {
            fs::remove_dir_all(store.join("entries")).ok(); // what is unfinished is gone on from
        }
        let began = Instant::now();
        let ended = self.bench.run();
        let took = began.elapsed();
        if kind == "layout" && ended.code == Some(3) {
            ended.says("layout");
            fs::write(path, bytes).unwrap(); // no store of ours: it says so, and touches nothing
        } else {
            let shown = path.strip_prefix(&store).unwrap().display().to_string();
            assert_eq!(ended.exits(0).artifacts(), *self.artifacts, "{shown} was damaged");
        }
        (kind, took)
    }

    /// Nothing that others read fails for good by what is damaged.
    fn look_around(&self) {
        self.bench.neftpipe(&["plan", "p.yaml"]).exits(0);
        self.bench.neftpipe(&["runs"]).exits(0);
        self.bench.neftpipe(&["show"]).exits(0);
        self.bench.neftpipe(&["gc"]).exits(0);
        self.bench.neftpipe(&["verify", "--repair"]).exits(0);
        self.bench.goes_on_to(self.artifacts);
    }
}

#[test]
fn damaged_files_of_a_store_are_never_served() {
    let artifacts = Bench::new(PIPELINE).run().exits(0).artifacts();
    let count = share_of(5000);
    let seeds: Vec<usize> = (0..count.div_ceil(A_PROJECT)).collect();
    let slowest = std::sync::Mutex::new(Duration::ZERO);
    each_of(&seeds, |seed| {
        let bench = Bench::new(PIPELINE);
        bench.run().exits(0);
        let victim = Victim { bench: &bench, artifacts: &artifacts };
        let mut random = Random::new(*seed as u64);
        for turn in 0..A_PROJECT {
            let (kind, took) = victim.damage_and_run(&mut random);
            let mut slowest = slowest.lock().unwrap();
            if took > *slowest {
                println!("{kind}: {took:?}");
                *slowest = took;
            }
            drop(slowest);
            if turn % 20 == 19 {
                victim.look_around();
                fs::remove_dir_all(bench.store().join("runs")).unwrap();
            }
        }
        true
    });
    let slowest = slowest.into_inner().unwrap();
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    told(
        "damaged files of a store",
        seeds.len() * A_PROJECT,
        &format!("no wrong hit, no panic, the next run made them again; the slowest took {slowest:.0?}"),
    );
}

#[test]
fn damaged_lock_files_are_refused_or_followed() {
    let bench = Bench::new(PIPELINE);
    let artifacts = bench.run().exits(0).artifacts();
    let lock = fs::read(bench.file("p.lock")).unwrap();
    let mut random = Random::new(21);
    let count = share_of(500);
    for _ in 0..count {
        let other = bench.file("p.yaml");
        bench.write("p.lock", mutate(&mut random, &lock, &fs::read(other).unwrap()));
        let ended = bench.run().exits_with(&[0, 2]);
        if ended.code == Some(0) {
            assert_eq!(ended.artifacts(), artifacts);
        } else {
            ended.says("p.lock");
        }
    }
    bench.write("p.lock", lock);
    bench.goes_on_to(&artifacts);
    told("damaged lock files", count, "refused by name, or followed to the same bytes");
}

const DOWNLOAD: &str = r#"version: 1
name: results
stages:
  prompts: { download: { from: "https://localhost/prompts", as: prompts } }
"#;

const EVENTS: &str = r#"{"seq":0,"time_ms":1,"event":"started","device":"cpu"}
{"seq":1,"time_ms":2,"event":"progress","done":1,"total":2,"unit":"rows","message":"x"}
{"seq":2,"time_ms":3,"event":"metric","step":18446744073709551615,"values":{"loss":1.5}}
{"seq":3,"time_ms":3,"event":"saved","what":{"checkpoint":{"step":2}}}
{"seq":4,"time_ms":3,"event":"saved","what":{"rows":{"bytes":99}}}
{"seq":5,"time_ms":3,"event":"warning","code":"w","message":"m"}
{"seq":6,"time_ms":4,"event":"finished"}
"#;
const RESULT: &str = r#"{"status":"succeeded","outputs":{"output":"prompts"},"metrics":{"rows":3},"measured":{"rate":1.5},
"provenance":{"worker":"w"},"resolved":{"commit":"1","files":[{"path":"prompts","bytes":6}]}}"#;

#[test]
fn damaged_results_of_workers_are_taken_whole_or_not_at_all() {
    let bench = Bench::new(DOWNLOAD);
    worker::install_script(
        &bench.file("workers"),
        "cp $HOME/events events.jsonl; cp $HOME/result result.json; mkdir -p out/output; seq 3 > out/output/prompts",
    );
    bench.write("events", EVENTS);
    bench.write("result", RESULT);
    let artifacts = bench.run().exits(0).artifacts();
    let mut random = Random::new(34);
    let count = share_of(500);
    let mut taken = 0;
    for _ in 0..count {
        bench.write("events", mutate(&mut random, EVENTS.as_bytes(), RESULT.as_bytes()));
        bench.write("result", mutate(&mut random, RESULT.as_bytes(), EVENTS.as_bytes()));
        fs::remove_file(bench.file("p.lock")).ok();
        fs::remove_dir_all(bench.store()).unwrap();
        let ended: Ended = bench.run().exits_with(&[0, 1, 3, 4]);
        if ended.code == Some(0) {
            taken += 1;
            assert_eq!(ended.artifacts(), artifacts);
        }
        bench.is_whole();
    }
    told("damaged results and events of workers", count, &format!("{taken} were still results, the others failed"));
}
