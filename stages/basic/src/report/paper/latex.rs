//! The table for LaTeX with booktabs: compared measures with their differences, then what is described only.

use crate::report::file::ReportFile;
use crate::report::table::{Cell, Heading, Table};
use neftpipe_measures::comparison::Finding;

/// The tables of all columns as one file to be included.
pub fn latex(report: &ReportFile<'_>, tables: &[(String, Table)]) -> String {
    let mut text = "% Needs \\usepackage{booktabs}.\n".to_owned();
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
    let names = heading(|heading| heading.text.clone());
    let units = heading(|heading| if heading.unit.is_empty() { String::new() } else { format!("({})", heading.unit) });
    let mut text = format!(
        "\n\\begin{{table*}}\n\\centering\n\\small\n\\caption{{{}}}\n\\label{{tab:arms-{number}}}\n\\begin{{tabular}}{{l{}}}\n\\toprule\nArm{names} \\\\\n{units} \\\\\n\\midrule\n",
        caption(report, column, table, chosen),
        "r".repeat(chosen.len()),
    );
    for row in &table.rows {
        let cells: Vec<Option<&Cell>> = chosen.iter().map(|&at| row.cells[at].as_ref()).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let means: String = cells.iter().map(|cell| format!(" & {}", cell.map_or("--".to_owned(), mean))).collect();
        text.push_str(&format!("{}{means} \\\\\n", escape(&row.arm)));
        if cells.iter().flatten().any(|cell| cell.finding.is_some()) {
            let differences: String =
                cells.iter().map(|cell| format!(" & {}", cell.map_or(String::new(), difference))).collect();
            text.push_str(&format!("{differences} \\\\\n"));
        }
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n\\end{table*}\n");
    text
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

fn difference(cell: &Cell) -> String {
    let found = cell.difference.as_ref().filter(|_| cell.finding.is_some());
    found.map_or(String::new(), |text| format!("{{\\scriptsize {}}}", escape(text)))
}

/// A text with what LaTeX would read as a command.
fn escape(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\\' => "\\textbackslash{}".to_owned(),
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{letter}"),
        '~' => "\\textasciitilde{}".to_owned(),
        '^' => "\\textasciicircum{}".to_owned(),
        '−' => "$-$".to_owned(),
        '×' => "$\\times$".to_owned(),
        'α' => "$\\alpha$".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_commands() {
        assert_eq!(escape("neft_5 & 50% −1"), "neft\\_5 \\& 50\\% $-$1");
        assert_eq!(escape("a\\b{c}"), "a\\textbackslash{}b\\{c\\}");
    }
}
