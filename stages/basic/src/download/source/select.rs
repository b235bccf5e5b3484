//! Which files of a source are taken, and which names are safe to write.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use neftpipe_protocol::Failure;

/// The globs of `select`. `*` stays inside a folder, `**` crosses folders. Without globs every file is taken.
#[derive(Debug, Clone)]
pub struct Selection {
    patterns: Vec<String>,
    globs: GlobSet,
}

impl Selection {
    /// Compiles the globs.
    ///
    /// # Errors
    /// A glob that is none.
    pub fn new(patterns: &[String]) -> Result<Self, Failure> {
        let glob = |pattern: &String| -> Result<Glob, Failure> {
            GlobBuilder::new(pattern.trim_start_matches("./"))
                .literal_separator(true)
                .build()
                .map_err(|error| Failure::usage(format!("select: `{pattern}`: {}", error.kind())))
        };
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(glob(pattern)?);
        }
        let globs = set.build().map_err(|error| Failure::usage(format!("select: {error}")))?;
        Ok(Self { patterns: patterns.to_vec(), globs })
    }

    /// Whether every file is taken.
    pub fn is_all(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The globs as written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether this file is taken.
    pub fn takes(&self, name: &str) -> bool {
        self.is_all() || self.globs.is_match(name)
    }

    /// The failure of a selection that leaves nothing of these names.
    pub fn nothing(&self, source: &str, mut names: Vec<&str>) -> Failure {
        const SHOWN: usize = 8;
        names.sort_unstable();
        let more = names.len().saturating_sub(SHOWN);
        let mut shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if more > 0 {
            shown.push_str(&format!(" and {more} more"));
        }
        if names.is_empty() {
            return Failure::environment(format!("{source} has no files"));
        }
        let globs = self.patterns.iter().map(|glob| format!("`{glob}`")).collect::<Vec<_>>().join(", ");
        Failure::environment(format!("{source} has no file that matches {globs}"))
            .with_hint(format!("it has {shown}; `*` stays inside a folder, `**` crosses folders"))
    }
}

/// Refuses names that would be written outside their folder.
///
/// # Errors
/// An absolute name, one with `..`, an empty part or a NUL.
pub fn check_name(source: &str, name: &str) -> Result<(), Failure> {
    let escapes = name.split('/').any(|part| matches!(part, "" | "." | "..")) || name.contains(['\\', '\0']);
    if escapes {
        return Err(Failure::data(format!("{source}: the file name {name:?} leads out of its folder; it is refused")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_inside_a_folder() {
        let selection = Selection::new(&["a/*.yml".to_owned(), "**/x.json".to_owned()]).unwrap();
        assert!(selection.takes("a/b.yml") && selection.takes("x.json") && selection.takes("q/w/x.json"));
        assert!(!selection.takes("a/b/c.yml") && !selection.takes("b.yml"));
        assert!(Selection::new(&[]).unwrap().takes("anything/at/all"));
        assert!(Selection::new(&["[".to_owned()]).is_err());
    }

    #[test]
    fn names_that_escape_are_refused() {
        for name in ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\..\\b", "", "./a"] {
            assert!(check_name("s", name).is_err(), "{name}");
        }
        assert!(check_name("s", "a/b c/ü..x").is_ok());
    }
}
