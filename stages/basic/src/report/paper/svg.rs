//! Writes a drawing as SVG. Texts stay texts.

use std::fmt::Write;

use super::canvas::{Anchor, Canvas, Colour, Shape, Stroke};
use super::font;

/// Arimo has the widths of Helvetica and Arial, so that the drawing looks alike with any of them. Where there is none of them
/// the letters of another are set to the same width, or names would run out of the drawing.
const FAMILY: &str = "Arimo, Helvetica, Arial, 'Liberation Sans', sans-serif";

/// The drawing as a file.
pub fn svg(canvas: &Canvas) -> String {
    let (width, height) = (number(canvas.width), number(canvas.height));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}pt\" height=\"{height}pt\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"{FAMILY}\" role=\"img\">\n<title>{}</title>\n",
        escape(&canvas.title)
    );
    for shape in &canvas.shapes {
        svg.push_str(&element(shape));
        svg.push('\n');
    }
    svg.push_str("</svg>\n");
    svg
}

fn element(shape: &Shape) -> String {
    match shape {
        Shape::Line { points, stroke } => {
            let mut path = String::new();
            for (at, (x, y)) in points.iter().enumerate() {
                let command = if at == 0 { 'M' } else { 'L' };
                _ = write!(path, "{command}{} {}", number(*x), number(*y));
            }
            format!("<path d=\"{path}\" fill=\"none\" stroke-linejoin=\"round\" {}/>", attributes(stroke))
        }
        Shape::Dot { at: (x, y), radius, fill, stroke } => format!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{}\" {}/>",
            number(*x),
            number(*y),
            number(*radius),
            hex(*fill),
            attributes(stroke)
        ),
        Shape::Text { at: (x, y), text, size, anchor, colour, upwards } => {
            let (x, y) = (number(*x), number(*y));
            let turn = if *upwards { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            format!(
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\" text-anchor=\"{anchor}\"{} fill=\"{}\"{turn}>{}</text>",
                number(*size),
                length(text, *size),
                hex(*colour),
                escape(text)
            )
        }
    }
}

/// The width of a text, where all its letters are known.
fn length(text: &str, size: f64) -> String {
    match text.chars().count() > 1 && text.chars().all(font::is_known) {
        true => format!(" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\"", number(font::width(text, size))),
        false => String::new(),
    }
}

fn attributes(stroke: &Stroke) -> String {
    let mut text = format!("stroke=\"{}\" stroke-width=\"{}\"", hex(stroke.colour), number(stroke.width));
    if !stroke.dashes.is_empty() {
        let dashes: Vec<String> = stroke.dashes.iter().map(|&length| number(length)).collect();
        _ = write!(text, " stroke-dasharray=\"{}\"", dashes.join(" "));
    }
    text
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// A hundredth of a point is finer than any printer.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
