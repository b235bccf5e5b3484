//! The page in a headless Chromium: what people do with it, at all sizes.
//!
//! These tests need node, Chromium and `npm ci` in `tests/page`, which `.ci/page` sees to; so they are run by that alone.

use std::path::Path;
use std::process::Command;

use super::sweep::{self, LARGE, Sweep, WHOLE};
use super::written;

/// Reads the page of a sweep by a script, which is given the page's path and Chromium's name.
fn read_page(sweep: Sweep, script: &str) {
    // The report stays there for people to look at.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(script);
    _ = std::fs::remove_dir_all(&dir);
    written::report_in(&dir, sweep, &sweep::params());
    let page = dir.join("attempt/out/report/index.html");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page").join(script);
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let status = Command::new("node").arg(script).arg(&page).arg(chromium).status().expect("node is installed");
    assert!(status.success());
}

#[test]
#[ignore = "needs Chromium: run by .ci/page"]
fn people_can_use_it() {
    read_page(WHOLE, "use.mjs");
}

#[test]
#[ignore = "needs Chromium: run by .ci/page"]
fn twelve_arms_of_805_answers_open_at_once() {
    read_page(LARGE, "large.mjs");
}
