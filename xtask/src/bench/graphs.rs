//! The same graph for several runners: stage i copies stage i-10 (the first ten copy `in.txt`) and adds its number.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

/// How far up the stage is that a stage copies.
const WIDTH: usize = 10;

/// Writes `dag.yaml` for neftpipe. The stages of `edited` say something else than before.
pub fn neftpipe(folder: &Path, stages: usize, edited: std::ops::Range<usize>) -> io::Result<()> {
    let mut text = "version: 1\nname: dag\nstages:\n  input:\n    download: { from: 'file:in.txt' }\n".to_owned();
    for i in 0..stages {
        let (up, file) =
            if i < WIDTH { ("input".to_owned(), "in.txt") } else { (format!("s{}", i - WIDTH), "out.txt") };
        let word = if edited.contains(&i) { format!("{i} edited") } else { i.to_string() };
        let run = format!("cat {{in.from}}/{file} > {{out}}/out.txt && echo {word} >> {{out}}/out.txt");
        let _ = writeln!(text, "  s{i}:\n    needs: {{ from: {up} }}\n    command: {{ run: '{run}' }}");
    }
    write(folder, "dag.yaml", &text)
}

/// Writes `build.ninja`.
pub fn ninja(folder: &Path, stages: usize) -> io::Result<()> {
    let mut text = "rule add\n  command = cat $in > $out && echo $n >> $out\n".to_owned();
    for i in 0..stages {
        let up = if i < WIDTH { "in.txt".to_owned() } else { format!("o{}.txt", i - WIDTH) };
        let _ = writeln!(text, "build o{i}.txt: add {up}\n  n = {i}");
    }
    write(folder, "build.ninja", &text)
}

/// Writes a chain in which every stage needs the one before it.
pub fn chain(folder: &Path, stages: usize) -> io::Result<()> {
    let mut text =
        "version: 1\nname: chain\nstages:\n  s0:\n    command: { run: 'echo 0 > {out}/out.txt' }\n".to_owned();
    for i in 1..stages {
        let run = "cp {in.from}/out.txt {out}/";
        let _ = writeln!(text, "  s{i}:\n    needs: {{ from: s{} }}\n    command: {{ run: '{run}' }}", i - 1);
    }
    write(folder, "dag.yaml", &text)
}

fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("in.txt"), "start\n")?;
    fs::write(folder.join(name), text)
}
