//! `hf:[datasets/]OWNER/NAME[@REV]`: files of a repository on the Hugging Face hub, or on any server that answers like it.
//!
//! The hub's own client crate (`hf-hub` 1.0) is not used, for its weight and for its behaviour offline: its blocking mode brings
//! some 280 crates (tokio, reqwest, the xet client) into a worker that has an HTTP client already, and it does not read
//! `HF_HUB_OFFLINE`; working from the cache alone is an argument of every call. What is needed of the hub is two addresses: one
//! that turns a revision into a commit and lists its files, and one that serves a file. The hub's local cache is read, never
//! written.
//!
//! Environment: `HF_ENDPOINT`, `HF_TOKEN` (or the saved login), `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::download::DownloadAs;
use neftpipe_protocol::source::{HubRepo, MAIN};
use serde::Deserialize;
use ureq::http::StatusCode;

use super::client::{Client, Get, HttpError, Stopped, Trouble, with_retries};
use super::hub_cache::{HubCache, HubEnv};
use super::resolved::{Resolved, ResolvedFile};
use super::select::{Selection, check_name};
use super::transfer::{Meter, Transfer, sha256_of};
use super::{Fetch, Fetched, SourceFile, measured};
use crate::download::Halt;

/// Where a repository is shown to people.
fn page(endpoint: &str, repo: &HubRepo) -> String {
    format!("{endpoint}/{}{}", if repo.dataset { "datasets/" } else { "" }, repo.id)
}

/// What tells the commit of a revision, and its files.
fn api(endpoint: &str, repo: &HubRepo) -> String {
    let kind = if repo.dataset { "datasets" } else { "models" };
    format!("{endpoint}/api/{kind}/{}/revision/{}?blobs=true", repo.id, encode(&repo.revision, ""))
}

fn file_url(endpoint: &str, repo: &HubRepo, commit: &str, path: &str) -> String {
    format!("{}/resolve/{commit}/{}", page(endpoint, repo), encode(path, "/"))
}

/// A file of the repository, with what is known of it before it is here.
#[derive(Debug, Clone)]
struct Listed {
    path: String,
    bytes: Option<u64>,
    sha256: Option<String>,
}

/// The files of one commit.
struct Listing {
    commit: String,
    files: Vec<Listed>,
}

/// One fetch at work.
struct Hub<'a> {
    fetch: &'a Fetch<'a>,
    repo: &'a HubRepo,
    env: HubEnv,
    cache: HubCache,
}

/// The selected files of the repository.
pub fn fetch(fetch: &Fetch, repo: &HubRepo) -> Result<Fetched, Halt> {
    let env = HubEnv::read(fetch.offline())?;
    let cache = HubCache::of(&env, repo);
    let hub = Hub { fetch, repo, env, cache };
    let pin = fetch.resolved()?;
    let client = Client::new()?;
    let listing = hub.listing(&client, pin.as_ref())?;
    hub.bring(&client, listing, pin.as_ref())
}

impl Hub<'_> {
    /// The files to bring: from the lock file where it knows them all, else the chosen ones of the commit.
    fn listing(&self, client: &Client, pin: Option<&Resolved>) -> Result<Listing, Halt> {
        let selection = self.fetch.selection()?;
        if let Some(Resolved { commit: Some(commit), select, artifact, files, .. }) = pin
            && select == selection.patterns()
            && *artifact == self.artifact()
        {
            let known = |file: &ResolvedFile| Listed {
                path: file.path.clone(),
                bytes: Some(file.bytes),
                sha256: Some(file.sha256.clone()),
            };
            return Ok(Listing { commit: commit.clone(), files: files.iter().map(known).collect() });
        }
        let pinned = pin.and_then(|pin| pin.commit.clone());
        let mut listing =
            if self.env.offline { self.list_cache(pinned)? } else { self.list_hub(client, pinned.as_deref())? };
        self.choose(&selection, &mut listing.files)?;
        Ok(listing)
    }

    fn artifact(&self) -> Option<DownloadAs> {
        self.fetch.params.said_to_be()
    }

    fn list_cache(&self, pinned: Option<String>) -> Result<Listing, Failure> {
        let commit = pinned.or_else(|| self.repo.is_commit().then(|| self.repo.revision.clone()));
        let commit = commit.or_else(|| self.cache.commit_of(&self.repo.revision));
        let commit = commit.ok_or_else(|| self.not_here("its revision"))?;
        let names = self.cache.names(&commit)?;
        if names.is_empty() {
            return Err(self.not_here("its files"));
        }
        let listed = |path| Listed { path, bytes: None, sha256: None };
        Ok(Listing { commit, files: names.into_iter().map(listed).collect() })
    }

    fn not_here(&self, what: &str) -> Failure {
        let Self { env, repo, .. } = self;
        Failure::environment(format!(
            "hf:{}{}@{}: the hub's cache ({}) does not hold {what}, and the network is not to be used",
            if repo.dataset { "datasets/" } else { "" },
            repo.id,
            repo.revision,
            env.cache.display()
        ))
        .with_hint("run once without --offline and HF_HUB_OFFLINE")
    }

    fn list_hub(&self, client: &Client, pinned: Option<&str>) -> Result<Listing, Halt> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
            size: Option<u64>,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            sha256: String,
        }
        let repo = HubRepo { revision: pinned.unwrap_or(&self.repo.revision).to_owned(), ..self.repo.clone() };
        let url = api(&self.env.endpoint, &repo);
        let get = Get { url: url.clone(), token: self.env.token.clone(), ..Get::default() };
        let attempt = || {
            let mut response = client.send(&get)?;
            let read = response.body_mut().with_config().limit(LISTING_BYTES).read_to_vec();
            read.map_err(|error| Trouble::passing(error.to_string(), false))
        };
        let body = with_retries(self.fetch.job, &url, attempt).map_err(|stopped| self.explain(stopped))?;
        let info: Info = serde_json::from_slice(&body).map_err(|error| {
            Failure::environment(format!("{url}: the answer is not the hub's: {error}"))
                .with_hint("HF_ENDPOINT must name a server that answers like the hub")
        })?;
        let listed = |sibling: Sibling| Listed {
            path: sibling.rfilename,
            bytes: sibling.size,
            sha256: sibling.lfs.map(|lfs| lfs.sha256),
        };
        Ok(Listing { commit: info.sha, files: info.siblings.into_iter().map(listed).collect() })
    }

    fn choose(&self, selection: &Selection, files: &mut Vec<Listed>) -> Result<(), Failure> {
        let source = &self.fetch.params.from;
        let all: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        if selection.is_all() {
            let needed = (self.fetch.narrow)(source, self.artifact(), &all)?;
            files.retain(|file| needed.contains(&file.path));
        } else {
            files.retain(|file| selection.takes(&file.path));
        }
        if files.is_empty() {
            return Err(selection.nothing(source, all.iter().map(String::as_str).collect()));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    fn bring(&self, client: &Client, listing: Listing, pin: Option<&Resolved>) -> Result<Fetched, Halt> {
        self.check_names(&listing)?;
        let total = listing.files.iter().map(|file| file.bytes).sum::<Option<u64>>();
        let mut meter = Meter::new(self.fetch.job, total);
        let (mut files, mut resolved) = (Vec::new(), Vec::new());
        for listed in &listing.files {
            let (file, known) = match self.cached(&listing.commit, listed)? {
                Some(found) => found,
                None if self.env.offline => return Err(self.not_here(&format!("`{}`", listed.path)).into()),
                None => self.download(client, &listing.commit, listed, &mut meter)?,
            };
            if let Some(pinned) = pin.and_then(|pin| pin.file(&listed.path)) {
                known.check_pin(pinned)?;
            }
            files.push(file);
            resolved.push(known);
        }
        self.fetch.check_sha256(&resolved)?;
        let resolved = Resolved {
            source: self.fetch.params.from.clone(),
            commit: Some(listing.commit),
            select: self.fetch.params.select.0.clone(),
            artifact: self.artifact(),
            files: resolved,
        };
        Ok(Fetched { files, resolved: Some(resolved), measured: measured(meter.done_bytes()) })
    }

    /// The names come from a server or from the lock file, and paths are made of them.
    fn check_names(&self, listing: &Listing) -> Result<(), Failure> {
        let source = &self.fetch.params.from;
        if !listing.commit.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Failure::data(format!("{source}: {:?} is no commit", listing.commit)));
        }
        listing.files.iter().try_for_each(|file| check_name(source, &file.path))
    }

    /// The file in the hub's cache, if it is there and is what it should be. A damaged one is downloaded anew.
    fn cached(&self, commit: &str, listed: &Listed) -> Result<Option<(SourceFile, ResolvedFile)>, Failure> {
        let Some(path) = self.cache.file(commit, &listed.path) else { return Ok(None) };
        let (bytes, sha256) = sha256_of(&path)?;
        let fits = listed.bytes.is_none_or(|wanted| wanted == bytes)
            && listed.sha256.as_ref().is_none_or(|wanted| *wanted == sha256);
        if !fits {
            let message = format!("{} in the hub's cache is damaged; it is passed over", path.display());
            self.fetch.job.warn("cache_damaged", message);
            return Ok(None);
        }
        let name = listed.path.clone();
        Ok(Some((SourceFile { name: name.clone(), path, ours: false }, ResolvedFile { path: name, bytes, sha256 })))
    }

    fn download(
        &self,
        client: &Client,
        commit: &str,
        listed: &Listed,
        meter: &mut Meter,
    ) -> Result<(SourceFile, ResolvedFile), Halt> {
        let url = file_url(&self.env.endpoint, self.repo, commit, &listed.path);
        let get = Get { url, token: self.env.token.clone(), ..Get::default() };
        let path = self.fetch.downloads().join("repository").join(&listed.path);
        let transfer = Transfer { get, name: &listed.path, path: path.clone() };
        let file = transfer.run(self.fetch.job, client, meter).map_err(|stopped| self.explain(stopped))?;
        if let Some(bytes) = listed.bytes {
            let sha256 = listed.sha256.clone().unwrap_or_else(|| file.sha256.clone());
            file.check_pin(&ResolvedFile { path: listed.path.clone(), bytes, sha256 })?;
        }
        Ok((SourceFile { name: listed.path.clone(), path, ours: true }, file))
    }

    /// What the hub's refusals mean, and what to do about them.
    fn explain(&self, stopped: Stopped) -> Halt {
        let Stopped::Http(HttpError::Status { status, code, message, .. }) = &stopped else { return stopped.into() };
        let Self { env, repo, .. } = self;
        let page = page(&env.endpoint, repo);
        let says = message.as_deref().unwrap_or_default();
        let gated = code.as_deref() == Some("GatedRepo") || (status.as_u16() == 403 && says.contains("gated"));
        let failure = match (*status, code.as_deref()) {
            _ if gated && env.token.is_none() => Failure::environment(format!("{} is gated", repo.id)).with_hint(format!(
                "accept its conditions at {page} with your account, then give a token of that account: set HF_TOKEN, or log in once with `hf auth login`"
            )),
            _ if gated => Failure::environment(format!("{} is gated, and this token's account has no access to it", repo.id))
                .with_hint(format!(
                    "accept its conditions at {page} (some owners approve by hand), and give the token the right to read gated repositories"
                )),
            (_, Some("RevisionNotFound")) => Failure::environment(format!("{} has no revision `{}`", repo.id, repo.revision))
                .with_hint(format!("its branches and tags are listed at {page}/tree/{MAIN}")),
            (_, Some("EntryNotFound")) => return stopped.into(),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) if env.token.is_some() => {
                Failure::environment(format!("{}: the hub refuses this token ({status})", repo.id))
                    .with_hint("check HF_TOKEN or the saved login, and that the token may read this repository")
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => {
                Failure::environment(format!("{page} does not exist, or is private")).with_hint(
                    "check owner and name (`hf:datasets/…` for a dataset); for a private one set HF_TOKEN or log in with `hf auth login`",
                )
            }
            _ => return stopped.into(),
        };
        failure.into()
    }
}

/// Most bytes of a repository's list of files.
const LISTING_BYTES: u64 = 64 << 20;

/// Percent-encodes all but what is plain in an address, and `kept`.
fn encode(text: &str, kept: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.as_bytes().contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_hub() {
        let repo = HubRepo::parse("datasets/tatsu-lab/alpaca@refs/pr/1").unwrap();
        assert_eq!(api("http://h", &repo), "http://h/api/datasets/tatsu-lab/alpaca/revision/refs%2Fpr%2F1?blobs=true");
        let repo = HubRepo::parse("a/b").unwrap();
        assert_eq!(file_url("http://h", &repo, "c0", "x y/ü.json"), "http://h/a/b/resolve/c0/x%20y/%C3%BC.json");
    }
}
