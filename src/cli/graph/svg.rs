//! The graph as a picture of its own: a box a stage with its instances, states told by shape, colour and word.

use std::collections::BTreeSet;
use std::fmt::Write;

use indexmap::IndexMap;

use super::layers::{Layout, lay_out};
use super::{needs, state};
use crate::plan::{Plan, State};
use crate::spec::model::Pipeline;
use crate::ui::table::cell;

/// Instances of a stage that are listed; of more, those in each state are counted.
const LISTED: usize = 12;
const LINE: f64 = 17.0;
const HEAD: f64 = 30.0;
const MARGIN: f64 = 20.0;
/// Width of a character of the text, on average and with room to spare: fonts differ.
const CHARACTER: f64 = 6.6;
const BOLD: f64 = 7.8;
/// Width of one item of the legend.
const LEGEND: f64 = 110.0;

const STATES: [State; 4] = [State::Cached, State::Run, State::Pending, State::Blocked];

/// A stage as it is drawn.
struct Stage<'p> {
    name: &'p str,
    kind: String,
    members: Vec<usize>,
    lines: Vec<(State, String)>,
}

/// The picture.
pub fn svg(pipeline: &Pipeline, plan: &Plan) -> String {
    let stages = stages(pipeline, plan);
    let sizes: Vec<(f64, f64)> = stages.iter().map(Stage::size).collect();
    let layout = lay_out(&sizes, &edges(pipeline, &stages));
    let (width, height) =
        (layout.width.max(LEGEND * STATES.len() as f64) + 2.0 * MARGIN, layout.height + 2.0 * MARGIN + LINE + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0L8 4L0 8z\" fill=\"#7a7f87\"/></marker>\n",
        escaped(&pipeline.name)
    );
    let _ = writeln!(svg, "<g transform=\"translate({MARGIN} {MARGIN})\">");
    svg += &lines(&layout);
    for ((stage, size), corner) in stages.iter().zip(&sizes).zip(&layout.corners) {
        svg += &stage.draw(*corner, *size);
    }
    svg += "</g>\n";
    svg += &legend(plan, height - MARGIN);
    svg + "</svg>\n"
}

/// The stages in their order, with their instances.
fn stages<'p>(pipeline: &'p Pipeline, plan: &Plan) -> Vec<Stage<'p>> {
    let mut members: IndexMap<&str, Vec<usize>> = IndexMap::new();
    for (index, instance) in pipeline.instances.iter().enumerate() {
        members.entry(&instance.stage).or_default().push(index);
    }
    let stage = |(name, members): (&'p str, Vec<usize>)| {
        let kind = pipeline.instances[members[0]].kind.to_string();
        let lines = if members.len() > LISTED { counted(plan, &members) } else { listed(pipeline, plan, &members) };
        Stage { name, kind, members, lines }
    };
    members.into_iter().map(stage).collect()
}

fn listed(pipeline: &Pipeline, plan: &Plan, members: &[usize]) -> Vec<(State, String)> {
    let line = |&index: &usize| {
        let state = state(plan, index);
        let axes = pipeline.instances[index].axes.iter().map(|(axis, value)| format!("{axis} {}", cell(value)));
        let axes = axes.collect::<Vec<_>>().join(", ");
        let text = if axes.is_empty() { state.name().to_owned() } else { format!("{axes} · {}", state.name()) };
        (state, text)
    };
    members.iter().map(line).collect()
}

fn counted(plan: &Plan, members: &[usize]) -> Vec<(State, String)> {
    let count = |wanted: State| members.iter().filter(|&&index| state(plan, index) == wanted).count();
    let counts = STATES.into_iter().map(|state| (state, count(state))).filter(|(_, count)| *count > 0);
    counts.map(|(state, count)| (state, format!("{count} {}", state.name()))).collect()
}

/// Which stages need which, each pair once.
fn edges(pipeline: &Pipeline, stages: &[Stage]) -> Vec<(usize, usize)> {
    let mut of_instance = vec![0; pipeline.instances.len()];
    for (at, stage) in stages.iter().enumerate() {
        stage.members.iter().for_each(|&index| of_instance[index] = at);
    }
    let all = pipeline.instances.iter().enumerate();
    let pairs = all.flat_map(|(index, instance)| needs(instance).into_iter().map(move |need| (need, index)));
    let pairs: BTreeSet<(usize, usize)> = pairs.map(|(need, index)| (of_instance[need], of_instance[index])).collect();
    pairs.into_iter().collect()
}

fn lines(layout: &Layout) -> String {
    let mut svg = String::from("<g fill=\"none\" stroke=\"#7a7f87\" stroke-width=\"1.2\">\n");
    for route in &layout.routes {
        let (x, y) = route[0];
        let mut path = format!("M{x:.0} {y:.1}");
        for pair in route.windows(2) {
            let ((from_x, from_y), (x, y)) = (pair[0], pair[1]);
            let middle = (from_x + x) / 2.0;
            let _ = write!(path, "C{middle:.0} {from_y:.1} {middle:.0} {y:.1} {x:.0} {y:.1}");
        }
        let _ = writeln!(svg, "<path d=\"{path}\" marker-end=\"url(#tip)\"/>");
    }
    svg + "</g>\n"
}

impl Stage<'_> {
    fn size(&self) -> (f64, f64) {
        let (name, rest) = self.heading();
        let title = name.chars().count() as f64 * BOLD + (1 + rest.chars().count()) as f64 * CHARACTER;
        let line = self.lines.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0) as f64 * CHARACTER + 18.0;
        (title.max(line).max(96.0) + 20.0, HEAD + LINE * self.lines.len() as f64 + 6.0)
    }

    /// Its name; its kind, where that is another word, and how many there are.
    fn heading(&self) -> (&str, String) {
        let kind = if self.kind == self.name { "" } else { &self.kind };
        let count = if self.members.len() > 1 { format!("×{}", self.members.len()) } else { String::new() };
        (self.name, [kind, &count].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
    }

    fn draw(&self, (x, y): (f64, f64), (width, height): (f64, f64)) -> String {
        let (name, rest) = self.heading();
        let mut svg = format!(
            "<g transform=\"translate({x:.0} {y:.1})\"><rect width=\"{width:.0}\" height=\"{height:.0}\" rx=\"6\" fill=\"#f7f8fa\" \
             stroke=\"#9aa0a8\"/><text x=\"10\" y=\"20\"><tspan font-weight=\"600\">{}</tspan> <tspan fill=\"#5d636b\">{}</tspan></text>\n",
            escaped(name),
            escaped(&rest)
        );
        for (at, (state, text)) in self.lines.iter().enumerate() {
            svg += &line(10.0, HEAD + LINE * at as f64 + LINE / 2.0, *state, text);
        }
        svg + "</g>\n"
    }
}

/// A mark and its words. The mark's shape alone tells the state, for those who do not see the colours.
fn line(x: f64, y: f64, state: State, text: &str) -> String {
    let mark = match state {
        State::Cached => "<circle r=\"4.5\" fill=\"#2f8f4e\"/>",
        State::Run => "<path d=\"M-4 -5L5 0L-4 5z\" fill=\"#c77700\"/>",
        State::Pending => {
            "<circle r=\"4\" fill=\"none\" stroke=\"#6b7178\" stroke-width=\"1.5\" stroke-dasharray=\"2.2 1.6\"/>"
        }
        State::Blocked => "<path d=\"M-4 -4L4 4M4 -4L-4 4\" stroke=\"#c0392b\" stroke-width=\"2.4\"/>",
    };
    format!(
        "<g transform=\"translate({:.0} {y:.1})\">{mark}<text x=\"11\" y=\"4\" fill=\"#22262b\">{}</text></g>\n",
        x + 5.0,
        escaped(text)
    )
}

fn legend(plan: &Plan, y: f64) -> String {
    let counts = plan.counts();
    let counts = [counts.cached, counts.run, counts.pending, counts.blocked];
    let items = STATES.into_iter().zip(counts).enumerate();
    items
        .map(|(at, (state, count))| line(MARGIN + LEGEND * at as f64, y, state, &format!("{count} {}", state.name())))
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
