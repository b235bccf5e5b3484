//! Problems with their positions: what a person or an editor is shown.
//!
//! How they look on a terminal is for `ui::diagnostic`; here they are data, a plain text and JSON.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde_json::{Value, json};

use super::problem::{Code, Severity, SourceId};
use super::source::{Source, Sources};

/// A problem at its place.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What kind.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What is said under the underlined place.
    pub label: Option<String>,
    /// Other places that matter, with what they are.
    pub also: Vec<(Span, String)>,
    /// What to do.
    pub hint: Option<String>,
}

/// A stretch of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// Its bytes.
    pub range: Range<usize>,
    /// Line from 1.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
}

impl Span {
    pub(super) fn of(source: SourceId, range: Range<usize>, text: &str) -> Self {
        let before = &text[..range.start];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = 1 + before.bytes().filter(|&byte| byte == b'\n').count();
        let column = 1 + before[line_start..].chars().count();
        Self { source, range, line, column }
    }
}

/// Everything that is wrong with a pipeline, in the order of the files. Display is plain text, a problem a paragraph.
#[derive(Debug, Default)]
pub struct Problems {
    /// The problems.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that they point into.
    pub sources: Sources,
}

impl std::error::Error for Problems {}

impl Problems {
    /// How many are errors.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }

    /// The shape of `--json`: `{version, problems: [{severity, code, message, file, line, column, end, label, also, hint}]}`.
    /// `end` is the length of the underlined text in characters.
    pub fn to_json(&self) -> Value {
        let problems: Vec<Value> = self.diagnostics.iter().map(|diagnostic| self.diagnostic_json(diagnostic)).collect();
        json!({ "version": 1, "problems": problems })
    }

    fn diagnostic_json(&self, diagnostic: &Diagnostic) -> Value {
        let also: Vec<Value> = diagnostic
            .also
            .iter()
            .map(|(span, label)| {
                let mut place = self.span_json(span);
                place["label"] = json!(label);
                place
            })
            .collect();
        let mut value =
            json!({ "severity": diagnostic.severity, "code": diagnostic.code, "message": diagnostic.message });
        if let (Some(fields), Value::Object(place)) = (value.as_object_mut(), self.span_json(&diagnostic.span)) {
            fields.extend(place);
            fields.insert("label".into(), json!(diagnostic.label));
            fields.insert("also".into(), Value::Array(also));
            fields.insert("hint".into(), json!(diagnostic.hint));
        }
        value
    }

    fn span_json(&self, span: &Span) -> Value {
        #[derive(Serialize)]
        struct Place<'s> {
            file: &'s str,
            line: usize,
            column: usize,
            length: usize,
        }
        let source = self.sources.get(span.source);
        let length = source.text()[span.range.clone()].chars().count();
        json!(Place { file: source.name(), line: span.line, column: span.column, length })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(&plain(diagnostic, &self.sources))?;
        }
        Ok(())
    }
}

/// A diagnostic as `file:line:column: error[code]: message`, its other places and its hint on lines of their own.
pub fn plain(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut text =
        format!("{}: {severity}[{}]: {}", at(&diagnostic.span, sources), diagnostic.code, diagnostic.message);
    for (span, label) in &diagnostic.also {
        text += &format!("\n  {}: {label}", at(span, sources));
    }
    if let Some(hint) = &diagnostic.hint {
        text += &format!("\n  hint: {hint}");
    }
    text
}

fn at(span: &Span, sources: &Sources) -> String {
    let source: &Source = sources.get(span.source);
    format!("{}:{}:{}", source.name(), span.line, span.column)
}
