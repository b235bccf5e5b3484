//! Names of the store's folders, and the files by which it explains itself.

use std::fs;
use std::path::Path;

use super::error::{Result, StoreError};
use super::files::write_atomic;

pub const ATTEMPTS: &str = "attempts";
pub const BLOBS: &str = "blobs";
pub const COLLECTOR: &str = "locks/collector";
pub const COLLECTOR_LEASES: &str = "locks/collector.leases";
pub const CORRUPT: &str = "corrupt";
pub const ENTRIES: &str = "entries";
pub const HISTORY: &str = "history";
pub const IDENTITIES: &str = "identities";
pub const LOCKS: &str = "locks";
pub const MANIFESTS: &str = "manifests";
pub const PARTIAL: &str = "partial";
pub const ROWS: &str = "rows";
pub const RUNS: &str = "runs";
pub const STATES: &str = "states";
pub const TMP: &str = "tmp";
pub const VIEWS: &str = "views";
pub const WORKERS: &str = "workers.json";

/// Version of the layout, in the file `layout`. A store with another number is refused.
const LAYOUT: u32 = 1;
pub const LAYOUT_FILE: &str = "layout";

const README: &str = include_str!("layout.README.md");
const GITIGNORE: &str = "*\n!.gitignore\n!CACHEDIR.TAG\n!README.md\n";
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache made by neftpipe; backups may leave it out. See https://bford.info/cachedir/
";

/// Makes the folders and files that are missing; a store that is whole is only read.
pub fn prepare(root: &Path) -> Result<()> {
    let layout = root.join(LAYOUT_FILE);
    match fs::read_to_string(&layout) {
        Ok(text) if text.trim() == LAYOUT.to_string() => return Ok(()),
        Ok(text) => {
            let found = text.trim().chars().take(40).collect();
            return Err(StoreError::Layout { path: root.to_owned(), found, wanted: LAYOUT });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("read", &layout)(error)),
    }
    for folder in [ATTEMPTS, BLOBS, ENTRIES, HISTORY, LOCKS, ROWS, RUNS, STATES, TMP, VIEWS] {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
    }
    for (name, text) in [("README.md", README), (".gitignore", GITIGNORE), ("CACHEDIR.TAG", CACHEDIR_TAG)] {
        let path = root.join(name);
        if !path.exists() {
            write_atomic(root, &path, text.as_bytes())?;
        }
    }
    write_atomic(root, &layout, format!("{LAYOUT}\n").as_bytes())
}
