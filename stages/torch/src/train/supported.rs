//! What this build of the worker does not train yet, refused in one place: no parameter is passed over in silence.

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::train::Drop;
use neftpipe_protocol::params::{Precision, TrainParams};

/// Refuses parameters that would have to be ignored.
///
/// # Errors
/// A usage failure that names the parameter and the way around it.
pub fn check(params: &TrainParams) -> Result<(), Failure> {
    let (sparsity, bf16) = (params.sparsity.as_ref(), params.precision == Precision::Bf16);
    let refusals = [
        (bf16 && params.full, "precision: bf16 beside full", "train an adapter, or with `precision: f32`"),
        (bf16 && sparsity.is_some(), "precision: bf16 beside sparsity", "train with `precision: f32`"),
        (sparsity.is_some_and(|it| it.drop == Drop::Wanda), "sparsity.drop: wanda", "drop by `magnitude`"),
    ];
    match refusals.into_iter().find(|(asked, ..)| *asked) {
        Some((_, name, advice)) => Err(Failure::usage(format!("`{name}` is not supported")).with_hint(advice)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let check = |params| check(&serde_json::from_value(params).unwrap());
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({"precision": "bf16"})), Ok(()));
        for (params, name) in [
            (json!({"precision": "bf16", "full": true}), "bf16"),
            (json!({"precision": "bf16", "sparsity": {"scope": "delta", "target": 0.5}}), "bf16"),
            (json!({"sparsity": {"scope": "delta", "target": 0.5, "drop": "wanda"}}), "wanda"),
        ] {
            assert!(check(params).unwrap_err().message.contains(name));
        }
    }
}
