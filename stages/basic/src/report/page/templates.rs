//! The templates under `assets/report` and what they may call.

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Value};

use crate::clip::clip;

/// The templates; `.html` files escape what they are given.
///
/// # Errors
/// Where a template cannot be read, which is a bug.
pub fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    let files = [
        ("page.html", include_str!("../../../assets/report/page.html")),
        ("findings.html", include_str!("../../../assets/report/findings.html")),
        ("table.html", include_str!("../../../assets/report/table.html")),
        ("lineage.html", include_str!("../../../assets/report/lineage.html")),
        ("style.css", include_str!("../../../assets/report/style.css")),
        ("table.js", include_str!("../../../assets/report/table.js")),
        ("charts.js", include_str!("../../../assets/report/charts.js")),
        ("answers.js", include_str!("../../../assets/report/answers.js")),
        ("uPlot.js", include_str!("../../../assets/uplot/uPlot.iife.min.js")),
        ("uPlot.css", include_str!("../../../assets/uplot/uPlot.min.css")),
        ("uPlot.licence", include_str!("../../../assets/uplot/LICENSE")),
    ];
    for (name, source) in files {
        if name.ends_with(".html") {
            environment.add_template(name, source)?;
        }
    }
    let asset = move |name: &str| match files.iter().find(|(known, _)| *known == name) {
        Some((_, source)) => Ok(Value::from_safe_string((*source).to_owned())),
        None => Err(minijinja::Error::new(minijinja::ErrorKind::TemplateNotFound, name.to_owned())),
    };
    environment.add_function("asset", asset);
    environment.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
    environment.add_filter("clip", |text: &str, most: usize| clip(text, most));
    Ok(environment)
}
