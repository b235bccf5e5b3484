//! How everything was made and compared: every setting and every digest, as plain text.

use std::fmt::Write;

use neftpipe_measures::bootstrap::DRAWS;
use neftpipe_protocol::Kind;
use neftpipe_protocol::request::LineageStage;

use crate::report::file::ReportFile;
use crate::report::lineage::{defaults, leaves};
use crate::report::measures::LC_WIN_RATE;
use crate::report::place::display;
use crate::report::sentences::of_steps;
use crate::report::statistics::SEED;
use crate::report::verdicts::Calibration;

/// The whole file.
pub fn methods(report: &ReportFile<'_>) -> String {
    let mut text = format!("{}\n\nWritten by neftpipe, report@{}.\n\n", report.title, Kind::Report.version());
    text.push_str(&comparisons(report));
    if !report.judgements.is_empty() {
        text.push_str(&judges(report));
    }
    let Some(lineage) = report.lineage else {
        text.push_str("\nHow the inputs were made is not known.\n");
        return text;
    };
    if !lineage.pipeline.is_empty() {
        _ = writeln!(text, "\nMade by: neftpipe run {}", lineage.pipeline);
    }
    if let Some(steps) = report.steps.and_then(of_steps) {
        _ = writeln!(text, "\nTraining\n\n  {steps}");
    }
    text.push_str("\nDefaults\n\nWhat a stage does not name stands at these, where it has an effect.\n");
    for (kind, params) in defaults(lineage) {
        _ = writeln!(text, "\n  {kind}");
        for (name, value) in params {
            _ = writeln!(text, "    {name}: {}", display(&value));
        }
    }
    text.push_str("\nStages\n\nEqual keys mean equal work.\n");
    for stage in &lineage.stages {
        text.push_str(&of_stage(stage));
    }
    text
}

fn comparisons(report: &ReportFile<'_>) -> String {
    let mut text = format!(
        "Comparisons\n\nArms are paired over prompts (or rows) and seeds. Intervals: 95% percentile intervals of {DRAWS} bootstrap draws\n\
         (seed {SEED}) over prompts and, where there are several, over seeds. A difference is claimed where its interval leaves\n\
         out 0, its p-value survives Holm's correction over the comparisons of its family, and there are at least 10 prompts.\n\
         The sign test decides nothing.\n\n"
    );
    if report.figures.iter().any(|figure| figure.name == LC_WIN_RATE.name) {
        text.push_str(
            "Win rates at equal length are one fit over all prompts. Their differences are resampled by what each prompt\n\
             contributes to the rate (its pseudo-value by the infinitesimal jackknife), which to first order is drawing prompts\n\
             and fitting anew; the difficulties of the instructions, the baselines of forced length and C are held.\n\n",
        );
    }
    let params = serde_json::to_value(report.axes).unwrap_or_default();
    let is_said = |value: &serde_json::Value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty());
    for (name, value) in leaves(&params).into_iter().filter(|(_, value)| is_said(value)) {
        _ = writeln!(text, "  report {name}: {}", display(value));
    }
    for figure in report.figures.iter().filter(|figure| figure.is_compared) {
        let size = |arm: &crate::report::file::ArmFigure| {
            arm.replicates.iter().map(|run| run.n.to_string()).collect::<Vec<_>>().join(" + ")
        };
        let sizes: Vec<String> = figure.arms.iter().map(|(name, arm)| format!("{name} {}", size(arm))).collect();
        _ = writeln!(text, "  {} ({}): n = {}", figure.title, figure.stage, sizes.join(", "));
    }
    text
}

fn judges(report: &ReportFile<'_>) -> String {
    let mut text = "\nJudges\n\n".to_owned();
    for file in &report.judgements {
        let judgement = file.judgement;
        let caution = judgement.caution.as_ref().map_or(String::new(), |caution| format!(" ({caution})"));
        _ = writeln!(text, "  {}: {} against {}{caution}", file.stage, judgement.annotator, judgement.reference);
        if let Some(Calibration { annotator, n, rate, kappa }) = &judgement.calibration {
            let kappa = kappa.map_or(String::new(), |kappa| format!(", kappa {kappa:.2}"));
            _ = writeln!(
                text,
                "    agrees with {annotator} on {:.0}% of {n} published comparisons{kappa}",
                100.0 * rate
            );
        }
    }
    text
}

fn of_stage(stage: &LineageStage) -> String {
    let label = stage.label.as_ref().map_or(String::new(), |label| format!(", {label}"));
    let mut text = format!("\n{}\n  kind: {}{label}\n", stage.id, stage.kind);
    for (name, value) in leaves(&stage.params) {
        _ = writeln!(text, "  {name}: {}", display(value));
    }
    for (slot, inputs) in &stage.inputs {
        let inputs: Vec<String> = inputs.iter().map(|input| format!("{} ({})", input.stage, input.output)).collect();
        _ = writeln!(text, "  from {slot}: {}", inputs.join(", "));
    }
    _ = writeln!(text, "  key: {}", stage.key);
    for (name, digest) in &stage.outputs {
        _ = writeln!(text, "  output {name}: {digest}");
    }
    text
}
