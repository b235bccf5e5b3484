//! Diagnostics as a person reads them: the source line, what is wrong underlined, both places where two things conflict.

use std::collections::BTreeMap;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::spec::diagnostic::{Diagnostic, Problems, Span};
use crate::spec::problem::{Severity, SourceId};
use crate::spec::source::Sources;

/// Characters of a line where nobody says how many fit.
const WIDEST: usize = 140;
/// How many problems are shown in full; of the rest, the number.
const SHOWN: usize = 50;
/// A line longer than this is shown without its text.
const LONGEST_LINE_BYTES: usize = 2_000;

/// All problems, one after the other, and how many there are. In colour for a terminal that has it.
pub fn render(problems: &Problems, colour: bool) -> String {
    render_in(problems, colour, WIDEST)
}

/// The same where a line of the terminal has so many characters: what would not fit of a source line is left out, so that
/// what is wrong stays underlined.
pub fn render_in(problems: &Problems, colour: bool, width: usize) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(width.min(WIDEST));
    let mut text = String::new();
    for diagnostic in problems.diagnostics.iter().take(SHOWN) {
        text += &render_one(diagnostic, &problems.sources, &renderer);
        text += "\n\n";
    }
    let hidden = problems.diagnostics.len().saturating_sub(SHOWN);
    if hidden > 0 {
        text += &format!("… and {hidden} more\n\n");
    }
    text += &match problems.errors() {
        0 => return text.trim_end().to_owned(),
        1 => "1 problem in the pipeline".to_owned(),
        count => format!("{count} problems in the pipeline"),
    };
    text
}

fn render_one(diagnostic: &Diagnostic, sources: &Sources, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let code = diagnostic.code.to_string();
    let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()).id(code.as_str()));
    let excerpts = excerpts(diagnostic, sources);
    for excerpt in &excerpts {
        let annotations = excerpt.marks.iter().map(|mark| {
            let kind = if mark.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            kind.span(mark.range.clone()).label(mark.label)
        });
        let snippet = Snippet::source(excerpt.text).line_start(excerpt.line).path(excerpt.name);
        group = group.element(snippet.annotations(annotations));
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    renderer.render(&[group])
}

/// The lines of one source that a diagnostic is about.
struct Excerpt<'s> {
    name: &'s str,
    text: &'s str,
    line: usize,
    marks: Vec<Mark<'s>>,
}

struct Mark<'s> {
    primary: bool,
    range: Range<usize>,
    label: Option<&'s str>,
}

/// Only the lines between the first and the last place are handed to the renderer: it reads all that it is given.
fn excerpts<'s>(diagnostic: &'s Diagnostic, sources: &'s Sources) -> Vec<Excerpt<'s>> {
    let main = diagnostic.span.source;
    let mut by_source: BTreeMap<(bool, SourceId), Vec<Shown<'s>>> = BTreeMap::new();
    let first = Shown { span: &diagnostic.span, primary: true, label: diagnostic.label.as_deref() };
    by_source.entry((false, main)).or_default().push(first);
    for (span, label) in &diagnostic.also {
        let shown = Shown { span, primary: false, label: Some(label) };
        by_source.entry((span.source != main, span.source)).or_default().push(shown);
    }
    by_source.into_iter().map(|((_, id), shown)| excerpt(sources, id, &shown)).collect()
}

/// A place that a diagnostic shows.
struct Shown<'s> {
    span: &'s Span,
    primary: bool,
    label: Option<&'s str>,
}

fn excerpt<'s>(sources: &'s Sources, id: SourceId, places: &[Shown<'s>]) -> Excerpt<'s> {
    let source = sources.get(id);
    let text = source.text();
    let start = places.iter().map(|place| line_start(text, place.span.range.start)).min().unwrap_or(0);
    let end = places.iter().map(|place| line_end(text, place.span.range.end)).max().unwrap_or(text.len());
    let line = places.iter().map(|place| place.span.line).min().unwrap_or(1);
    let shown = &text[start..end];
    if shown.lines().any(|line| line.len() > LONGEST_LINE_BYTES) {
        let marks = vec![Mark { primary: true, range: 0..0, label: places.first().and_then(|place| place.label) }];
        return Excerpt { name: source.name(), text: "(a line too long to show)", line, marks };
    }
    let marks = places
        .iter()
        .map(|place| Mark {
            primary: place.primary,
            range: place.span.range.start - start..place.span.range.end - start,
            label: place.label,
        })
        .collect();
    Excerpt { name: source.name(), text: shown, line, marks }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end)
}
