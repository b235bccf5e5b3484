//! What this version refuses, in one place: nothing that a pipeline asks for is passed over silently.

use neftpipe_protocol::Failure;
use neftpipe_protocol::judging::LOCAL;
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::worker::Job;

/// Refuses inputs that do not go together, and a judge without what it needs.
///
/// # Errors
/// Names the parameter or the slot.
pub fn check(job: &Job, params: &JudgeParams) -> Result<(), Failure> {
    let annotator = params.annotator.as_deref();
    let is_asked = annotator.is_some_and(|name| name != LOCAL);
    if is_asked && params.endpoint.is_none() {
        let name = annotator.unwrap_or_default();
        return Err(Failure::usage(format!("the annotator `{name}` asks a service, and there is no `endpoint`"))
            .with_hint("say `endpoint: { model: …, base_url: …, key_env: … }`"));
    }
    match (params.calibrate, job.optional_input("calibrate")) {
        (Some(_), None) if annotator.is_some() => return Err(missing("calibrate", "calibrate")),
        (None, Some(_)) if annotator.is_some() => {
            return Err(Failure::usage(
                "the input `calibrate` is there, and no parameter `calibrate` says how many to judge",
            )
            .with_hint("say `calibrate: 100`, or leave the input out"));
        }
        _ => {}
    }
    if job.optional_input("annotations").is_some() && annotator.is_some() {
        return Err(Failure::usage("with the input `annotations` nobody is asked, so `annotator` has no meaning")
            .with_hint("leave out one of the two"));
    }
    let compares = annotator.is_some() || job.optional_input("annotations").is_some();
    let uses = [
        ("reference", annotator.is_some()),
        ("model", annotator == Some(LOCAL)),
        ("annotators", is_asked),
        ("length_control", compares),
        ("calibrate", annotator.is_some()),
    ];
    const NEEDED: usize = 3;
    if let Some((slot, _)) = uses[..NEEDED].iter().find(|(slot, used)| *used && job.optional_input(slot).is_none()) {
        return Err(missing(&format!("annotator: {}", annotator.unwrap_or_default()), slot));
    }
    if params.endpoint.is_some() && !is_asked {
        job.warn("endpoint_unused", "`endpoint` has no effect: no annotator asks it");
    }
    let unused: Vec<&str> =
        uses.iter().filter(|(slot, used)| !used && job.optional_input(slot).is_some()).map(|&(slot, _)| slot).collect();
    if !unused.is_empty() {
        let why = annotator.map_or("without an annotator".to_owned(), |name| format!("with `annotator: {name}`"));
        job.warn("inputs_unused", format!("of its inputs {} have no effect {why}", unused.join(", ")));
    }
    Ok(())
}

fn missing(what: &str, slot: &str) -> Failure {
    Failure::usage(format!("`{what}` needs the input `{slot}`"))
        .with_hint(format!("name its stage in `needs: {{ {slot}: … }}`"))
}
