//! The checkout and what cargo makes of it: one profile and one selection of packages for every command, so that what
//! is tested is what runs and what is installed, and nothing is compiled twice.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::error::Error;
use crate::libtorch::Libtorch;

/// The CLI and its workers.
pub const CLI: &str = "neftpipe";
pub const BASIC_WORKER: &str = "neftpipe-stage";
pub const TORCH_WORKER: &str = "neftpipe-stage-torch";

/// A checkout with the libtorch that it is built against.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    libtorch: Libtorch,
}

impl Workspace {
    pub fn new(libtorch: Libtorch) -> Self {
        Self { root: root(), libtorch }
    }

    pub fn libtorch(&self) -> &Libtorch {
        &self.libtorch
    }

    /// Builds the CLI and both workers; returns the folder they are in.
    pub fn build(&self) -> Result<PathBuf, Error> {
        let mut build = self.cargo();
        build.args(["build", "--workspace", "--release", "--bins"]);
        run(build)?;
        Ok(self.target_directory()?.join("release"))
    }

    /// Runs the tests. The binaries are built first: tests of the CLI start the workers that lie beside it.
    pub fn test(&self, arguments: &[OsString]) -> Result<(), Error> {
        self.build()?;
        let mut test = self.cargo();
        test.args(["test", "--workspace", "--release"]).args(arguments);
        run(test)
    }

    /// A command of the user's that sees libtorch.
    pub fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        command
            .env("LIBTORCH", &self.libtorch.root)
            .env(LIBRARY_PATH, prepend(&self.libtorch.libraries(), std::env::var_os(LIBRARY_PATH)));
        command
    }

    fn cargo(&self) -> Command {
        let mut command = self.command(&cargo());
        command.current_dir(&self.root);
        command
    }

    fn target_directory(&self) -> Result<PathBuf, Error> {
        let mut metadata = self.cargo();
        metadata.args(["metadata", "--format-version", "1", "--no-deps"]).stderr(Stdio::inherit());
        let output = metadata.output().map_err(|source| start_error(&metadata, source))?;
        let parsed: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| Error::NoTargetDirectory)?;
        parsed["target_directory"].as_str().map(PathBuf::from).ok_or(Error::NoTargetDirectory)
    }
}

fn root() -> PathBuf {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR").map_or(env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().unwrap_or(&xtask).to_owned()
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// cargo in the checkout, for what needs no libtorch.
pub fn plain_cargo() -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(root());
    command
}

const LIBRARY_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

fn prepend(folder: &Path, list: Option<OsString>) -> OsString {
    let mut paths = folder.as_os_str().to_owned();
    if let Some(list) = list.filter(|list| !list.is_empty()) {
        paths.push(":");
        paths.push(list);
    }
    paths
}

/// Runs a command to its end; anything but success is an error.
pub fn run(mut command: Command) -> Result<(), Error> {
    let status = command.status().map_err(|source| start_error(&command, source))?;
    if status.success() { Ok(()) } else { Err(failed(&command, status)) }
}

/// A command that ended with anything but success.
pub fn failed(command: &Command, status: ExitStatus) -> Error {
    Error::Failed { command: spelled_out(command), status }
}

/// Becomes the command: its signals and exit status are then its own. Returns only if it cannot start.
pub fn become_command(mut command: Command) -> Error {
    let source = std::os::unix::process::CommandExt::exec(&mut command);
    start_error(&command, source)
}

/// A command that could not be started.
pub fn start_error(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn spelled_out(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_path_is_put_before_what_is_there() {
        assert_eq!(prepend(Path::new("/a"), None), "/a");
        assert_eq!(prepend(Path::new("/a"), Some("".into())), "/a");
        assert_eq!(prepend(Path::new("/a"), Some("/b:/c".into())), "/a:/b:/c");
    }

    #[test]
    fn a_failed_command_is_spelled_out() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exit 3"]);
        let message = run(command).unwrap_err().to_string();
        assert!(message.contains("sh -c exit 3"), "{message}");
    }
}
