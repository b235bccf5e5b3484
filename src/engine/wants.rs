//! What an instance asks of the machine, where its `resources` leave it open.

use neftpipe_protocol::Kind;

use crate::exec::{Machine, Want, WantGpus};
use crate::spec::model::{Gpus, Instance};

/// What an instance wants when at most `jobs` stages run at a time.
pub fn want(instance: &Instance, machine: &Machine, jobs: Option<usize>) -> Want {
    let gpus = match instance.resources.gpus {
        Gpus::Count(count) => WantGpus::Exactly(count),
        Gpus::Auto if uses_gpu(instance) => WantGpus::OneIfAny,
        Gpus::Auto => WantGpus::Indifferent,
    };
    Want {
        cpus: instance.resources.cpus.unwrap_or_else(|| usual_cpus(instance, machine, jobs)),
        memory_bytes: instance.resources.memory_bytes.unwrap_or(0),
        gpus,
    }
}

/// Kinds that compute on all cores have them all, or their share where the user wants several stages at a time.
fn usual_cpus(instance: &Instance, machine: &Machine, jobs: Option<usize>) -> u32 {
    let computes = match instance.kind {
        Kind::Tokenize | Kind::Train | Kind::Generate => true,
        Kind::Judge => has(instance, "annotator", "local"),
        Kind::Download | Kind::Report | Kind::Command => false,
    };
    let share = machine.cpus / jobs.map_or(1, |jobs| jobs.max(1) as u32);
    if computes { share.max(1) } else { 1 }
}

fn uses_gpu(instance: &Instance) -> bool {
    let computes = instance.kind.needs_torch() || has(instance, "annotator", "local");
    computes && !has(instance, "device", "cpu")
}

fn has(instance: &Instance, param: &str, value: &str) -> bool {
    instance.params[param].as_str() == Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::model::{Resources, Retry, Settled};
    use indexmap::IndexMap;
    use neftpipe_protocol::params;
    use serde_json::{Value, json};

    fn instance(kind: Kind, said: Value) -> Instance {
        let resolved = params::resolve(kind, said).unwrap();
        Instance {
            id: "s".to_owned(),
            stage: "s".to_owned(),
            label: None,
            kind,
            axes: IndexMap::new(),
            inputs: IndexMap::new(),
            missing: Vec::new(),
            params: Settled::new(kind, resolved),
            base: std::path::Path::new("/").into(),
            outputs: IndexMap::new(),
            resources: Resources::default(),
            timeout: None,
            retry: Retry::default(),
        }
    }

    #[test]
    fn kinds_that_compute_have_the_machine_and_others_a_core() {
        let machine = Machine { cpus: 8, memory_bytes: 0, gpus: vec!["0".to_owned()] };
        let of = |kind, params, jobs| want(&instance(kind, params), &machine, jobs);
        assert_eq!(
            of(Kind::Train, json!({"device": "auto"}), None),
            Want { cpus: 8, memory_bytes: 0, gpus: WantGpus::OneIfAny }
        );
        assert_eq!(
            of(Kind::Train, json!({"device": "cpu"}), Some(3)),
            Want { cpus: 2, memory_bytes: 0, gpus: WantGpus::Indifferent }
        );
        assert_eq!(of(Kind::Command, json!({"run": "true"}), None).cpus, 1);
        assert_eq!(of(Kind::Judge, json!({"annotator": null}), None).gpus, WantGpus::Indifferent);
        assert_eq!(of(Kind::Judge, json!({"annotator": "local"}), None).gpus, WantGpus::OneIfAny);
    }
}
