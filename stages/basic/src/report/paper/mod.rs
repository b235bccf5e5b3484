//! What stands beside the page for a paper: figures as SVG and PDF with their data, the table as LaTeX, Markdown and CSV, and
//! the methods. All of it says what the page says; nothing is computed here.

mod axis;
mod canvas;
mod csv;
mod figures;
mod font;
mod forest;
mod latex;
mod markdown;
mod methods;
mod pdf;
mod plot;
mod style;
mod svg;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;

use super::figures::Figure;
use super::file::ReportFile;
use super::statistics::Differences;
use super::table::{Table, columns, table};

/// Writes the files into the folder of the report; the letters that PDF figures or LaTeX lack.
///
/// # Errors
/// Where nothing can be written.
pub fn write(
    out: &Path,
    report: &ReportFile<'_>,
    figures: &[(Figure, Differences)],
) -> Result<BTreeSet<char>, Failure> {
    let tables: Vec<(String, Table)> =
        columns(report, figures).into_iter().map(|(name, members)| (name, table(report, figures, &members))).collect();
    let drawn = figures::figures(report, figures);
    let folder = out.join("figures");
    fs::create_dir_all(&folder).map_err(|error| io_failure("make", &folder, &error))?;
    for figure in &drawn {
        let file = |ending: &str| folder.join(format!("{}.{ending}", figure.name));
        save(&file("svg"), svg::svg(&figure.canvas))?;
        save(&file("pdf"), pdf::pdf(&figure.canvas))?;
        save(&file("csv"), csv::write(&figure.data))?;
    }
    save(&out.join("report.csv"), csv::write(&csv::rows(report)))?;
    save(&out.join("report.md"), markdown::markdown(report, figures, &tables, &drawn))?;
    save(&out.join("table.tex"), latex::latex(report, &tables))?;
    save(&out.join("methods.txt"), methods::methods(report))?;
    Ok(lacking(report, &tables))
}

/// Letters of the names that stand in figures and tables which one of them cannot show.
fn lacking(report: &ReportFile<'_>, tables: &[(String, Table)]) -> BTreeSet<char> {
    let arms = report.arms.iter().map(|arm| arm.name.as_str());
    let names = arms.chain(tables.iter().map(|(column, _)| column.as_str())).chain([report.title]);
    let is_lacking = |letter: &char| !(font::is_known(*letter) && latex::is_known(*letter));
    names.flat_map(str::chars).filter(|letter| !letter.is_control()).filter(is_lacking).collect()
}

fn save(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| io_failure("write", path, &error))
}
