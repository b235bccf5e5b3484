//! Mutated pipeline files: whatever they hold, they load or are refused, quickly and without a panic.
//!
//! `NEFTPIPE_TEST_MUTANTS` sets how many are tried.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neftpipe::spec::{Overrides, Selector, load};
use neftpipe::ui::diagnostic::render;

/// A linear congruential generator: the mutants are the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end.max(1)
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/fixtures/diagnostics", "tests/fixtures/pipelines", "pipelines"];
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn mutate(random: &mut Random, text: &[u8], other: &[u8]) -> Vec<u8> {
    const BITS: [&str; 26] = [
        "${params.",
        "${params.x}",
        "<<: *a\n",
        "&a ",
        "*a",
        "!t ",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "\n",
        "\t",
        "'",
        "\"",
        "|",
        "[*]",
        "[a=b]",
        "1e999",
        ".nan",
        "-1",
        "18446744073709551616",
        "null",
        "é\u{1F600}",
        "\u{feff}",
    ];
    let mut text = text.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(20)).min(text.len());
        match random.below(6) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, BITS[random.below(BITS.len())].bytes())),
            2 if !text.is_empty() => {
                let at = at.min(text.len() - 1);
                text[at] = random.below(256) as u8;
            }
            3 => {
                let copy = text[at..end].to_vec();
                let to = random.below(text.len() + 1);
                drop(text.splice(to..to, copy));
            }
            4 => {
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(60)).min(other.len())].to_vec();
                drop(text.splice(at..end, piece));
            }
            _ => text.truncate(at.max(text.len() / 2)),
        }
    }
    text
}

#[test]
fn mutated_files_are_loaded_or_refused() {
    let count = std::env::var("NEFTPIPE_TEST_MUTANTS").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000);
    let seeds = seeds();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let mut random = Random(7);
    let good: Vec<usize> = (0..seeds.len())
        .filter(|&seed| {
            fs::write(&file, &seeds[seed]).unwrap();
            load(&file, &Overrides::default()).is_ok()
        })
        .collect();
    let mut loaded = 0;
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        // Half of the mutants descend from files that load.
        let one = if random.below(2) == 0 { good[random.below(good.len())] } else { random.below(seeds.len()) };
        let other = random.below(seeds.len());
        let text = mutate(&mut random, &seeds[one], &seeds[other]);
        fs::write(&file, &text).unwrap();
        let start = Instant::now();
        let argument = String::from_utf8_lossy(&text[..text.len().min(1 + random.below(40))]).into_owned();
        let set = vec![(argument.clone(), argument.clone()), ("stages.train.train.steps".to_owned(), argument.clone())];
        for overrides in [Overrides::default(), Overrides { set, profile: Some("smoke".to_owned()) }] {
            match load(&file, &overrides) {
                Ok(pipeline) => {
                    loaded += 1;
                    for (index, instance) in pipeline.instances.iter().enumerate() {
                        assert!(instance.inputs.values().flatten().all(|input| input.instance < index));
                        let selected = Selector::parse(&instance.id).unwrap().select(&pipeline).unwrap();
                        assert_eq!(selected, [index], "{}", instance.id);
                    }
                }
                Err(problems) => {
                    assert!(problems.errors() > 0);
                    render(&problems, true);
                    problems.to_json();
                }
            }
        }
        let _ = Selector::parse(&argument);
        slowest = slowest.max(start.elapsed());
    }
    eprintln!("{count} mutants, {loaded} loaded, the slowest took {slowest:?}");
    assert!(loaded > 0);
}

#[test]
fn hostile_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let bomb: String = (1..40).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1)).collect();
    let texts = [
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "{a: ".repeat(100_000),
        format!("a0: &a0 x\n{bomb}"),
        format!("version: 1\nname: {}\n", "x".repeat(10_000_000)),
        format!("version: 1\nstages:\n  a: {{ command: {{ rnu: '{}' }} }}\n", "x".repeat(10_000_000)),
        "a: &a [*a]\n".to_owned(),
        format!("version: 1\nstages:\n{}", "  a: { comand: {} }\n".repeat(5_000)),
    ];
    for text in texts {
        fs::write(&file, &text).unwrap();
        let start = Instant::now();
        let problems = load(&file, &Overrides::default()).unwrap_err();
        assert!(render(&problems, false).len() < 200_000);
        eprintln!("{:?}… refused after {:?}", &text[..text.len().min(20)], start.elapsed());
    }
}
