//! `bench tokenize`: rows to tokens and labels beside `datasets.map` with the same tokenizer, and beside the tokenizers
//! library alone.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::Bench;
use super::figure::{Figure, plain};
use super::peers::{PeerArgs, text};
use super::timing::{Times, peak_mb};
use super::worker::{number, stage};
use crate::workspace::BASIC_WORKER;

/// As many rows as Alpaca has, about.
const ROWS: usize = 52_000;
const LONGEST_TOKENS: usize = 512;

/// Tokens a second of the whole stage (files read and written), and its memory.
pub fn tokenize(bench: &Bench, args: &PeerArgs, folder: &Path) -> io::Result<Vec<Figure>> {
    let dataset = folder.join("dataset");
    let rows = dataset.join("rows.jsonl");
    fs::create_dir_all(&dataset)?;
    write_rows(&args.data, &rows)?;
    let params = json!({"template": "alpaca", "max_length": LONGEST_TOKENS});
    let inputs = vec![("dataset", "dataset", dataset), ("tokenizer", "model", args.model.canonicalize()?)];
    let stage = stage(bench, BASIC_WORKER, "tokenize", params, inputs, args.threads);
    let peer = args.inline(include_str!("tokenize.py"));
    let (model, rows, longest) = (text(&args.model), text(&rows), LONGEST_TOKENS.to_string());
    let (mut own, mut map, mut bare) = (Times::default(), Times::default(), Times::default());
    for _ in 0..bench.rounds {
        own.push(number(&stage.run(&folder.join("run"))?.measured, "tokens_per_s"));
        if let Some(peer) = &peer {
            let said = peer.ask(&[&model, &rows, &longest])?;
            map.push(number(&said, "map_per_s"));
            bare.push(number(&said, "bare_per_s"));
        }
    }
    let memory = peak_mb(&mut stage.command(&folder.join("run"))?)?;
    let beside = |name: &str, other: &Times, wanted| {
        let there = !other.is_empty();
        let what = format!("tokenizing {ROWS} rows with template and labels, beside {name}");
        let said = there.then(|| other.spread(0, "tokens/s"));
        Figure {
            beside: said,
            ratio: there.then(|| own.over(other)),
            ..plain(&what, own.spread(0, "tokens/s"), wanted)
        }
    };
    Ok(vec![
        beside("`datasets.map` in two processes", &map, "≥ 2"),
        beside("the library's bare batch encoding", &bare, "≥ 0.8"),
        plain("its memory", format!("{memory:.0} MB"), "< 300 MB"),
    ])
}

/// Rows of the size of Alpaca's, no two alike, made of the parts of a short list.
fn write_rows(from: &Path, to: &Path) -> io::Result<()> {
    let list: Vec<Value> = serde_json::from_slice(&fs::read(from)?)?;
    let part = |name: &str, at: usize| list[at % list.len()][name].as_str().unwrap_or_default().to_owned();
    let row = |at: usize| {
        let answer = format!("{} {} ({at})", part("output", at * 7), part("output", at * 13 + at / list.len()));
        json!({"instruction": part("instruction", at), "input": part("input", at * 3 + at / list.len()), "output": answer})
    };
    let lines: String = (0..ROWS).map(|at| format!("{}\n", row(at))).collect();
    fs::write(to, lines)
}
