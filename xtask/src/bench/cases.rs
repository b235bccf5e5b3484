//! What is measured, and what is wanted of it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::figure::Figure;
use super::peers::text;
use super::timing::{Times, in_turn, peak_mb, peer, run, span};
use super::{Bench, graphs};

type Case = fn(&Bench, &Path) -> io::Result<Vec<Figure>>;

/// The cases by name.
pub const ALL: [(&str, Case); 8] = [
    ("answers", answers),
    ("first", first_run),
    ("revert", revert),
    ("noop", no_op),
    ("chain", chain),
    ("hash-big", hash_big),
    ("hash-small", hash_small),
    ("artifact", artifact),
];

/// Files that changed a moment ago are hashed again: an index does not take them at their word.
const SETTLED: Duration = Duration::from_millis(2500);

impl Bench {
    fn neftpipe(&self, folder: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(self.binaries.join(crate::workspace::CLI));
        command.current_dir(folder).args(words).env("NEFTPIPE_WORKERS", &self.binaries);
        command.env("NEFTPIPE_STORE", store(folder)); // else that of the project around the build folder would be taken
        command
    }

    /// The same on an empty store.
    fn anew(&self, folder: &Path, words: &[&str]) -> io::Result<f64> {
        if store(folder).exists() {
            fs::remove_dir_all(store(folder))?;
        }
        let seconds = run(&mut self.neftpipe(folder, words))?;
        fs::read_dir(store(folder)).map(|_| seconds) // it was written where it is emptied
    }
}

/// Where a case has its store.
fn store(folder: &Path) -> PathBuf {
    folder.join("cache")
}

fn figure(what: impl Into<String>, here: &Times, wanted: &'static str) -> Figure {
    Figure { what: what.into(), here: here.to_string(), beside: None, ratio: None, wanted }
}

fn compared(what: &str, name: &str, (here, other): &(Times, Option<Times>), wanted: &'static str) -> Figure {
    let beside = other.as_ref().map(|other| format!("{name}: {other}"));
    Figure { beside, ratio: other.as_ref().map(|other| here.over(other)), ..figure(what, here, wanted) }
}

fn alone(rounds: usize, first: impl FnMut() -> io::Result<f64>) -> io::Result<Times> {
    in_turn(rounds, first, None::<fn() -> io::Result<f64>>).map(|(times, _)| times)
}

/// `--version` and `show`.
fn answers(bench: &Bench, folder: &Path) -> io::Result<Vec<Figure>> {
    graphs::neftpipe(folder, 20, 0..0)?;
    run(&mut bench.neftpipe(folder, &["run", "dag.yaml"]))?;
    let version = alone(bench.rounds, || run(&mut bench.neftpipe(folder, &["--version"])))?;
    let show = alone(bench.rounds, || run(&mut bench.neftpipe(folder, &["show", "s3"])))?;
    Ok(vec![figure("`--version`", &version, "< 20 ms"), figure("`show s3`", &show, "< 20 ms")])
}

/// The leaderboard line of a bare annotation file, as a whole process.
pub fn leaderboard(bench: &Bench, folder: &Path, annotations: &Path, control: &Path) -> io::Result<Vec<Figure>> {
    fs::create_dir_all(folder)?;
    let [annotations, control] = [annotations.canonicalize()?, control.canonicalize()?].map(|path| text(&path));
    let words = ["show", &annotations, "--length-control", &control, "--json"];
    let times = alone(bench.rounds, || run(&mut bench.neftpipe(folder, &words)))?;
    let mb = peak_mb(&mut bench.neftpipe(folder, &words))?;
    let memory = Figure { here: format!("{mb:.0} MB"), ..figure("its memory", &times, "") };
    Ok(vec![figure("`show annotations.json --length-control FILE`", &times, "< 150 ms"), memory])
}

/// 1,000 small commands, carried out and kept, beside the same commands carried out by two bare loops.
fn first_run(bench: &Bench, folder: &Path) -> io::Result<Vec<Figure>> {
    const STAGES: usize = 1000;
    graphs::neftpipe(folder, STAGES, 0..0)?;
    let bare = folder.join("bare");
    let ours = || bench.anew(folder, &["run", "--jobs", "2", "dag.yaml"]);
    let times = in_turn(bench.rounds.min(3), ours, Some(|| bare_commands(&bare, STAGES)))?;
    let each = times.1.as_ref().map_or(f64::NAN, |bare| (times.0.median() - bare.median()) / STAGES as f64);
    let mut figure = compared("first run of 1,000 commands, 2 at a time", "bare `sh -c`", &times, "");
    figure.what = format!("{}: {:.1} ms more each", figure.what, each * 1000.0);
    Ok(vec![Figure { wanted: "≤ 6 ms more each", ..figure }])
}

/// The commands of the graph by themselves, in two threads.
fn bare_commands(folder: &Path, count: usize) -> io::Result<f64> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("in.txt"), "start\n")?;
    let half = |first: usize| {
        (first..count).step_by(2).try_for_each(|i| {
            let script = format!("cat in.txt > o{i}.txt && echo {i} >> o{i}.txt");
            run(Command::new("/bin/sh").args(["-c", &script]).current_dir(folder)).map(drop)
        })
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        half(0).and(other.join().unwrap_or_else(|_| Err(io::Error::other("the other half failed"))))
    })?;
    Ok(began.elapsed().as_secs_f64())
}

/// Going back to what 1,000 stages said before an edit.
fn revert(bench: &Bench, folder: &Path) -> io::Result<Vec<Figure>> {
    for edited in [0..0, 0..1000] {
        graphs::neftpipe(folder, 1000, edited)?;
        run(&mut bench.neftpipe(folder, &["run", "dag.yaml"]))?;
    }
    let mut is_edited = true;
    let times = alone(bench.rounds, || {
        is_edited = !is_edited;
        graphs::neftpipe(folder, 1000, if is_edited { 0..1000 } else { 0..0 })?;
        run(&mut bench.neftpipe(folder, &["run", "dag.yaml"]))
    })?;
    Ok(vec![figure("going back on an edit of 1,000 stages", &times, "< 500 ms")])
}

/// Nothing to do, beside ninja; and a plan after one edit.
fn no_op(bench: &Bench, folder: &Path) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for stages in [100, 1000, 10_000, 100_000].into_iter().filter(|&stages| bench.large || stages <= 10_000) {
        let (ours, theirs) = (folder.join(format!("n{stages}")), folder.join(format!("j{stages}")));
        graphs::neftpipe(&ours, stages, 0..0)?;
        graphs::ninja(&theirs, stages)?;
        run(&mut bench.neftpipe(&ours, &["run", "dag.yaml"]))?;
        let ninja = peer("ninja", &theirs);
        ninja.as_ref().map(|ninja| run(&mut ninja())).transpose()?;
        std::thread::sleep(SETTLED);
        let times = in_turn(
            bench.rounds,
            || run(&mut bench.neftpipe(&ours, &["run", "dag.yaml"])),
            ninja.map(|ninja| move || run(&mut ninja())),
        )?;
        let what = format!("no-op of {stages} stages, {:.0} µs a stage", times.0.median() / stages as f64 * 1e6);
        figures.push(compared(&what, "ninja", &times, if stages == 10_000 { "≤ 4 × ninja" } else { "flat per stage" }));
        if stages == 10_000 {
            let mb = peak_mb(&mut bench.neftpipe(&ours, &["run", "dag.yaml"]))?;
            let here = format!("{mb:.0} MB");
            figures.push(Figure { what: "its memory".to_owned(), here, beside: None, ratio: None, wanted: "< 100 MB" });
            graphs::neftpipe(&ours, stages, 9_000..9_001)?;
            let plan = alone(bench.rounds, || run(&mut bench.neftpipe(&ours, &["plan", "dag.yaml"])))?;
            figures.push(figure("`plan` of 10,000 stages after one edit", &plan, "< 300 ms"));
        }
    }
    Ok(figures)
}

/// Every stage needs the one before it.
fn chain(bench: &Bench, folder: &Path) -> io::Result<Vec<Figure>> {
    graphs::chain(folder, 100_000)?;
    let times = alone(bench.rounds.min(3), || run(&mut bench.neftpipe(folder, &["plan", "dag.yaml"])))?;
    Ok(vec![figure("`plan` of a chain of 100,000 stages", &times, "works")])
}

/// The files of a local source are hashed for a plan when they are new to the store.
fn hash(bench: &Bench, folder: &Path, what: &str) -> io::Result<Figure> {
    fs::write(folder.join("p.yaml"), "version: 1\nstages:\n  d:\n    download: { from: 'file:data', as: files }\n")?;
    let ours = || bench.anew(folder, &["plan", "p.yaml"]);
    let b3sum = peer("b3sum", &folder.join("data"));
    let theirs = b3sum.map(|b3sum| {
        move || {
            let mut list = b3sum();
            run(list.args(["--no-names", "--"]).args(names(&folder.join("data"))?))
        }
    });
    let times = in_turn(bench.rounds.min(5), ours, theirs)?;
    Ok(compared(what, "b3sum", &times, "≥ 0.9 of its rate: ratio ≤ 1.11"))
}

fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

fn hash_big(bench: &Bench, folder: &Path) -> io::Result<Vec<Figure>> {
    const CHUNK: usize = 1 << 20;
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let chunk: Vec<u8> = (0..CHUNK).map(|at| (at % 251) as u8).collect();
    for name in 0..8_u8 {
        let mut file = fs::File::create(data.join(name.to_string()))?;
        (0..512).try_for_each(|_| file.write_all(&chunk))?;
    }
    std::thread::sleep(SETTLED);
    Ok(vec![hash(bench, folder, "hashing 4 GiB in 8 files")?])
}

fn hash_small(bench: &Bench, folder: &Path) -> io::Result<Vec<Figure>> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    (0..100_000).try_for_each(|name| fs::write(data.join(format!("f{name:05}")), format!("file {name}\n")))?;
    std::thread::sleep(SETTLED);
    let hashed = hash(bench, folder, "hashing 100,000 small files")?;
    run(&mut bench.neftpipe(folder, &["run", "p.yaml"]))?;
    std::thread::sleep(SETTLED);
    let times = alone(bench.rounds, || run(&mut bench.neftpipe(folder, &["run", "p.yaml"])))?;
    Ok(vec![hashed, figure("no-op over a `file:` source of 100,000 files", &times, "< 500 ms")])
}

/// 3 GB are made, taken in, and handed out.
fn artifact(bench: &Bench, folder: &Path) -> io::Result<Vec<Figure>> {
    const BYTES: u64 = 3_000_000_000;
    fs::create_dir_all(folder)?;
    let text =
        format!("version: 1\nstages:\n  big:\n    command: {{ run: 'head -c {BYTES} /dev/zero > {{out}}/big.bin' }}\n");
    fs::write(folder.join("p.yaml"), text)?;
    let began = Instant::now();
    let taken = peak_mb(&mut bench.neftpipe(folder, &["run", "p.yaml"]))?;
    let seconds = began.elapsed().as_secs_f64();
    let handed = peak_mb(&mut bench.neftpipe(folder, &["path", "big"]))?;
    let copies = stored_bytes(&store(folder))? as f64 / BYTES as f64;
    let figure = |what: &str, here, wanted| Figure { what: what.to_owned(), here, beside: None, ratio: None, wanted };
    Ok(vec![
        figure("memory: 3 GB taken in", format!("{taken:.0} MB, {} in all", span(seconds)), "< 100 MB"),
        figure("memory: 3 GB handed out", format!("{handed:.0} MB"), "< 100 MB"),
        figure("copies of it on the disk", format!("{copies:.2}"), "1"),
    ])
}

/// Bytes of all files below a folder, links not followed.
fn stored_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        bytes += match () {
            () if kind.is_dir() => stored_bytes(&entry.path())?,
            () if kind.is_file() => entry.metadata()?.len(),
            () => 0,
        };
    }
    Ok(bytes)
}
