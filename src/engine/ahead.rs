//! The way through results that are there, before anything is carried out.
//!
//! Where little has changed, a run is little else than lookups. Here all cores follow them from each result to those that
//! need it, without waiting for one another; what they find is told afterwards, in the order of the pipeline. With ten
//! instances ready at a time a no-op of 10,000 takes 155 ms, and 181 where those ten are looked at together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use neftpipe_protocol::Failure;
use rayon::Scope;

use super::Run;
use super::look::{self, Look};
use super::product::Products;
use crate::exec::Level;
use crate::store::Lookup;

/// What the way leads through.
struct Ahead<'a> {
    run: &'a Run<'a>,
    products: &'a Products,
    waits_for: Vec<AtomicUsize>,
    dependents: &'a [Vec<usize>],
    ends: Mutex<Ends>,
}

/// What was seen where the way ended.
pub type Ends = HashMap<usize, Result<Look, Failure>>;

/// Finds the results that are there of these instances, whose inputs are made, of those that need nothing else, and so on.
/// It ends at what must be carried out, and at what cannot be looked at: what was seen there is returned, so that no source
/// is read twice.
/// Where any instance is forced nothing is found: another of the same key has to wait for what comes out.
/// `waits_for` has the number of instances that each waits for, `dependents` those that wait for it.
pub fn look_ahead(
    run: &Run<'_>,
    products: &Products,
    waits_for: &[usize],
    dependents: &[Vec<usize>],
    ready: impl IntoIterator<Item = usize>,
) -> Ends {
    if run.forced.indexes().next().is_some() {
        return Ends::new();
    }
    let waits_for = waits_for.iter().map(|&count| AtomicUsize::new(count)).collect();
    let ahead = Ahead { run, products, waits_for, dependents, ends: Mutex::default() };
    rayon::in_place_scope(|scope| ready.into_iter().for_each(|index| ahead.spawn(scope, index)));
    ahead.ends.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Ahead<'a> {
    fn spawn<'s>(&'s self, scope: &Scope<'s>, index: usize) {
        scope.spawn(move |scope| self.follow(scope, index));
    }

    /// From an instance on: one that needs it next, the others by whoever is free.
    fn follow<'s>(&'s self, scope: &Scope<'s>, from: usize) {
        let mut next = Some(from);
        while let Some(index) = next.filter(|&index| self.is_there(index)) {
            next = None;
            for &dependent in &self.dependents[index] {
                let was_last = self.waits_for[dependent].fetch_sub(1, Ordering::AcqRel) == 1;
                if was_last && let Some(other) = next.replace(dependent) {
                    self.spawn(scope, other);
                }
            }
        }
    }

    /// Whether the result of an instance is there and will do; it is among the products then.
    fn is_there(&self, index: usize) -> bool {
        if self.run.stop.level() > Level::Run {
            return false;
        }
        match look::look(self.run, self.run.pipeline, self.products, index) {
            Ok(Look { found: Ok(Lookup::Hit(manifest)), .. }) => {
                self.products.add(index, manifest);
                true
            }
            end => {
                self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(index, end);
                false
            }
        }
    }
}
