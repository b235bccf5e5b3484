//! Jinja as the chat templates of models use it: the functions and settings that transformers gives them.
//!
//! It knows the language, not what a conversation is.

use jiff::civil::Date;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::TextError;

const NAME: &str = "template";

/// A compiled template with its pinned date.
pub(super) struct Jinja {
    environment: Environment<'static>,
    what: &'static str,
}

impl Jinja {
    /// Compiles a template; `what` names it in errors.
    pub fn compile(what: &'static str, source: &str, date: &str) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the default delimiters are valid"));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_global("date_string", date);
        let date = date.to_owned();
        environment.add_function("strftime_now", move |format: String| strftime(&date, &format));
        environment
            .add_template_owned(NAME, without_generation_marks(source))
            .map_err(|error| TextError::Template { template: what, problem: describe(&error) })?;
        Ok(Self { environment, what })
    }

    /// Whether the template looks at this variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.environment.get_template(NAME).is_ok_and(|t| t.undeclared_variables(false).contains(variable))
    }

    /// Renders with these variables.
    pub fn render(&self, variables: impl Serialize) -> Result<String, TextError> {
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Serde(variables)))
            .map_err(|error| TextError::Template { template: self.what, problem: describe(&error) })
    }
}

/// What happened and in which line; of `raise_exception`, the template's own words.
fn describe(error: &Error) -> String {
    let text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {text}"),
        None => text,
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `strftime_now` of transformers, at midnight of the pinned date instead of now.
fn strftime(date: &str, format: &str) -> Result<String, Error> {
    let refuse = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
    let day = ["%d %b %Y", "%d %B %Y", "%Y-%m-%d"]
        .iter()
        .find_map(|form| Date::strptime(form, date).ok())
        .ok_or_else(|| refuse(format!("date_string `{date}` is not a date such as 26 Jul 2024 or 2024-07-26")))?;
    jiff::fmt::strtime::format(format, day.at(0, 0, 0, 0)).map_err(|error| refuse(error.to_string()))
}

/// `tojson` of transformers: as Python's `json.dumps(value, ensure_ascii=False, indent=indent)` writes it.
fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width);
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut bytes,
                PrettyFormatter::with_indent(indent.as_bytes()),
            ))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PythonFormatter)),
    };
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(Value::from_safe_string(String::from_utf8(bytes).expect("JSON is UTF-8")))
}

/// One line with a space after each comma and colon.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// transformers' own tag `{% generation %}` marks the trained part and prints nothing: an `if true` to plain Jinja.
fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let inner = &rest[start + 2..start + length];
        text.push_str(&rest[..start + 2]);
        match inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => text.push_str(&inner.replace("generation", " if true ")),
            "endgeneration" => text.push_str(&inner.replace("endgeneration", " endif ")),
            _ => text.push_str(inner),
        }
        rest = &rest[start + length..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str) -> Result<String, TextError> {
        Jinja::compile("the Jinja file", source, "26 Jul 2024")?
            .render(json!({"x": {"a": [1, 2.5], "b": "é<"}, "words": ["p", "q", "r"]}))
    }

    #[test]
    fn the_date_is_the_pinned_one() {
        assert_eq!(
            render("{{ date_string }}|{{ strftime_now('%Y-%m-%d, %B') }}").unwrap(),
            "26 Jul 2024|2024-07-26, July"
        );
        let undated = Jinja::compile("the Jinja file", "{{ strftime_now('%Y') }}", "today").unwrap();
        assert!(undated.render(json!({})).unwrap_err().to_string().contains("`today` is not a date"));
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        assert_eq!(render("{{ x | tojson }}").unwrap(), r#"{"a": [1, 2.5], "b": "é<"}"#);
        assert_eq!(render("{{ words[:1] | tojson(indent=2) }}").unwrap(), "[\n  \"p\"\n]");
    }

    #[test]
    fn the_usual_ways_of_writing_work() {
        let loops = "{% set s = namespace(n=0) %}\n{% for w in words %}\n    {% if w == 'q' %}{% continue %}{% endif %}\n\
                     {% set s.n = s.n + 1 %}\n{{ w.upper() + w.strip() }};\n{% endfor %}\n{{ s.n }}\n";
        assert_eq!(render(loops).unwrap(), "Pp;\nRr;\n2");
        assert_eq!(render("a{%- generation -%} b {%- endgeneration %}c").unwrap(), "abc");
    }

    #[test]
    fn errors_say_where_and_what() {
        let message = render("\n{{ raise_exception('no system turn here') }}").unwrap_err().to_string();
        assert_eq!(message, "the Jinja file: line 2: no system turn here");
        assert!(render("{% if %}").unwrap_err().to_string().starts_with("the Jinja file: line 1: "));
    }
}
