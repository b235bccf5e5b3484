//! Mutated and hostile pipeline files: whatever they hold, they load or are refused, quickly and without a panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neftpipe::spec::{Overrides, Selector, load};
use neftpipe::ui::diagnostic::render;

use crate::bench::Bench;
use crate::random::Random;
use crate::{share_of, told};

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
    let count = share_of(20_000);
    let seeds = seeds();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let mut random = Random::new(7);
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
    assert!(loaded > 0);
    let what =
        format!("{loaded} loads succeeded, the others were refused, none panicked; the slowest took {slowest:.0?}");
    told("mutated pipeline files", count, &what);
}

#[test]
fn the_program_refuses_mutated_files_with_its_code_for_them() {
    let seeds = seeds();
    let bench = Bench::new("");
    let mut random = Random::new(8);
    let count = share_of(500);
    for _ in 0..count {
        let one = random.below(seeds.len());
        let other = random.below(seeds.len());
        bench.write("p.yaml", mutate(&mut random, &seeds[one], &seeds[other]));
        bench.neftpipe(&["plan", "p.yaml"]).exits_with(&[0, 2]);
    }
    told("mutated pipeline files given to the program", count, "exit code 0 or 2, none panicked");
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
    let count = texts.len();
    for text in texts {
        fs::write(&file, &text).unwrap();
        let start = Instant::now();
        let problems = load(&file, &Overrides::default()).unwrap_err();
        assert!(render(&problems, false).len() < 200_000);
        println!("{:?}… refused after {:?}", &text[..text.len().min(20)], start.elapsed());
    }
    told("hostile pipeline files: alias bombs, depth, 10 MB scalars", count, "refused");
}

#[test]
fn a_hundred_thousand_stages_are_handled() {
    let count = share_of(100_000);
    let stage = |index: usize| format!("  s{index}: {{ command: {{ run: \"echo {index} > {{out}}/x\" }} }}\n");
    let stages: String = (0..count).map(stage).collect();
    let bench = Bench::new(&format!("version: 1\nname: many\nstages:\n{stages}"));
    let start = Instant::now();
    let ended = bench.neftpipe(&["plan", "p.yaml", "--json"]).exits(0);
    assert_eq!(ended.json()["counts"]["run"], count);
    told("stages of one pipeline file", count, &format!("planned in {:.0?}", start.elapsed()));
}
