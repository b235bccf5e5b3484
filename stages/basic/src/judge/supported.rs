//! What this version refuses, in one place: nothing that a pipeline asks for is passed over silently.

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::worker::Job;

/// The annotator that asks the model of the slot `model`.
pub const LOCAL: &str = "local";

/// Refuses named annotators, services, calibration and length control, and a local judge without what it needs.
///
/// # Errors
/// Names the parameter or the slot.
pub fn check(job: &Job, params: &JudgeParams) -> Result<(), Failure> {
    let annotator = params.annotator.as_deref();
    if let Some(name) = annotator.filter(|&name| name != LOCAL) {
        return Err(refuse(format!("the annotator `{name}`")).with_hint("say `annotator: local`, or leave it out"));
    }
    for (name, is_set) in [("endpoint", params.endpoint.is_some()), ("calibrate", params.calibrate.is_some())] {
        if is_set {
            return Err(refuse(format!("the parameter `{name}`")));
        }
    }
    for slot in ["annotators", "length_control", "calibrate"] {
        if job.optional_input(slot).is_some() {
            return Err(refuse(format!("the input `{slot}`")));
        }
    }
    for slot in ["reference", "model"] {
        match (annotator, job.optional_input(slot)) {
            (Some(_), None) => {
                return Err(Failure::usage(format!("`annotator: local` needs the input `{slot}`"))
                    .with_hint(format!("name its stage in `needs: {{ {slot}: … }}`")));
            }
            (None, Some(_)) => {
                job.warn(&format!("{slot}_unused"), format!("the input `{slot}` has no effect without an annotator"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn refuse(what: String) -> Failure {
    Failure::usage(format!("{what} is not supported by this version of neftpipe"))
}
