//! What a person is shown, problem by problem: `tests/fixtures/diagnostics/CODE.yaml` and the text beside it.
//!
//! `docs/diagnostics.md` is made of them.
//!
//! A file may begin with `# --set K=V` and `# --profile P`. `UPDATE=1 cargo test --test diagnostics` writes the
//! texts and the page anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use neftpipe::spec::problem::Code;
use neftpipe::spec::{Overrides, load};
use neftpipe::ui::diagnostic::{render, render_in};

const FOLDER: &str = "tests/fixtures/diagnostics";
const PAGE: &str = "docs/diagnostics.md";
const INTRODUCTION: &str = "\
# What can be wrong with a pipeline file

Everything that is wrong with a file is shown at once, each problem with a code that stays the same. Errors end a command
with exit code 2 before anything runs; with `--json` they are an object `{version, problems}` on stdout. A warning does not
stop anything.

This page is made of the examples that the tests run.

";

fn overrides(file: &Path) -> Overrides {
    let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
    let mut overrides = Overrides::default();
    for line in text.lines() {
        if let Some((key, value)) = line.strip_prefix("# --set ").and_then(|rest| rest.split_once('=')) {
            overrides.set.push((key.to_owned(), value.to_owned()));
        } else if let Some(profile) = line.strip_prefix("# --profile ") {
            overrides.profile = Some(profile.to_owned());
        }
    }
    overrides
}

fn shown(file: &Path) -> String {
    match load(file, &overrides(file)) {
        Ok(pipeline) => render(&pipeline.warnings, false) + "\n",
        Err(problems) => render(&problems, false) + "\n",
    }
}

#[test]
fn every_code_is_shown_as_its_text_says() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for code in Code::ALL {
        let file = Path::new(FOLDER).join(format!("{code}.yaml"));
        let text = shown(&file);
        assert!(text.contains(&format!("[{code}]")), "{} does not show it:\n{text}", file.display());
        let expected = file.with_extension("txt");
        if update {
            fs::write(&expected, &text).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_wrong_stays_underlined_in_a_narrow_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    let before = "label: a stage with a long label before it, ";
    let text = format!(
        "version: 1\nstages:\n  a: {{ {before}command: {{ run: 'true', timeot: 1 }}, resources: {{ cpus: 1, memory: 1GiB }} }}\n"
    );
    fs::write(&file, text).unwrap();
    let shown = render_in(&load(&file, &Overrides::default()).unwrap_err(), false, 60);
    let lines: Vec<&str> = shown.lines().collect();
    let at = lines.iter().position(|line| line.contains('^')).unwrap();
    let (start, end) = (lines[at].find('^').unwrap(), lines[at].rfind('^').unwrap());
    assert_eq!(&lines[at - 1][start..=end], "timeot", "{shown}");
    assert!(lines[at - 1].chars().count() <= 60, "{shown}");
}

#[test]
fn every_fixture_has_its_code() {
    let names: BTreeSet<String> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(names, codes);
}

/// The table of codes, and an example of each with what is said of it.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned() + "| code | means |\n|---|---|\n";
    for code in Code::ALL {
        page += &format!("| [`{code}`](#{code}) | {} |\n", code.meaning());
    }
    for code in Code::ALL {
        let example = Path::new(FOLDER).join(format!("{code}.yaml"));
        let yaml = String::from_utf8_lossy(&fs::read(&example).unwrap()).into_owned();
        let said = shown(&example).replace(&format!("{FOLDER}/"), "");
        page += &format!("\n## {code}\n\n{}\n\n", sentence(code.meaning()));
        page += &format!("```yaml\n{}\n```\n\n```text\n{}\n```\n", yaml.trim_end(), said.trim_end());
    }
    page
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>() + "."
}

#[test]
fn the_page_of_codes_is_up_to_date() {
    let page = page();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let is_so = fs::read_to_string(PAGE).unwrap_or_default() == page;
    assert!(is_so, "{PAGE} is not what the code says: UPDATE=1 cargo test --test diagnostics writes it anew");
}
