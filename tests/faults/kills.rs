//! Killed at a random moment and continued by the same command: all finish, with the bytes of an undisturbed run.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::bench::{Artifacts, Bench, pipeline};
use crate::random::Random;
use crate::{each_of, processes, share_of, told};

#[derive(Debug, Clone, Copy)]
enum Victim {
    /// The program.
    Program,
    /// A worker, a command, or a child of one.
    Worker,
    /// The program with its process group, as a terminal that closes would.
    Group,
    /// Every process of the run, as a machine that goes down would.
    Everything,
}

const VICTIMS: [Victim; 4] = [Victim::Program, Victim::Worker, Victim::Group, Victim::Everything];

#[test]
fn whatever_is_killed_when_the_same_command_goes_on() {
    let text = pipeline(24, 16);
    let reference = Bench::new(&text);
    let began = Instant::now();
    let undisturbed = reference.run().exits(0);
    let span = began.elapsed();
    let artifacts = undisturbed.artifacts();
    assert_eq!(artifacts.len(), 60);

    let runs = share_of(300);
    let seeds: Vec<usize> = (0..runs).collect();
    let disturbed = each_of(&seeds, |seed| disturb(&text, &artifacts, *seed, span.mul_f64(1.3)));
    assert!(disturbed * 3 > runs, "too few kills found the run at work: {disturbed} of {runs}");
    told(
        "runs of 60 stages killed (program, worker, process group, everything) and continued",
        runs,
        &format!(
            "all finished with the bytes of an undisturbed run, stores whole, no orphans; {disturbed} were hit at work"
        ),
    );
}

/// One run, killed once and continued. Says whether the kill found it at work.
fn disturb(text: &str, artifacts: &Artifacts, seed: usize, span: Duration) -> bool {
    let mut random = Random::new(seed as u64);
    let victim = *random.one_of(&VICTIMS);
    let moment = span.mul_f64(random.below(1000) as f64 / 1000.0);
    let bench = Bench::new(text);
    let mut program = bench.command(&["run", "p.yaml"]);
    let mut program = program.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let at_work = is_at_work_after(moment, &mut program);
    match victim {
        Victim::Program => processes::kill(program.id()),
        Victim::Group => processes::kill_group(program.id()),
        Victim::Worker => kill_a_worker(&bench, program.id(), &mut random),
        Victim::Everything => kill_everything(&bench),
    }
    program.wait().unwrap();
    processes::none_is_left(bench.path());
    bench.goes_on_to(artifacts);
    at_work
}

fn is_at_work_after(moment: Duration, program: &mut Child) -> bool {
    let until = Instant::now() + moment;
    while Instant::now() < until && program.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    program.try_wait().unwrap().is_none()
}

fn kill_a_worker(bench: &Bench, program: u32, random: &mut Random) {
    let attempts = bench.store().join("attempts");
    let workers: Vec<u32> = processes::of(&attempts).into_iter().filter(|&pid| pid != program).collect();
    if !workers.is_empty() {
        processes::kill(*random.one_of(&workers));
    }
}

fn kill_everything(bench: &Bench) {
    loop {
        let all = processes::of(bench.path());
        if all.is_empty() {
            return;
        }
        all.into_iter().for_each(processes::kill);
    }
}
