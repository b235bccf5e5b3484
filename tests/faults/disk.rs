//! A disk that is full: exit 3, the path and the need are said, the store is whole, and work goes on when there is space.
//!
//! The disk is a small file system in memory, which root alone can mount. Without it `publishing` still runs every step
//! of writing out of space.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bench::{Artifacts, Bench, pipeline};
use crate::{each_of, share_of, told};

/// A small file system, for as long as it lives.
struct Disk<'a> {
    place: &'a Path,
}

impl<'a> Disk<'a> {
    fn mount(place: &'a Path, kilobytes: usize) -> Option<Self> {
        fs::create_dir(place).unwrap();
        Self::system("mount", &["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"], place)
            .then_some(Self { place })
    }

    fn resize(&self, kilobytes: usize) {
        assert!(Self::system("mount", &["-o", &format!("remount,size={kilobytes}k")], self.place));
    }

    fn system(program: &str, args: &[&str], place: &Path) -> bool {
        Command::new(program).args(args).arg(place).output().is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        Self::system("umount", &["-l"], self.place);
    }
}

/// The pipeline of the kills, with an output of 300 kB among its parts.
fn text() -> String {
    pipeline(4, 3).replace("wait $child\n", "wait $child; head -c 300000 /dev/zero > {out}/large || exit 1\n")
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    const FAMILY: &str = "stores on a disk that is full, from 16 kB on";
    let reference = Bench::new(&text());
    let artifacts = reference.run().exits(0).artifacts();
    let bench = Bench::new("");
    if Disk::mount(&bench.store(), 1024).is_none() {
        return told(FAMILY, 0, "SKIPPED: mounting a small file system needs root");
    }
    let count = share_of(100);
    let sizes: Vec<usize> = (0..count).map(|turn| 16 + turn * 2400 / count).collect();
    let full = each_of(&sizes, |kilobytes| fill(&artifacts, *kilobytes));
    assert!(full * 2 > count, "{full} of {count} disks were too small");
    told(FAMILY, count, &format!("{full} ended with exit code 3, the path and the need; all went on with more space"));
}

/// A run on a disk of this size, and again with space. Says whether the first was out of space.
fn fill(artifacts: &Artifacts, kilobytes: usize) -> bool {
    let bench = Bench::new(&text());
    let store = bench.store();
    let disk = Disk::mount(&store, kilobytes).unwrap();
    let ended = bench.run().exits_with(&[0, 3]);
    let was_full = ended.code == Some(3);
    if was_full {
        let ended = ended.says(store.to_str().unwrap());
        // Before any stage the system's own words have to do.
        if ended.stdout.contains(r#""state":"failed""#) {
            ended.says("is full").says("MB free now").says("needs more than");
        } else {
            ended.says("No space left");
        }
    }
    disk.resize(64 << 10);
    bench.goes_on_to(artifacts);
    was_full
}
