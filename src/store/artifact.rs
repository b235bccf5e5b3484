//! An artifact: a set of files under relative paths, named by one digest.

use neftpipe_protocol::{ArtifactType, Digest, KeyHasher};
use serde::{Deserialize, Serialize};

/// Files that were made together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is.
    #[serde(rename = "type")]
    pub artifact_type: ArtifactType,
    /// Digest of the files' paths and contents, and of nothing else.
    pub digest: Digest,
    /// The files, sorted by path.
    pub files: Vec<ArtifactFile>,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// Its path in the artifact, with `/` between folders.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Digest of its content: the name of its blob.
    pub digest: Digest,
}

impl Artifact {
    /// An artifact of these files, in any order.
    pub fn new(artifact_type: ArtifactType, mut files: Vec<ArtifactFile>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let digest = digest_of(&files);
        Self { artifact_type, digest, files }
    }

    /// The file at this path.
    pub fn file(&self, path: &str) -> Option<&ArtifactFile> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok().map(|index| &self.files[index])
    }

    /// Size of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether the digest is that of the files, they are sorted, and no path leads out of the artifact.
    pub(super) fn is_sound(&self) -> bool {
        self.files.windows(2).all(|pair| pair[0].path < pair[1].path)
            && self.files.iter().all(|file| is_inside(&file.path))
            && self.digest == digest_of(&self.files)
    }
}

fn is_inside(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

fn digest_of(files: &[ArtifactFile]) -> Digest {
    let mut hasher = KeyHasher::new("neftpipe 2026 artifact v1");
    hasher.add(&(files.len() as u64));
    for file in files {
        hasher.add(file.path.as_str()).add(&file.bytes).add(&file.digest);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> ArtifactFile {
        ArtifactFile { path: path.to_owned(), bytes: content.len() as u64, digest: Digest::of(content.as_bytes()) }
    }

    #[test]
    fn the_digest_depends_on_paths_and_contents_alone() {
        let a = Artifact::new(ArtifactType::Files, vec![file("a", "1"), file("b/c", "2")]);
        let b = Artifact::new(ArtifactType::Model, vec![file("b/c", "2"), file("a", "1")]);
        assert_eq!(a.digest, b.digest);
        assert_ne!(a.digest, Artifact::new(ArtifactType::Files, vec![file("a", "2"), file("b/c", "1")]).digest);
        assert_ne!(a.digest, Artifact::new(ArtifactType::Files, vec![file("a", "1"), file("b/d", "2")]).digest);
        assert_eq!(a.file("b/c").unwrap().bytes, 1);
        assert!(a.file("b").is_none());
    }

    #[test]
    fn paths_that_lead_out_are_not_sound() {
        for path in ["../a", "/a", "a//b", "a/./b", ""] {
            assert!(!Artifact::new(ArtifactType::Files, vec![file(path, "1")]).is_sound(), "{path}");
        }
        assert!(Artifact::new(ArtifactType::Files, vec![file("a..b/.c", "1")]).is_sound());
    }
}
