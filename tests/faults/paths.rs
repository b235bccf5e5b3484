//! Paths that would lead out of where they belong, and names that are unusual: refused, or kept exactly.

use std::fs;

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
