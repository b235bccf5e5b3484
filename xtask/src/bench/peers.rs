//! Python programs that stand beside neftpipe: started, their last line read.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

/// What is measured, and beside what.
#[derive(Args)]
pub struct PeerArgs {
    /// A Llama in the Hugging Face layout; the targets are for SmolLM2-135M in f32
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// `generate`: prompts, JSONL of {instruction}; `train` and `tokenize`: rows, JSON of [{instruction, input, output}]
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The folder with hf_generate.py and hf_train.py; without it nothing stands beside the figures
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// A Python with torch, transformers and peft, for `tokenize` with datasets
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    python: PathBuf,
    /// Threads of both
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub threads: usize,
}

/// A Python program with its first arguments.
pub struct Python {
    program: PathBuf,
    arguments: Vec<String>,
    threads: usize,
}

impl PeerArgs {
    /// A program of the peers' folder. Says so where there is none.
    pub fn peer(&self, script: &str) -> Option<Python> {
        let path = self.peers.as_ref().map(|folder| folder.join(script)).filter(|path| path.is_file());
        if path.is_none() {
            eprintln!("{script} is not there (--peers says where): nothing to compare with");
        }
        Some(self.python(&[&path?.to_string_lossy()]))
    }

    /// What the machine can do, where there is a peer's Python to ask.
    pub fn ceiling(&self) -> Option<Python> {
        self.inline(include_str!("ceiling.py"))
    }

    /// A program of our own that needs what the peers need, where they are.
    pub fn inline(&self, source: &str) -> Option<Python> {
        self.peers.as_ref().map(|_| self.python(&["-c", source]))
    }

    fn python(&self, arguments: &[&str]) -> Python {
        let arguments = arguments.iter().map(|&it| it.to_owned()).collect();
        Python { program: self.python.clone(), arguments, threads: self.threads }
    }
}

impl Python {
    /// Runs it to its end; returns the JSON of its last line.
    pub fn ask(&self, arguments: &[&str]) -> io::Result<Value> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(arguments).env("OMP_NUM_THREADS", self.threads.to_string());
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().last().map(serde_json::from_str) {
            Some(Ok(value)) if output.status.success() => Ok(value),
            _ => Err(io::Error::other(format!("{command:?} failed: {}", output.status))),
        }
    }
}

/// What the machine can do of products of these shapes (rows, inner, columns) and of reading, in operations and bytes a second.
pub fn ask_ceiling(ceiling: &Python, shapes: Vec<[u64; 3]>, dtype: &str, threads: usize) -> io::Result<Value> {
    ceiling.ask(&[&json!({"threads": threads, "dtype": dtype, "shapes": shapes}).to_string()])
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
