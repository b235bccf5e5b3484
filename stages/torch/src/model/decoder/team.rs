//! A few threads that go through the same steps side by side, and wait for one another between them.
//!
//! The steps of decoding are shorter than it takes to wake a thread, so whoever waits looks again and again for a while,
//! and then lets others have the core. It knows nothing of what is computed.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// How often a waiting thread looks before it gives the core away: about 20 µs.
const LOOKS: usize = 1000;

/// Threads that work together.
pub struct Team {
    pool: ThreadPool,
}

/// One of them, at work.
pub struct Member<'a> {
    index: usize,
    count: usize,
    meeting: &'a Meeting,
}

/// Where they wait for one another.
#[derive(Default)]
struct Meeting {
    arrived: AtomicUsize,
    held: AtomicUsize,
    /// Somebody panicked, and will not come.
    broken: AtomicBool,
}

impl Team {
    /// A team of so many.
    ///
    /// # Errors
    /// Where the system gives no threads.
    pub fn new(members: usize) -> Result<Self, ThreadPoolBuildError> {
        let named = |index| format!("decode-{index}");
        Ok(Self { pool: ThreadPoolBuilder::new().num_threads(members.max(1)).thread_name(named).build()? })
    }

    /// Has everyone do this, and waits for the last.
    pub fn work(&self, act: impl Fn(&Member<'_>) + Sync) {
        let meeting = Meeting::default();
        self.pool.broadcast(|at| {
            let member = Member { index: at.index(), count: at.num_threads(), meeting: &meeting };
            let _calls_off = CallsOff(&meeting);
            act(&member);
        });
    }
}

impl Member<'_> {
    /// Its share of so many pieces of work, one after the other, cut at multiples of `grain`.
    pub fn part(&self, pieces: usize, grain: usize) -> Range<usize> {
        let grains = pieces.div_ceil(grain);
        let cut = |index: usize| (grains * index / self.count * grain).min(pieces);
        cut(self.index)..cut(self.index + 1)
    }

    /// Its share of so many pieces of work, dealt out in turn.
    pub fn turns(&self, pieces: usize) -> impl Iterator<Item = usize> + use<> {
        (self.index..pieces).step_by(self.count)
    }

    /// Goes on when everyone is here; what the others did before is then done.
    pub fn meet(&self) {
        let Meeting { arrived, held, broken } = self.meeting;
        let round = held.load(Ordering::Acquire);
        if arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.count {
            arrived.store(0, Ordering::Relaxed);
            held.store(round + 1, Ordering::Release);
            return;
        }
        let mut looks = 0;
        while held.load(Ordering::Acquire) == round {
            assert!(!broken.load(Ordering::Relaxed), "another thread of the team failed");
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

/// Tells the others when its thread panics: they would wait for ever.
struct CallsOff<'a>(&'a Meeting);

impl Drop for CallsOff<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_meeting_the_work_of_all_is_done() {
        let team = Team::new(3).unwrap();
        let done = AtomicUsize::new(0);
        team.work(|member| {
            for round in 1..=100 {
                done.fetch_add(1, Ordering::Relaxed);
                member.meet();
                assert_eq!(done.load(Ordering::Relaxed), 3 * round);
                member.meet();
            }
        });
    }

    #[test]
    fn shares_are_whole_and_nobodys_twice() {
        let team = Team::new(3).unwrap();
        for (pieces, grain) in [(0, 4), (1, 4), (10, 4), (12, 4), (100, 1)] {
            let taken: Vec<AtomicUsize> = (0..2 * pieces).map(|_| AtomicUsize::new(0)).collect();
            let take = |piece: usize| {
                taken[piece].fetch_add(1, Ordering::Relaxed);
            };
            team.work(|member| {
                member.part(pieces, grain).for_each(take);
                member.turns(pieces).for_each(|piece| take(pieces + piece));
            });
            assert!(taken.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    #[should_panic]
    fn a_failure_of_one_is_a_failure_of_all() {
        let team = Team::new(2).unwrap();
        team.work(|member| {
            assert!(member.index == 0);
            member.meet();
        });
    }
}
