//! The report as Markdown: what was found in sentences, what must be borne in mind, the tables and the figures.

use std::fmt::Write;

use crate::report::figures::Figure;
use crate::report::file::ReportFile;
use crate::report::place::column_name;
use crate::report::sentences::what_stands_out;
use crate::report::statistics::Differences;
use crate::report::table::{Cell, Heading, Table};

use super::figures::Drawn;

/// The whole file.
pub fn markdown(
    report: &ReportFile<'_>,
    figures: &[(Figure, Differences)],
    tables: &[(String, Table)],
    drawn: &[Drawn],
) -> String {
    let mut text = format!("# {}\n\n## Findings\n", escape(report.title));
    if figures.iter().all(|(_, found)| found.by_arm.is_empty()) {
        text += "\nNothing is compared.\n";
    }
    for (figure, found) in figures.iter().filter(|(_, found)| !found.by_arm.is_empty()) {
        let column = column_name(&figure.column, report.axes);
        let column = if column.is_empty() { String::new() } else { format!(" ({column})") };
        _ = write!(text, "\n**{}{}**\n\n", escape(&figure.title), escape(&column));
        for (arm, difference) in found.by_arm.iter().chain(&found.interactions) {
            _ = writeln!(text, "- {}: {}.", escape(arm), escape(&difference.sentence));
        }
    }
    list(&mut text, "At equal length", report.at_equal_length.iter().cloned());
    list(&mut text, "To be read with", report.notes.iter().cloned().chain(cautions(report)));
    list(
        &mut text,
        "Answers that need a look",
        report
            .screening
            .iter()
            .map(|file| format!("{}, {} answers: {}", file.stage, file.n, what_stands_out(&file.screening).join("; "))),
    );
    for (column, table) in tables {
        text.push_str(&of_table(column, table));
    }
    if figures.iter().any(|(_, found)| !found.by_arm.is_empty()) {
        text.push_str(
            "\nMeans over runs; below them the difference from the baseline with its interval, over the prompts and seeds that \
             both have.\n",
        );
    }
    text.push_str("\n## Figures\n");
    for figure in drawn {
        _ = write!(
            text,
            "\n![{0}](figures/{1}.svg)\n\n{0} ([PDF](figures/{1}.pdf), [data](figures/{1}.csv)).\n",
            escape(&figure.caption),
            figure.name
        );
    }
    text.push_str("\nEvery setting and digest stands in [methods.txt](methods.txt), every figure unrounded in [report.json](report.json).\n");
    text
}

fn cautions(report: &ReportFile<'_>) -> impl Iterator<Item = String> {
    let cautions = report.judgements.iter().filter_map(|file| file.judgement.caution.clone());
    cautions.collect::<indexmap::IndexSet<_>>().into_iter()
}

fn list(text: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.map(|item| format!("- {}\n", escape(&item))).collect();
    if !items.is_empty() {
        _ = write!(text, "\n## {title}\n\n{}", items.concat());
    }
}

fn of_table(column: &str, table: &Table) -> String {
    let title = if column.is_empty() { "All arms".to_owned() } else { format!("All arms, {}", escape(column)) };
    let heading = |heading: &Heading| {
        let unit = if heading.unit.is_empty() { String::new() } else { format!(" ({})", heading.unit) };
        format!(" {}{unit} |", escape(&heading.text))
    };
    let headings: String = table.headings.iter().map(heading).collect();
    let mut text = format!("\n## {title}\n\n| Arm |{headings}\n|---|{}\n", "---:|".repeat(table.headings.len()));
    for row in &table.rows {
        let cells: String =
            row.cells.iter().map(|cell| format!(" {} |", cell.as_ref().map_or("–".to_owned(), of_cell))).collect();
        let baseline = if row.is_baseline { " (baseline)" } else { "" };
        _ = writeln!(text, "| {}{baseline} |{cells}", escape(&row.arm));
    }
    text
}

fn of_cell(cell: &Cell) -> String {
    let difference = cell.difference.as_ref().map_or(String::new(), |text| format!("<br>{}", escape(text)));
    format!("{}{difference}", cell.text)
}

/// A text that is no markup.
fn escape(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\\' | '`' | '*' | '_' | '|' | '<' | '[' => format!("\\{letter}"),
        '\n' | '\r' => " ".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(letter).collect()
}
