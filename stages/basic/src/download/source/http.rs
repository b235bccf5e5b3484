//! `https://…`: one file from a web server.

use super::client::{Client, Get};
use super::resolved::{Resolved, ResolvedFile};
use super::transfer::{Meter, Transfer};
use super::{Fetch, Fetched, SourceFile, measured};
use crate::download::Halt;
use neftpipe_protocol::Failure;

/// The file at `url`.
pub fn fetch(fetch: &Fetch, url: &str) -> Result<Fetched, Halt> {
    let pin = fetch.resolved()?;
    let name = file_name(url);
    let selection = fetch.selection()?;
    if !selection.takes(&name) {
        return Err(selection.nothing(url, vec![&name]).into());
    }
    if fetch.offline() {
        return Err(Failure::environment(format!("{url} is not here, and --offline was asked for"))
            .with_hint("run once without --offline")
            .into());
    }
    let path = fetch.downloads().join(&name);
    let transfer = Transfer { get: Get { url: url.to_owned(), ..Get::default() }, name: &name, path: path.clone() };
    let known_bytes = pin.as_ref().and_then(|pin| pin.file(&name)).map(|file| file.bytes);
    let mut meter = Meter::new(fetch.job, known_bytes);
    let file = transfer.run(fetch.job, &Client::new()?, &mut meter)?;
    if let Some(pinned) = pin.as_ref().and_then(|pin| pin.file(&name)) {
        file.check_pin(pinned)?;
    }
    fetch.check_sha256(std::slice::from_ref(&file))?;
    Ok(Fetched {
        files: vec![SourceFile { name, path, ours: true }],
        resolved: Some(resolved(url, file)),
        measured: measured(meter.done_bytes()),
    })
}

fn resolved(url: &str, file: ResolvedFile) -> Resolved {
    Resolved { source: url.to_owned(), commit: None, select: Vec::new(), artifact: None, files: vec![file] }
}

/// The last part of the address's path.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    match path.split_once('/').map(|(_, path)| path.rsplit('/').next().unwrap_or_default()) {
        Some(name) if !matches!(name, "" | "." | "..") && !name.contains(['\\', '\0']) => name.to_owned(),
        _ => "download".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_named_after_the_address() {
        assert_eq!(file_name("https://h/a/b.json?x=1/2#y"), "b.json");
        assert_eq!(file_name("https://h.org"), "download");
        assert_eq!(file_name("https://h/a/.."), "download");
        assert_eq!(file_name("https://h/a/"), "download");
    }
}
