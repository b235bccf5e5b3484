//! What stages may use of the machine at a time: cores, memory and GPUs.
//!
//! GPUs are slots with names: what is granted is told to the program as `CUDA_VISIBLE_DEVICES`, and never more than what
//! this process itself was given.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use neftpipe_protocol::Failure;

use super::gpus::{self, GpuLocks};

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may use.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// GPUs that this process may use, by index or UUID.
    pub gpus: Vec<String>,
}

/// What one stage wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Cores.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: WantGpus,
}

/// How many GPUs a stage wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantGpus {
    /// It has no use for one.
    Indifferent,
    /// One where there are any.
    OneIfAny,
    /// So many.
    Exactly(u32),
}

/// What one stage was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Cores.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// GPUs, where that was a question.
    pub gpus: Option<Vec<String>>,
}

impl Machine {
    /// Looks at this machine. `visible` is the mask of GPUs that something set for this process.
    pub fn detect(visible: Option<&str>) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let gpus = match visible {
            Some(mask) => gpus::in_mask(mask),
            None => gpus::of_driver(),
        };
        Self { cpus, memory_bytes: memory_bytes(), gpus }
    }

    /// Keeps only these GPUs.
    ///
    /// # Errors
    /// Where one of them is not there.
    pub fn use_gpus(&mut self, ids: &[String]) -> Result<(), Failure> {
        if let Some(id) = ids.iter().find(|id| !self.gpus.contains(id)) {
            let there = if self.gpus.is_empty() { "none".to_owned() } else { self.gpus.join(", ") };
            return Err(Failure::environment(format!("the GPU {id} is not there; usable: {there}")));
        }
        self.gpus = ids.to_vec();
        Ok(())
    }

    /// The wish within what there is, and what was cut off it.
    ///
    /// # Errors
    /// Where it wants GPUs that are not there: those are never replaced by anything else.
    pub fn fit(&self, mut want: Want) -> Result<(Want, Option<String>), Failure> {
        if let WantGpus::Exactly(count) = want.gpus
            && count as usize > self.gpus.len()
        {
            return Err(Failure::environment(format!("it wants {count} GPUs; {} are usable here", self.gpus.len()))
                .with_hint("`neftpipe doctor` says what was found; `resources: { gpus: auto }` takes a CPU instead"));
        }
        let mut cut = Vec::new();
        if want.cpus > self.cpus {
            cut.push(format!("{} of {} cores", self.cpus, want.cpus));
            want.cpus = self.cpus;
        }
        if want.memory_bytes > self.memory_bytes {
            let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            cut.push(format!(
                "{:.1} of {:.1} GiB of memory",
                gibibytes(self.memory_bytes),
                gibibytes(want.memory_bytes)
            ));
            want.memory_bytes = self.memory_bytes;
        }
        let cut = (!cut.is_empty()).then(|| format!("this machine has only {} that a stage wants", cut.join(" and ")));
        Ok((want, cut))
    }
}

/// What is free at the moment.
#[derive(Debug)]
pub struct Pool {
    free: Machine,
    jobs: usize,
    gpu_locks: Option<GpuLocks>,
    /// Locks of the GPUs that were given.
    locked: HashMap<String, File>,
    has_met_others: bool,
}

impl Pool {
    /// All of the machine, for at most so many stages at a time, but for the GPUs that other runs have locked.
    pub fn new(machine: Machine, jobs: usize, gpu_locks: Option<GpuLocks>) -> Self {
        Self { free: machine, jobs, gpu_locks, locked: HashMap::new(), has_met_others: false }
    }

    /// Whether GPUs could not be taken since other runs have them.
    pub fn has_met_others(&self) -> bool {
        self.has_met_others
    }

    /// Whether another stage could start, if it wanted little.
    pub fn has_room(&self) -> bool {
        self.jobs > 0
    }

    /// Takes what a stage wants, if it is free. The wish must fit the machine ([`Machine::fit`]).
    pub fn take(&mut self, want: &Want, machine: &Machine) -> Option<Grant> {
        let gpus = match want.gpus {
            WantGpus::Indifferent => None,
            WantGpus::OneIfAny if machine.gpus.is_empty() => None,
            WantGpus::OneIfAny => Some(1),
            WantGpus::Exactly(count) => Some(count as usize),
        };
        let is_free = self.jobs > 0 && self.free.cpus >= want.cpus && self.free.memory_bytes >= want.memory_bytes;
        let gpus = match gpus {
            _ if !is_free => return None,
            None => None,
            Some(count) => Some(self.take_gpus(count)?),
        };
        self.jobs -= 1;
        self.free.cpus -= want.cpus;
        self.free.memory_bytes -= want.memory_bytes;
        Some(Grant { cpus: want.cpus, memory_bytes: want.memory_bytes, gpus })
    }

    /// Takes so many GPUs, if they are free here and in other runs.
    fn take_gpus(&mut self, count: usize) -> Option<Vec<String>> {
        if self.free.gpus.len() < count {
            return None;
        }
        let mut taken = Vec::with_capacity(count);
        for id in &self.free.gpus {
            if taken.len() == count {
                break;
            }
            let lock = self.gpu_locks.as_ref().map_or(Some(None), |locks| locks.take(id));
            taken.extend(lock.map(|lock| (id.clone(), lock)));
        }
        if taken.len() < count {
            self.has_met_others = true;
            return None; // and the locks go
        }
        let ids: Vec<String> = taken.iter().map(|(id, _)| id.clone()).collect();
        self.free.gpus.retain(|id| !ids.contains(id));
        self.locked.extend(taken.into_iter().filter_map(|(id, lock)| Some((id, lock?))));
        Some(ids)
    }

    /// Gives back what a stage was given.
    pub fn give_back(&mut self, grant: Grant) {
        self.jobs += 1;
        self.free.cpus += grant.cpus;
        self.free.memory_bytes += grant.memory_bytes;
        let gpus = grant.gpus.unwrap_or_default();
        gpus.iter().for_each(|id| drop(self.locked.remove(id)));
        self.free.gpus.extend(gpus);
        self.free.gpus.sort();
    }
}

/// Memory of the machine, or what the control groups of this process may use of it: a container's, a job's.
fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit).max(1));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    memory_of_groups(&groups, Path::new("/sys/fs/cgroup")).map_or(machine, |limit| limit.min(machine))
}

/// The least limit of a process's control groups and of those around them. `groups` has a line `ID:CONTROLLERS:PATH` each; of
/// the unified hierarchy the controllers are empty.
fn memory_of_groups(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let group = base.join(path.trim_start_matches('/'));
        let around = group.ancestors().take_while(|group| group.starts_with(&base));
        around.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { cpus: 4, memory_bytes: 8 << 30, gpus: vec!["2".to_owned(), "5".to_owned()] }
    }

    fn want(cpus: u32, gpus: WantGpus) -> Want {
        Want { cpus, memory_bytes: 1 << 30, gpus }
    }

    #[test]
    fn nothing_is_given_twice() {
        let mut pool = Pool::new(machine(), 8, None);
        let a = pool.take(&want(2, WantGpus::OneIfAny), &machine()).unwrap();
        let b = pool.take(&want(2, WantGpus::Exactly(1)), &machine()).unwrap();
        assert_eq!((a.gpus.clone().unwrap(), b.gpus.clone().unwrap()), (vec!["2".to_owned()], vec!["5".to_owned()]));
        assert_eq!(pool.take(&want(1, WantGpus::Indifferent), &machine()), None, "no core is free");
        pool.give_back(a);
        assert_eq!(pool.take(&want(1, WantGpus::Exactly(2)), &machine()), None);
        pool.give_back(b);
        let both = pool.take(&want(1, WantGpus::Exactly(2)), &machine()).unwrap();
        assert_eq!(both.gpus.unwrap(), ["2", "5"]);
        assert_eq!(pool.take(&want(1, WantGpus::Exactly(0)), &machine()).unwrap().gpus, Some(Vec::new()));
    }

    #[test]
    fn a_gpu_that_another_run_has_is_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let pool = |job: Option<&str>| {
            Pool::new(machine(), 8, Some(GpuLocks::new(folder.path().join("gpus"), job.map(str::to_owned))))
        };
        let (mut ours, mut theirs) = (pool(None), pool(None));
        let one = ours.take(&want(1, WantGpus::OneIfAny), &machine()).unwrap();
        assert_eq!(theirs.take(&want(1, WantGpus::Exactly(2)), &machine()), None);
        assert!(theirs.has_met_others() && !ours.has_met_others());
        let other = theirs.take(&want(1, WantGpus::Exactly(1)), &machine()).unwrap();
        assert_eq!((one.gpus.clone().unwrap(), other.gpus.unwrap()), (vec!["2".to_owned()], vec!["5".to_owned()]));
        assert_eq!(ours.take(&want(1, WantGpus::OneIfAny), &machine()), None);
        assert!(pool(Some("job7")).take(&want(1, WantGpus::Exactly(2)), &machine()).is_some(), "a job has its own");
        ours.give_back(one);
        assert!(theirs.take(&want(1, WantGpus::OneIfAny), &machine()).is_some());
        drop(theirs);
        assert!(ours.take(&want(1, WantGpus::Exactly(2)), &machine()).is_some(), "a lock goes with its run");
    }

    #[test]
    fn no_more_stages_than_asked_for_run_at_a_time() {
        let mut pool = Pool::new(machine(), 1, None);
        assert!(pool.take(&want(1, WantGpus::Indifferent), &machine()).is_some());
        assert!(!pool.has_room() && pool.take(&want(1, WantGpus::Indifferent), &machine()).is_none());
    }

    #[test]
    fn cores_and_memory_are_cut_with_a_word_and_gpus_are_not() {
        let (fitting, cut) = machine().fit(Want { cpus: 9, memory_bytes: 9 << 30, gpus: WantGpus::OneIfAny }).unwrap();
        assert_eq!((fitting.cpus, fitting.memory_bytes), (4, 8 << 30));
        assert_eq!(cut.unwrap(), "this machine has only 4 of 9 cores and 8.0 of 9.0 GiB of memory that a stage wants");
        assert!(machine().fit(want(1, WantGpus::Exactly(3))).unwrap_err().message.contains("wants 3 GPUs"));
    }

    #[test]
    fn the_least_limit_of_all_control_groups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let limit = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        limit("slurm/job_7/memory.max", "2000\n");
        limit("slurm/job_7/step_0/memory.max", "max\n");
        limit("memory/job_8/memory.limit_in_bytes", "900\n");
        let of = |groups: &str| memory_of_groups(groups, root.path());
        assert_eq!(of("0::/slurm/job_7/step_0\n"), Some(2000));
        assert_eq!(of("4:cpu,memory:/job_8/step_1\n3:pids:/x\n0::/slurm/job_7\n"), Some(900));
        assert_eq!((of("0::/\n"), of("0::/elsewhere\n"), of("")), (None, None, None));
    }

    #[test]
    fn a_mask_is_respected() {
        assert_eq!(Machine::detect(Some("1, GPU-ab")).gpus, ["1", "GPU-ab"]);
        assert_eq!(Machine::detect(Some("2,-1,3")).gpus, ["2"]);
        assert!(["", "NoDevFiles", "-1"].iter().all(|none| Machine::detect(Some(none)).gpus.is_empty()));
        assert!(machine().use_gpus(&["0".to_owned()]).is_err());
    }
}
