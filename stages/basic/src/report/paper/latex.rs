//! The table for LaTeX with booktabs: compared measures with their differences, then what is described only.

use crate::report::file::ReportFile;
use crate::report::table::{Cell, Heading, Table};
use neftpipe_measures::comparison::Finding;

/// Letters of a name that still stands in one line.
const LONG_NAME: usize = 30;

/// The tables of all columns as one file to be included.
pub fn latex(report: &ReportFile<'_>, tables: &[(String, Table)]) -> String {
    let mut text = "% Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}.\n".to_owned();
    let mut number = 0;
    for (column, table) in tables {
        for is_compared in [true, false] {
            let chosen: Vec<usize> =
                (0..table.headings.len()).filter(|&at| table.headings[at].is_compared == is_compared).collect();
            if !chosen.is_empty() {
                number += 1;
                text.push_str(&one(report, column, table, &chosen, number));
            }
        }
    }
    text
}

fn one(report: &ReportFile<'_>, column: &str, table: &Table, chosen: &[usize], number: usize) -> String {
    let heading = |of: fn(&Heading) -> String| {
        chosen.iter().map(|&at| format!(" & {}", escape(&of(&table.headings[at])))).collect::<String>()
    };
    let names = heading(|heading| two_lines(&heading.text).0.to_owned());
    let sets = heading(|heading| two_lines(&heading.text).1.to_owned());
    let units = heading(|heading| if heading.unit.is_empty() { String::new() } else { format!("({})", heading.unit) });
    // A page holds seven figures with their intervals only where they stand closer.
    let spacing = if chosen.len() > 5 { "\\setlength{\\tabcolsep}{3pt}\n" } else { "" };
    let lines: String =
        [sets, units].iter().filter(|line| !is_blank(line)).map(|line| format!("{line} \\\\\n")).collect();
    let mut text = format!(
        "\n\\begin{{table*}}\n\\centering\n\\small\n{spacing}\\caption{{{}}}\n\\label{{tab:arms-{number}}}\n\\begin{{tabular}}{{l{}}}\n\\toprule\nArm{names} \\\\\n{lines}\\midrule\n",
        caption(report, column, table, chosen),
        "r".repeat(chosen.len()),
    );
    for row in &table.rows {
        let cells: Vec<Option<&Cell>> = chosen.iter().map(|&at| row.cells[at].as_ref()).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let means: String = cells.iter().map(|cell| format!(" & {}", cell.map_or("--".to_owned(), mean))).collect();
        // The braces: a name that starts with `[` or `*` would be read as part of the line break before it.
        text.push_str(&format!("{{}}{}{means} \\\\\n", name(&row.arm)));
        if cells.iter().flatten().any(|cell| cell.finding.is_some()) {
            let differences: Vec<(String, String)> =
                cells.iter().map(|cell| cell.map_or_else(Default::default, difference)).collect();
            let line = |part: fn(&(String, String)) -> &String| {
                differences.iter().map(|found| format!(" & {}", part(found))).collect::<String>()
            };
            text.push_str(&format!("{} \\\\\n{} \\\\\n", line(|found| &found.0), line(|found| &found.1)));
        }
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n\\end{table*}\n");
    text
}

/// The name of an arm; a long one is broken into lines.
fn name(arm: &str) -> String {
    let text = escape(arm);
    let letters = |letter| if is_known(letter) { 1 } else { "[U+4E2D]".len() };
    if arm.chars().map(letters).sum::<usize>() <= LONG_NAME {
        return text;
    }
    let breakable = |text: String, end: &str| text.replace(end, &format!("{end}\\allowbreak{{}}"));
    let text = ["\\_", "/", "]"].into_iter().fold(text, breakable);
    format!("\\parbox[t]{{0.25\\textwidth}}{{\\raggedright {text}\\strut}}")
}

/// Whether a line of a table has empty cells alone.
fn is_blank(line: &str) -> bool {
    line.chars().all(|letter| matches!(letter, ' ' | '&'))
}

fn caption(report: &ReportFile<'_>, column: &str, table: &Table, chosen: &[usize]) -> String {
    let title = if column.is_empty() { report.title.to_owned() } else { format!("{}, {column}", report.title) };
    let is_compared = chosen.iter().any(|&at| table.headings[at].is_compared);
    let baseline = table.rows.iter().find(|row| row.is_baseline);
    match baseline.filter(|_| is_compared) {
        Some(baseline) => format!(
            "{}. Means over runs; below them the difference from {} with its 95\\% bootstrap interval. $^{{*}}$: the interval leaves out 0 and the difference survives Holm's correction.",
            escape(&title),
            escape(&baseline.arm)
        ),
        None => format!("{}. Means over runs.", escape(&title)),
    }
}

fn mean(cell: &Cell) -> String {
    let star = if matches!(cell.finding, Some(Finding::Higher | Finding::Lower)) { "$^{*}$" } else { "" };
    format!("{}{star}", escape(&cell.text))
}

/// A heading as a column has room for it: what is measured, and on which prompts or rows.
fn two_lines(heading: &str) -> (&str, &str) {
    heading.split_once(", ").unwrap_or((heading, ""))
}

/// The difference and its interval.
fn difference(cell: &Cell) -> (String, String) {
    let Some(text) = cell.difference.as_ref().filter(|_| cell.finding.is_some()) else { return Default::default() };
    let small = |text: &str| format!("{{\\scriptsize {}}}", escape(text));
    match text.split_once(' ') {
        Some((mean, interval)) => (small(mean), small(interval)),
        None => (small(text), String::new()),
    }
}

/// Whether pdfLaTeX can set a letter, with what is here written for it.
pub fn is_known(letter: char) -> bool {
    letter.is_ascii() || sign(letter).is_some() || is_in_font(letter)
}

/// A text with what LaTeX would read as a command, and with the numbers of letters that it could not set.
fn escape(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\\' => "\\textbackslash{}".to_owned(),
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{letter}"),
        '~' => "\\textasciitilde{}".to_owned(),
        '^' => "\\textasciicircum{}".to_owned(),
        // These start ligatures or are other letters in the oldest of LaTeX's encodings.
        '<' => "\\textless{}".to_owned(),
        '>' => "\\textgreater{}".to_owned(),
        '|' => "\\textbar{}".to_owned(),
        '"' => "\\textquotedbl{}".to_owned(),
        '`' => "\\textasciigrave{}".to_owned(),
        control if control.is_control() => " ".to_owned(),
        other => match sign(other) {
            Some("-") => "$-$".to_owned(),
            Some(sign) => format!("$\\{sign}$"),
            None if is_known(other) => other.to_string(),
            None => format!("[U+{:04X}]", u32::from(other)),
        },
    };
    text.chars().map(letter).collect()
}

/// The command of a sign or Greek letter.
fn sign(letter: char) -> Option<&'static str> {
    SIGNS.iter().find(|(known, _)| *known == letter).map(|(_, command)| *command)
}

/// Whether a letter is one that LaTeX knows in the encoding T1, in which Latin languages are set.
fn is_in_font(letter: char) -> bool {
    matches!(letter, '\u{a0}'..='\u{125}' | '\u{128}'..='\u{137}' | '\u{139}'..='\u{13e}' | '\u{141}'..='\u{148}'
        | '\u{14a}'..='\u{165}' | '\u{168}'..='\u{17e}' | '\u{218}'..='\u{21b}' | '\u{2010}'..='\u{2015}'
        | '\u{2018}'..='\u{201a}' | '\u{201c}'..='\u{201e}' | '\u{2020}'..='\u{2022}' | '…' | '‰' | '‹' | '›' | '€' | '№' | '™')
}

const SIGNS: [(char, &str); 76] = [
    ('α', "alpha"),
    ('β', "beta"),
    ('γ', "gamma"),
    ('δ', "delta"),
    ('ε', "epsilon"),
    ('ζ', "zeta"),
    ('η', "eta"),
    ('θ', "theta"),
    ('ι', "iota"),
    ('κ', "kappa"),
    ('λ', "lambda"),
    ('μ', "mu"),
    ('ν', "nu"),
    ('ξ', "xi"),
    ('ο', "mathrm{o}"),
    ('π', "pi"),
    ('ρ', "rho"),
    ('ς', "varsigma"),
    ('σ', "sigma"),
    ('τ', "tau"),
    ('υ', "upsilon"),
    ('φ', "varphi"),
    ('χ', "chi"),
    ('ψ', "psi"),
    ('ω', "omega"),
    ('Α', "mathrm{A}"),
    ('Β', "mathrm{B}"),
    ('Γ', "Gamma"),
    ('Δ', "Delta"),
    ('Ε', "mathrm{E}"),
    ('Ζ', "mathrm{Z}"),
    ('Η', "mathrm{H}"),
    ('Θ', "Theta"),
    ('Ι', "mathrm{I}"),
    ('Κ', "mathrm{K}"),
    ('Λ', "Lambda"),
    ('Μ', "mathrm{M}"),
    ('Ν', "mathrm{N}"),
    ('Ξ', "Xi"),
    ('Ο', "mathrm{O}"),
    ('Π', "Pi"),
    ('Ρ', "mathrm{P}"),
    ('Σ', "Sigma"),
    ('Τ', "mathrm{T}"),
    ('Υ', "Upsilon"),
    ('Φ', "Phi"),
    ('Χ', "mathrm{X}"),
    ('Ψ', "Psi"),
    ('Ω', "Omega"),
    ('ϵ', "epsilon"),
    ('ϑ', "vartheta"),
    ('ϕ', "phi"),
    ('ϖ', "varpi"),
    ('ϱ', "varrho"),
    ('µ', "mu"),
    ('−', "-"),
    ('×', "times"),
    ('≤', "leq"),
    ('≥', "geq"),
    ('≠', "neq"),
    ('≈', "approx"),
    ('∞', "infty"),
    ('∆', "Delta"),
    ('∇', "nabla"),
    ('∂', "partial"),
    ('√', "surd"),
    ('∈', "in"),
    ('∅', "emptyset"),
    ('←', "leftarrow"),
    ('↑', "uparrow"),
    ('→', "rightarrow"),
    ('↓', "downarrow"),
    ('⋅', "cdot"),
    ('∑', "sum"),
    ('∏', "prod"),
    ('ℓ', "ell"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_commands() {
        assert_eq!(escape("neft_5 & 50% −1"), "neft\\_5 \\& 50\\% $-$1");
        assert_eq!(escape("a\\b{c}"), "a\\textbackslash{}b\\{c\\}");
        assert_eq!(escape("a\n#1~^"), "a \\#1\\textasciitilde{}\\textasciicircum{}");
    }

    #[test]
    fn long_names_have_several_lines() {
        assert_eq!(name("neft_5"), "neft\\_5");
        let long = "noise_that_is_halved half way through training";
        let text = "noise\\_\\allowbreak{}that\\_\\allowbreak{}is\\_\\allowbreak{}halved half way through training";
        assert_eq!(name(long), format!("\\parbox[t]{{0.25\\textwidth}}{{\\raggedright {text}\\strut}}"));
    }

    #[test]
    fn letters_are_set_or_numbered() {
        assert_eq!(escape("α=λ Σ Ω"), "$\\alpha$=$\\lambda$ $\\Sigma$ $\\Omega$");
        assert_eq!(escape("Łódź ąðé"), "Łódź ąðé");
        assert_eq!(escape("中文 ж"), "[U+4E2D][U+6587] [U+0436]");
        assert!(is_known('σ') && !is_known('中') && !is_known('ж'));
    }
}
