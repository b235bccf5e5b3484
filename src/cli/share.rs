//! What `push` and `pull` share: the other store, and which of the results are meant.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, CliResult, Context};
use crate::env;
use crate::exit::Exit;
use crate::spec::Selector;
use crate::spec::reference::Reference;
use crate::store::{Store, Taken};
use crate::ui::table;

/// Which results, and what other store.
#[derive(Debug, Args)]
pub(super) struct ShareArgs {
    /// The other store: a folder, such as one on a shared disk (`file:PATH` or PATH).
    #[arg(long, value_name = "URL", env = env::REMOTE)]
    remote: Option<String>,
    /// Only results of these instances: `train[variant=neft5]`, axes left out meaning any [default: all].
    #[arg(value_name = "SELECTOR")]
    selectors: Vec<String>,
}

/// What was done.
#[derive(Default)]
struct Tally {
    copied: Vec<(String, u64)>,
    known: usize,
    lacking: Vec<String>,
}

impl ShareArgs {
    /// The folder of the other store.
    pub(super) fn remote(&self) -> Result<PathBuf, CliError> {
        let Some(url) = &self.remote else {
            let hint = format!("name a folder with `--remote DIR`, or once for all in {}", env::REMOTE);
            return Err(CliError::usage("no other store is named").with_hint(hint));
        };
        match url.split_once(':') {
            Some(("file", path)) => Ok(PathBuf::from(path.strip_prefix("//").unwrap_or(path))),
            Some((scheme, rest)) if rest.starts_with("//") => {
                Err(CliError::usage(format!("`{url}`: a remote is a folder, not `{scheme}:`"))
                    .with_hint("mount it, and name the folder"))
            }
            _ => Ok(PathBuf::from(url)),
        }
    }

    /// Copies what is meant, and says what came of it in the words `verb` and `place`.
    pub(super) fn copy(&self, context: &Context, from: &Store, to: &Store, words: [&str; 2]) -> CliResult {
        let selectors = self.selectors()?;
        let mut tally = Tally::default();
        for key in from.keys()? {
            let Some(entry) = from.entry(&key)? else { continue };
            if !selectors.is_empty() && !selectors.iter().any(|selector| means(selector, &entry.stage)) {
                continue;
            }
            match to.take_from(from, &key)? {
                Taken::Known => tally.known += 1,
                Taken::Lacking => tally.lacking.push(entry.stage),
                Taken::Copied { bytes } => tally.copied.push((entry.stage, bytes)),
            }
        }
        if tally.is_empty() && !selectors.is_empty() {
            return context.refuse(format!("{} has no result of {}", from.root().display(), self.selectors.join(", ")));
        }
        tally.print(context, words)?;
        Ok(Exit::Success)
    }

    fn selectors(&self) -> Result<Vec<Selector>, CliError> {
        let parse = |text: &String| {
            let selector = Selector::parse(text).map_err(|error| CliError::usage(format!("`{text}`: {error}")))?;
            match selector.dependents {
                true => Err(CliError::usage(format!("`{text}`: what depends on a result is not known here"))
                    .with_hint("leave the `+` out, and name the other stages")),
                false => Ok(selector),
            }
        };
        self.selectors.iter().map(parse).collect()
    }
}

impl Tally {
    fn is_empty(&self) -> bool {
        self.copied.is_empty() && self.known == 0 && self.lacking.is_empty()
    }

    fn print(&self, context: &Context, [verb, place]: [&str; 2]) -> std::io::Result<()> {
        let bytes: u64 = self.copied.iter().map(|(_, bytes)| bytes).sum();
        if context.printer.is_json() {
            let copied: Vec<Value> =
                self.copied.iter().map(|(stage, bytes)| json!({ "stage": stage, "bytes": bytes })).collect();
            return context.printer.json(&json!({
                "version": 1, "copied": copied, "known": self.known, "incomplete": self.lacking, "bytes": bytes,
            }));
        }
        for (stage, bytes) in &self.copied {
            context.printer.line(format!("{verb} {stage}  {}", table::bytes(*bytes)))?;
        }
        for stage in &self.lacking {
            context.printer.note(format!("{stage}: some of its files are gone; it is passed over"));
        }
        let copied = self.copied.len();
        context.printer.line(format!(
            "{verb} {copied} results, {}; {} were {place} already",
            table::bytes(bytes),
            self.known
        ))
    }
}

/// Whether a selector means the instance of this name.
fn means(selector: &Selector, id: &str) -> bool {
    let Ok(instance) = Reference::parse(id) else { return false };
    let value = |axis: &str| {
        let named = instance.axes.iter().find(|select| select.axis == axis)?;
        let (text, _) = named.values.as_ref()?.first()?;
        Some(serde_yaml::from_str(text).unwrap_or_else(|_| Value::String(text.clone())))
    };
    let own: indexmap::IndexMap<String, Value> =
        instance.axes.iter().filter_map(|select| Some((select.axis.clone(), value(&select.axis)?))).collect();
    selector.reference.stage == instance.stage && selector.reference.matches(|axis| own.get(axis))
}
