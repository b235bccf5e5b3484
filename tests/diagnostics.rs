//! What a person is shown, problem by problem: `tests/fixtures/diagnostics/CODE.yaml` and the text beside it.
//!
//! A file may begin with `# --set K=V` and `# --profile P`. `UPDATE=1 cargo test --test diagnostics` writes the texts anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use neftpipe::spec::problem::Code;
use neftpipe::spec::{Overrides, load};
use neftpipe::ui::diagnostic::render;

const FOLDER: &str = "tests/fixtures/diagnostics";

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
        Ok(pipeline) => pipeline.warnings.join("\n") + "\n",
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
