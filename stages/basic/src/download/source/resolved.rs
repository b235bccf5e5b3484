//! What a movable source resolved to: the content of its entry in the lock file.

use neftpipe_protocol::params::download::DownloadAs;
use neftpipe_protocol::{Failure, FailureClass};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a movable source resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The source, as `from` says it.
    pub source: String,
    /// The commit of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The globs that chose among a repository's files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub select: Vec<String>,
    /// What the repository's files were wanted as; it narrows them where there are no globs.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub artifact: Option<DownloadAs>,
    /// The files that were downloaded, sorted by path.
    pub files: Vec<ResolvedFile>,
}

/// A downloaded file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedFile {
    /// Path inside the source.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

impl Resolved {
    /// Reads what an earlier run resolved `source` to.
    ///
    /// # Errors
    /// A value of another form, or of another source.
    pub fn from_value(value: &Value, source: &str) -> Result<Self, Failure> {
        const HINT: &str = "run with --refresh to resolve the source anew";
        let resolved: Self = serde_json::from_value(value.clone()).map_err(|error| {
            Failure::data(format!("the lock file's entry of {source} cannot be read: {error}")).with_hint(HINT)
        })?;
        if resolved.source != source {
            return Err(Failure::data(format!("the lock file's entry is of {}, not of {source}", resolved.source))
                .with_hint(HINT));
        }
        Ok(resolved)
    }

    /// The value for the lock file.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("a resolution serialises")
    }

    /// What is known of a file.
    pub fn file(&self, path: &str) -> Option<&ResolvedFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl ResolvedFile {
    /// Fails where this file, as it was brought, has not the wanted checksum.
    ///
    /// # Errors
    /// The file and both checksums.
    pub fn check_sha256(&self, wanted: &str) -> Result<(), Failure> {
        if self.sha256.eq_ignore_ascii_case(wanted) {
            return Ok(());
        }
        Err(mismatch(&self.path, "SHA-256", &self.sha256, &wanted.to_ascii_lowercase()))
    }

    /// Fails where this file, as it was brought, is not the one that was pinned.
    ///
    /// # Errors
    /// The file and both sizes or checksums.
    pub fn check_pin(&self, pin: &Self) -> Result<(), Failure> {
        if self.bytes != pin.bytes {
            return Err(mismatch(&self.path, "size in bytes", &self.bytes.to_string(), &pin.bytes.to_string()));
        }
        self.check_sha256(&pin.sha256)
    }
}

fn mismatch(path: &str, what: &str, found: &str, wanted: &str) -> Failure {
    Failure::new(FailureClass::Data, format!("{path}: its {what} is {found}, and {wanted} was expected"))
        .with_hint("if the source was meant to change, correct `sha256` or run with --refresh")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_another_source_is_refused() {
        let resolved = Resolved {
            source: "pypi:a==1".into(),
            commit: None,
            select: Vec::new(),
            artifact: None,
            files: vec![ResolvedFile { path: "a.whl".into(), bytes: 3, sha256: "AB".into() }],
        };
        let value = resolved.to_value();
        assert_eq!(Resolved::from_value(&value, "pypi:a==1").unwrap(), resolved);
        assert!(Resolved::from_value(&value, "pypi:b==1").is_err());
        assert!(Resolved::from_value(&Value::from(3), "pypi:a==1").is_err());
    }

    #[test]
    fn mismatches_name_the_file_and_both_values() {
        let file = ResolvedFile { path: "a.whl".into(), bytes: 3, sha256: "ab".into() };
        assert!(file.check_sha256("AB").is_ok());
        let message = file.check_sha256("cd").unwrap_err().message;
        assert!(message.contains("a.whl") && message.contains("ab") && message.contains("cd"), "{message}");
        let message = file.check_pin(&ResolvedFile { bytes: 4, ..file.clone() }).unwrap_err().message;
        assert!(message.contains('3') && message.contains('4'), "{message}");
    }
}
