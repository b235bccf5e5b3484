//! Judges that calibrate by the same comparisons: the first is carried out before the others begin. What was asked is handed
//! on when a stage ends, so side by side each would ask for the whole calibration, and pay for it.

use std::collections::{HashMap, HashSet};

use neftpipe_protocol::Digest;

use crate::plan::Preimage;
use crate::spec::model::Instance;

/// Which scopes of rows have their calibration, and who is at work on one.
#[derive(Default)]
pub struct Calibrations {
    at_work: HashMap<Digest, usize>,
    made: HashSet<Digest>,
}

impl Calibrations {
    /// Whether another instance is at work on the calibration of this scope.
    pub fn must_wait(&self, scope: Option<Digest>) -> bool {
        scope.is_some_and(|scope| self.at_work.contains_key(&scope))
    }

    /// Takes note that an instance begins.
    pub fn begin(&mut self, index: usize, scope: Option<Digest>) {
        if let Some(scope) = scope.filter(|scope| !self.made.contains(scope)) {
            self.at_work.insert(scope, index);
        }
    }

    /// Takes note that one ended, however it did: what it asked is kept.
    pub fn end(&mut self, index: usize) {
        self.made.extend(self.at_work.extract_if(|_, by| *by == index).map(|(scope, _)| scope));
    }
}

/// The rows that a judge shares with others, if it calibrates.
pub fn scope(instance: &Instance, preimage: Option<&Preimage>) -> Option<Digest> {
    if !instance.inputs.contains_key("calibrate") { None } else { preimage?.row_scope() }
}
