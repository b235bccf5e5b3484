//! Secrets that a command printed are taken out of its logs before anybody reads, quotes or keeps them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// What stands where a secret stood.
const MASK: &[u8] = b"***";
/// A shorter text is no secret that could be told from others.
const SHORTEST_BYTES: usize = 4;

/// The texts to look for: lines of the values, the longest first, so that one inside another leaves nothing over.
pub(super) fn needles<'s>(secrets: impl IntoIterator<Item = &'s [u8]>) -> Vec<&'s [u8]> {
    let lines = secrets.into_iter().flat_map(|secret| secret.split(|&byte| byte == b'\n'));
    let mut needles: Vec<&[u8]> = lines.map(<[u8]>::trim_ascii).filter(|line| line.len() >= SHORTEST_BYTES).collect();
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    needles
}

/// Rewrites a log without the secrets; one that holds none, or is not there, is left alone.
///
/// # Errors
/// Where it cannot be read or rewritten.
pub(super) fn mask_log(path: &Path, needles: &[&[u8]]) -> io::Result<()> {
    if needles.is_empty() || !path.exists() || !holds(path, needles)? {
        return Ok(());
    }
    let masked = path.with_added_extension("masked");
    let mut from = BufReader::new(File::open(path)?);
    let mut to = BufWriter::new(File::create(&masked)?);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&mask(&line, needles))?;
        line.clear();
    }
    to.into_inner()?;
    std::fs::rename(&masked, path)
}

fn holds(path: &Path, needles: &[&[u8]]) -> io::Result<bool> {
    let mut from = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        if needles.iter().any(|needle| find(&line, needle).is_some()) {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

fn mask(line: &[u8], needles: &[&[u8]]) -> Vec<u8> {
    needles.iter().fold(line.to_vec(), |mut line, needle| {
        let mut masked = Vec::with_capacity(line.len());
        while let Some(at) = find(&line, needle) {
            masked.extend_from_slice(&line[..at]);
            masked.extend_from_slice(MASK);
            line.drain(..at + needle.len());
        }
        masked.append(&mut line);
        masked
    })
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_secret_is_masked_and_short_ones_are_not() {
        let secrets: [&[u8]; 3] = [b"first line\nsecond line\n", b"abc", b"first"];
        let needles = needles(secrets);
        assert_eq!(needles, [b"second line".as_slice(), b"first line", b"first"]);
        assert_eq!(mask(b"a first line, first; abc\n", &needles), b"a ***, ***; abc\n");
    }

    #[test]
    fn a_log_is_rewritten_only_where_it_holds_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        std::fs::write(&path, b"\xff token=hunter22\nrest").unwrap();
        mask_log(&path, &[b"hunter22"]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\xff token=***\nrest");
        mask_log(&path, &[b"hunter22"]).unwrap();
        mask_log(&dir.path().join("absent"), &[b"hunter22"]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
