//! The README says what is so: its commands are understood, its pipelines are tested ones, its files exist.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use clap::Parser;
use neftpipe::cli::Cli;

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Words of a command line as a shell splits them, with single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.last_mut().unwrap().push_str(part);
            continue;
        }
        for (position, piece) in part.split(' ').enumerate() {
            if position > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(piece);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_is_understood() {
    let readme = text("README.md");
    let blocks = blocks(&readme, "console");
    let lines = blocks.iter().flat_map(|block| block.lines()).filter_map(|line| line.strip_prefix("$ "));
    let mut commands = 0;
    for line in lines.filter(|line| line.starts_with("neftpipe ")) {
        let words = words(line);
        Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        for pipeline in words.iter().filter(|word| word.ends_with(".yaml")) {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(pipeline).is_file(), "{line}");
        }
        commands += 1;
    }
    assert!(commands >= 6, "{commands} commands");
}

#[test]
fn every_pipeline_shown_is_one_that_is_tested() {
    let tested =
        ["tests/fixtures/tiny.yaml", "tests/fixtures/patterns.yaml", "pipelines/neftune-llama3.2-1b.yaml"].map(text);
    for block in blocks(&text("README.md"), "yaml") {
        let is_tested = tested.iter().any(|text| text.contains(&block));
        assert!(block.starts_with('#') || is_tested, "no tested file holds\n{block}");
    }
}

#[test]
fn every_file_that_is_pointed_to_is_there() {
    let readme = text("README.md");
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if !link.contains("://") && !link.starts_with('#') {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link).is_file(), "{link}");
        }
    }
}

#[test]
fn the_edit_that_the_readme_makes_finds_its_line() {
    assert!(text("README.md").contains("s/neft.alpha: 5 /neft.alpha: 7 /"));
    assert!(text("pipelines/sweep.yaml").contains("neft5: { neft.alpha: 5 }"));
}
