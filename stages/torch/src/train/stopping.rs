//! Early stopping: which evaluation was the best, and whether it is time to stop. Both are functions of the held-out
//! losses alone, so a resumed run stops where the uninterrupted one did.

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::train::EarlyStopping;
use tch::Tensor;

use super::optimizer::Trained;
use super::probe::Probe;

/// The trained tensors, and the masks over them, as they were at the best evaluation so far.
pub struct Best {
    rule: EarlyStopping,
    tensors: Vec<Tensor>,
}

impl Best {
    /// Before the first evaluation.
    ///
    /// # Errors
    /// Where no held-out row has a loss to go by.
    pub fn new(rule: &EarlyStopping, trained: &Trained, heldout_rows: usize) -> Result<Self, Failure> {
        if heldout_rows == 0 {
            return Err(Failure::usage("`early_stopping` goes by held-out rows, and the tokens hold none")
                .with_hint("say `holdout` in the `tokenize` stage, or leave `early_stopping` out"));
        }
        let tensors = trained.iter().map(|(_, tensor)| tensor.detach().copy()).collect();
        Ok(Self { rule: rule.clone(), tensors })
    }

    /// Keeps the trained tensors if the last evaluation is the best.
    pub fn keep_if_best(&self, trained: &Trained, evaluations: &[Probe]) {
        if best(&losses(evaluations)) == evaluations.len().checked_sub(1) {
            copy(trained.iter().map(|(_, tensor)| tensor).zip(&self.tensors));
        }
    }

    /// Whether training ends here.
    pub fn says_stop(&self, evaluations: &[Probe]) -> bool {
        is_over(&losses(evaluations), &self.rule)
    }

    /// Puts the best tensors back into the model; returns the evaluation that they are of.
    pub fn restore<'a>(&self, trained: &Trained, evaluations: &'a [Probe]) -> Option<&'a Probe> {
        let best = best(&losses(evaluations))?;
        copy(self.tensors.iter().zip(trained.iter().map(|(_, tensor)| tensor)));
        evaluations.get(best)
    }

    /// Its tensors under the names that they have in a checkpoint.
    pub fn state(&self, trained: &Trained) -> Vec<(String, Tensor)> {
        let named = trained.iter().zip(&self.tensors);
        named.map(|((name, _), tensor)| (format!("best.{name}"), tensor.shallow_clone())).collect()
    }
}

fn copy<'a>(pairs: impl Iterator<Item = (&'a Tensor, &'a Tensor)>) {
    tch::no_grad(|| pairs.for_each(|(from, to)| to.shallow_clone().copy_(from)));
}

fn losses(evaluations: &[Probe]) -> Vec<f64> {
    evaluations.iter().map(|probe| probe.heldout.mean_loss().unwrap_or(f64::INFINITY)).collect()
}

/// The evaluation of the lowest loss; the first of equal ones.
fn best(losses: &[f64]) -> Option<usize> {
    (0..losses.len()).reduce(|best, at| if losses[at] < losses[best] { at } else { best })
}

/// Whether the last `patience` evaluations brought no fall of `min_delta` below the last one that did.
fn is_over(losses: &[f64], rule: &EarlyStopping) -> bool {
    let (mut lowest, mut since) = (f64::INFINITY, 0);
    for &loss in losses {
        if loss < lowest - rule.min_delta {
            (lowest, since) = (loss, 0);
        } else {
            since += 1;
        }
        if since >= rule.patience {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(patience: u64, min_delta: f64) -> EarlyStopping {
        EarlyStopping { patience, min_delta }
    }

    #[test]
    fn it_is_over_after_so_many_evaluations_without_a_fall() {
        let losses = [3.0, 2.0, 2.5, 1.9, 1.9, 2.0];
        assert!(!is_over(&losses[..2], &rule(1, 0.0)));
        assert!(is_over(&losses[..3], &rule(1, 0.0)));
        assert!(!is_over(&losses[..5], &rule(2, 0.0)));
        assert!(is_over(&losses, &rule(2, 0.0)));
        assert!(is_over(&losses[..4], &rule(2, 0.2)), "a fall of 0.1 does not count");
        assert!(!is_over(&[], &rule(1, 0.0)));
    }

    #[test]
    fn it_stays_over_whatever_comes_later() {
        assert!(is_over(&[3.0, 4.0, 1.0], &rule(1, 0.0)));
    }

    #[test]
    fn the_best_is_the_lowest_and_the_first_of_equals() {
        assert_eq!(best(&[3.0, 1.0, 2.0, 1.0]), Some(1));
        assert_eq!(best(&[]), None);
    }
}
