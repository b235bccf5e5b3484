//! Paths that would lead out of where they belong, and names that are unusual: refused, or kept exactly.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::bench::Bench;
use crate::told;

/// Runs a command that reaches for `victim/precious`, which must stay as it is and out of the store. `@` is the
/// project's folder.
fn is_refused(command: &str, code: i32, said: &str) {
    let bench = Bench::new("");
    let command = command.replace('@', bench.path().to_str().unwrap());
    bench.write("p.yaml", format!("version: 1\nname: paths\nstages:\n  a:\n    command: {command}\n"));
    bench.write("victim/precious", "precious");
    bench.neftpipe(&["run", "p.yaml"]).exits(code).says(said);
    let left: Vec<_> = fs::read_dir(bench.file("victim")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["precious"], "{command}");
    assert_eq!(fs::read_to_string(bench.file("victim/precious")).unwrap(), "precious", "{command}");
}

#[test]
fn a_command_cannot_reach_out_of_its_folder() {
    let refused = [
        // What it brings along.
        (r#"{ run: "true", files: ["../victim/precious"] }"#, 2, "leads out"),
        (r#"{ run: "true", files: ["@/victim/precious"] }"#, 2, "leads out"),
        (r#"{ run: "true", files: ["lib/../../victim/*"] }"#, 2, "leads out"),
        // What it leaves.
        (r#"{ run: "true", outputs: { o: { path: ../../../../../victim } } }"#, 2, "leads out of {out}"),
        (r#"{ run: "true", outputs: { o: { path: "@/victim/precious" } } }"#, 2, "leads out of {out}"),
        (r#"{ run: "true", outputs: { o: { path: d/../../x } } }"#, 2, "leads out of {out}"),
        // Links from what it leaves.
        (r#"{ run: "ln -s $HOME/victim/precious {out}/x" }"#, 1, "symbolic link"),
        (r#"{ run: "ln -s $HOME/victim {out}/x" }"#, 1, "symbolic link"),
        (r#"{ run: "rmdir {out}; ln -s $HOME/victim {out}" }"#, 1, "symbolic link"),
        (r#"{ run: "ln -s $HOME/victim {out}/d", outputs: { o: { path: d } } }"#, 1, "symbolic link"),
        (r#"{ run: "ln -s $HOME/victim {out}/d", outputs: { o: { path: d/precious } } }"#, 1, "symbolic link"),
        (r#"{ run: "ln -s $HOME/victim {out}/d", outputs: { o: { path: ./d/. } } }"#, 1, "symbolic link"),
        // A second name of the same file.
        (r#"{ run: "mkfifo {out}/pipe" }"#, 1, "cannot be stored"),
    ];
    for (command, code, said) in refused {
        is_refused(command, code, said);
    }
    told("paths of commands that lead out of their folder", refused.len(), "refused; what they lead to is untouched");
}

/// Unusual, and all UTF-8.
const NAMES: [&str; 8] =
    ["new\nline", "carriage\rreturn", "tab\t", " ", "-rf", "$HOME`x`", "quote'\"\\", "\u{1F600}\u{202e}gnp"];

#[test]
fn unusual_names_are_kept_exactly() {
    let bench = Bench::new(
        "version: 1\nname: names\nstages:\n  made: { command: { run: \"cp in/* {out}\", files: [\"in/*\"] } }\n  copied: { needs: { a: made }, command: { run: \"cp {in.a}/* {out}\" } }\n",
    );
    for name in NAMES {
        bench.write(&format!("in/{name}"), name);
    }
    bench.neftpipe(&["run", "p.yaml"]).exits(0);
    for command in [["export", "copied", "exported"].as_slice(), &["show", "copied"], &["path", "copied"], &["verify"]]
    {
        bench.neftpipe(command).exits(0);
    }
    let mut found: Vec<(String, String)> = fs::read_dir(bench.file("exported"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    found.sort();
    let mut wanted = NAMES.map(|name| (name.to_owned(), name.to_owned()));
    wanted.sort();
    assert_eq!(found, wanted);
    told("unusual file names (newlines, quotes, dashes, control characters)", NAMES.len(), "kept exactly, in and out");
}

#[test]
fn names_that_are_not_utf_8_are_refused() {
    let name = OsStr::from_bytes(b"a\xff");
    let source = "version: 1\nname: bytes\nstages:\n  a: { download: { from: \"file:in\", as: files } }\n";
    let files = "version: 1\nname: bytes\nstages:\n  a: { command: { run: \"true\", files: [\"in/*\"] } }\n";
    let made = "version: 1\nname: bytes\nstages:\n  a: { command: { run: \"cp $HOME/in/* {out}\" } }\n";
    for pipeline in [source, files, made] {
        let bench = Bench::new(pipeline);
        bench.write("in/plain", "x");
        fs::write(bench.file("in").join(name), "y").unwrap();
        bench.neftpipe(&["run", "p.yaml"]).exits(1).says("not UTF-8");
        assert!(bench.file("in").join(name).exists());
    }
    told("file names that are not UTF-8 (source, files, output)", 3, "refused by name");
}

#[test]
fn what_a_link_leads_to_counts_by_its_content() {
    let bench = Bench::new(
        "version: 1\nname: links\nstages:\n  a: { command: { run: \"cp in/* {out}\", files: [\"in/*\"] } }\n",
    );
    bench.write("outside/data", "one");
    bench.write("in/plain", "x");
    symlink(bench.file("outside/data"), bench.file("in/link")).unwrap();
    bench.run().exits(0);
    bench.write("outside/data", "two");
    bench.run().exits(0);
    bench.neftpipe(&["show", "a", "link"]).exits(0).says("two");
    symlink(bench.file("in"), bench.file("in/loop")).unwrap();
    bench
        .write("p.yaml", "version: 1\nname: links\nstages:\n  a: { command: { run: \"true\", files: [\"in/**\"] } }\n");
    bench.neftpipe(&["run", "p.yaml"]).exits(3).says("loop");
    told("links among a command's files", 2, "followed by content, loops refused");
}

#[test]
fn names_of_results_reach_no_other_files() {
    let bench = Bench::new("version: 1\nname: names\nstages:\n  a: { command: { run: \"echo x > {out}/x\" } }\n");
    bench.run().exits(0);
    let asked = [
        ["show", "a", "../../../../p.yaml"].as_slice(),
        &["show", "a", "/etc/passwd"],
        &["show", "a@../../.."],
        &["logs", "a@../.."],
        &["export", "../a", "there"],
        &["keep", "../..", "--as", "x"],
    ];
    for args in asked {
        let ended = bench.neftpipe(args);
        assert!([Some(1), Some(2), Some(3)].contains(&ended.code), "{args:?}: {ended:?}");
        assert!(!ended.stdout.contains("root:") && !ended.stdout.contains("version: 1"), "{args:?}: {ended:?}");
    }
    told("names of results that would lead elsewhere", asked.len(), "refused");
}
