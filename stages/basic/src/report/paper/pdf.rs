//! Writes a drawing as PDF of one page of its size, with its font. No times and no names, so equal drawings are equal files.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str};

use super::canvas::{Anchor, Canvas, Colour, Shape, Stroke};
use super::font::{self, FACE};

const FONT: Name<'static> = Name(b"F");
const BASE_FONT: Name<'static> = Name(b"Arimo-Regular");
const SYSTEM: SystemInfo<'static> = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };
/// How far the ends of a curve's handles are for a quarter of a circle.
const KAPPA: f64 = 0.552_284_75;

/// The drawing as a file.
pub fn pdf(canvas: &Canvas) -> Vec<u8> {
    let [catalog, pages, page, contents, font] = [1, 2, 3, 4, 5].map(Ref::new);
    let mut pdf = Pdf::new();
    pdf.set_version(1, 5); // what pdflatex takes without a warning
    pdf.catalog(catalog).pages(pages);
    pdf.pages(pages).kids([page]).count(1);
    let mut leaf = pdf.page(page);
    leaf.parent(pages).contents(contents);
    leaf.media_box(Rect::new(0.0, 0.0, canvas.width as f32, canvas.height as f32));
    leaf.resources().fonts().pair(FONT, font);
    leaf.finish();
    let mut content = Content::new();
    // PDF counts from the lower left corner.
    content.transform([1.0, 0.0, 0.0, -1.0, 0.0, canvas.height as f32]);
    let mut used = BTreeMap::new();
    for shape in &canvas.shapes {
        draw(&mut content, shape, &mut used);
    }
    pdf.stream(contents, &packed(content.finish().as_slice())).filter(Filter::FlateDecode);
    write_font(&mut pdf, font, &used);
    pdf.finish()
}

fn draw(content: &mut Content, shape: &Shape, used: &mut BTreeMap<u16, char>) {
    match shape {
        Shape::Line { points, stroke } => {
            set_stroke(content, stroke);
            for (at, &(x, y)) in points.iter().enumerate() {
                let (x, y) = (x as f32, y as f32);
                _ = if at == 0 { content.move_to(x, y) } else { content.line_to(x, y) };
            }
            content.stroke();
        }
        Shape::Dot { at, radius, fill, stroke } => {
            set_stroke(content, stroke);
            let [red, green, blue] = parts(*fill);
            content.set_fill_rgb(red, green, blue);
            circle(content, *at, *radius);
            content.fill_nonzero_and_stroke();
        }
        Shape::Text { at, text, size, anchor, colour, upwards } => {
            let glyphs: Vec<(u16, char)> = font::glyphs(text).collect();
            used.extend(glyphs.iter().copied());
            let back = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => font::width(text, *size) / 2.0,
                Anchor::End => font::width(text, *size),
            };
            let (x, y) = *at;
            let matrix =
                if *upwards { [0.0, -1.0, -1.0, 0.0, x, y + back] } else { [1.0, 0.0, 0.0, -1.0, x - back, y] };
            let bytes: Vec<u8> = glyphs.iter().flat_map(|(glyph, _)| glyph.to_be_bytes()).collect();
            let [red, green, blue] = parts(*colour);
            content.set_fill_rgb(red, green, blue);
            content.begin_text().set_font(FONT, *size as f32).set_text_matrix(matrix.map(|value| value as f32));
            content.show(Str(&bytes)).end_text();
        }
    }
}

fn set_stroke(content: &mut Content, stroke: &Stroke) {
    let [red, green, blue] = parts(stroke.colour);
    content.set_stroke_rgb(red, green, blue).set_line_width(stroke.width as f32);
    content.set_dash_pattern(stroke.dashes.iter().map(|&length| length as f32), 0.0);
}

fn circle(content: &mut Content, (x, y): (f64, f64), radius: f64) {
    let handle = radius * KAPPA;
    let corner = |a: f64, b: f64| ((x + a) as f32, (y + b) as f32);
    let quarters = [
        [(radius, handle), (handle, radius), (0.0, radius)],
        [(-handle, radius), (-radius, handle), (-radius, 0.0)],
        [(-radius, -handle), (-handle, -radius), (0.0, -radius)],
        [(handle, -radius), (radius, -handle), (radius, 0.0)],
    ];
    let start = corner(radius, 0.0);
    content.move_to(start.0, start.1);
    for quarter in quarters {
        let [a, b, c] = quarter.map(|(a, b)| corner(a, b));
        content.cubic_to(a.0, a.1, b.0, b.1, c.0, c.1);
    }
    content.close_path();
}

fn parts(colour: Colour) -> [f32; 3] {
    colour.map(|part| f32::from(part) / 255.0)
}

/// The font with the widths of all its glyphs and, of those in use, their letters: texts can be searched and copied.
fn write_font(pdf: &mut Pdf, id: Ref, used: &BTreeMap<u16, char>) {
    let [descendant, descriptor, letters, file] = [6, 7, 8, 9].map(Ref::new);
    pdf.type0_font(id)
        .base_font(BASE_FONT)
        .encoding_predefined(Name(b"Identity-H"))
        .descendant_font(descendant)
        .to_unicode(letters);
    let mut cid = pdf.cid_font(descendant);
    cid.subtype(CidFontType::Type2).base_font(BASE_FONT).system_info(SYSTEM).font_descriptor(descriptor);
    cid.default_width(0.0).cid_to_gid_map_predefined(Name(b"Identity"));
    cid.widths().consecutive(0, (0..FACE.number_of_glyphs()).map(|glyph| font::advance(glyph) as f32));
    cid.finish();
    let scale = |value: i16| f32::from(value) * 1000.0 / f32::from(FACE.units_per_em());
    let bounds = FACE.global_bounding_box();
    pdf.font_descriptor(descriptor)
        .name(BASE_FONT)
        .flags(FontFlags::SYMBOLIC)
        .bbox(Rect::new(scale(bounds.x_min), scale(bounds.y_min), scale(bounds.x_max), scale(bounds.y_max)))
        .italic_angle(0.0)
        .ascent(scale(FACE.ascender()))
        .descent(scale(FACE.descender()))
        .cap_height(scale(FACE.capital_height().unwrap_or(FACE.ascender())))
        .stem_v(80.0)
        .font_file2(file);
    let mut map = UnicodeCmap::new(Name(b"Letters"), SYSTEM);
    for (&glyph, &letter) in used {
        map.pair(glyph, letter);
    }
    pdf.cmap(letters, map.finish().as_slice());
    let length = i32::try_from(font::FILE.len()).expect("the font is small");
    let packed = packed(font::FILE);
    pdf.stream(file, &packed).filter(Filter::FlateDecode).pair(Name(b"Length1"), length);
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}
