//! How a command ended, and what it said.

use std::process::Output;

use serde_json::Value;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The last line of stdout as JSON.
    pub fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{}", self.stderr))
    }

    /// Every line of stdout as JSON.
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Checks the exit code and shows what was printed where it differs.
    pub fn exits(self, code: i32) -> Self {
        self.exits_with(&[code])
    }

    /// Checks that the exit code is one of these, and that nothing panicked.
    pub fn exits_with(self, codes: &[i32]) -> Self {
        let is_known = self.code.is_some_and(|code| codes.contains(&code));
        assert!(is_known, "{:?}, not {codes:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
