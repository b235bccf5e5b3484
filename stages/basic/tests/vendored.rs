//! What others made and stands in this repository is as they made it.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

#[test]
fn vendored_files_are_unchanged() {
    for folder in ["uplot", "arimo"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(folder);
        let list = fs::read_to_string(folder.join("vendored.sha256")).unwrap();
        assert!(list.lines().count() >= 2, "{list}");
        for (digest, name) in list.lines().map(|line| line.split_once("  ").unwrap()) {
            let found = Sha256::digest(fs::read(folder.join(name)).unwrap());
            let hex = found.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            assert_eq!(hex, digest, "{name}");
        }
    }
}
