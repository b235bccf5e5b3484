//! What the machine already has of the hub: its settings, the saved login and the local cache that all its clients share.
//!
//! Layout of the cache: `models--OWNER--NAME/refs/<revision>` holds a commit, `…/snapshots/<commit>/<path>` the files.
//! It is only read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_protocol::Failure;
use neftpipe_protocol::source::HubRepo;
use neftpipe_protocol::worker::io_failure;
use walkdir::WalkDir;

/// Settings of the hub's clients, as the environment has them.
pub struct HubEnv {
    /// Address without a slash at the end.
    pub endpoint: String,
    /// Access token.
    pub token: Option<String>,
    /// Folder of the local cache.
    pub cache: PathBuf,
    /// Whether the network is not to be used.
    pub offline: bool,
}

impl HubEnv {
    /// Reads them.
    ///
    /// # Errors
    /// Where a saved login is there but cannot be read.
    pub fn read(offline: bool) -> Result<Self, Failure> {
        let home = path("HF_HOME").unwrap_or_else(default_home);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let saved = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = match text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")) {
            Some(token) => Some(token),
            None => read_if_there(&saved)?,
        };
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home.join("hub"));
        let offline = offline || ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().any(is_on);
        Ok(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token, cache, offline })
    }
}

fn default_home() -> PathBuf {
    path("XDG_CACHE_HOME")
        .or_else(|| path("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(env::temp_dir)
        .join("huggingface")
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_on(name: &str) -> bool {
    text(name).is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

fn read_if_there(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failure("read", path, &error)),
    }
}

/// The cache's folder of one repository.
pub struct HubCache {
    root: PathBuf,
}

impl HubCache {
    /// Where this repository would be.
    pub fn of(env: &HubEnv, repo: &HubRepo) -> Self {
        let kind = if repo.dataset { "datasets" } else { "models" };
        Self { root: env.cache.join(format!("{kind}--{}", repo.id.replace('/', "--"))) }
    }

    /// The commit that a branch or tag was at when it was last looked up.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| !commit.is_empty() && !commit.contains(['/', '.']))
    }

    /// A file of a commit, where it is there.
    pub fn file(&self, commit: &str, path: &str) -> Option<PathBuf> {
        let file = self.snapshot(commit).join(path);
        file.is_file().then_some(file)
    }

    /// Names of the files that are there of a commit.
    ///
    /// # Errors
    /// Where the folder is there but cannot be read.
    pub fn names(&self, commit: &str) -> Result<Vec<String>, Failure> {
        let snapshot = self.snapshot(commit);
        if !snapshot.is_dir() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in WalkDir::new(&snapshot).follow_links(true).sort_by_file_name() {
            let entry = entry.map_err(|error| Failure::environment(format!("{}: {error}", snapshot.display())))?;
            let inside = entry.path().strip_prefix(&snapshot).ok().and_then(Path::to_str);
            if let (true, Some(name)) = (entry.file_type().is_file(), inside) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_read_as_the_hub_s_clients_write_it() {
        let dir = tempfile::tempdir().unwrap();
        let env = HubEnv { endpoint: String::new(), token: None, cache: dir.path().to_owned(), offline: true };
        let repo = HubRepo { dataset: true, id: "a/b".into(), revision: "main".into() };
        let root = dir.path().join("datasets--a--b");
        fs::create_dir_all(root.join("refs")).unwrap();
        fs::create_dir_all(root.join("snapshots/c0/data")).unwrap();
        fs::write(root.join("refs/main"), "c0\n").unwrap();
        fs::write(root.join("snapshots/c0/data/x.json"), "[]").unwrap();
        let cache = HubCache::of(&env, &repo);
        assert_eq!(cache.commit_of("main").as_deref(), Some("c0"));
        assert_eq!(cache.commit_of("dev"), None);
        assert_eq!(cache.names("c0").unwrap(), ["data/x.json"]);
        assert!(cache.file("c0", "data/x.json").is_some() && cache.file("c0", "y").is_none());
        assert!(cache.names("c1").unwrap().is_empty());
    }
}
