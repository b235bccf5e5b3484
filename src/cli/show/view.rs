//! What can be seen of an artifact of each type: figures, and lines for people.
//!
//! It reads files of one folder and nothing else, so that it serves the store and any folder or file alike.

use std::fs;
use std::path::Path;

use indexmap::IndexMap;
use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{DatasetRow, Metrics, PromptRow, SplitInfo, TokensInfo};
use neftpipe_protocol::worker::io_failure;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answers;
use crate::cli::safetensors::{self, TensorHeader};
use crate::ui::leaves::leaves;
use crate::ui::printer::{DIM, GOOD, HEADING, styled};
use crate::ui::table::{cell, clip, table};

/// Rows that are shown where nobody asked for more.
pub(super) const ROWS: usize = 5;

/// What can be seen of an artifact.
#[derive(Debug, Default)]
pub struct View {
    /// Figures by name.
    pub figures: Metrics,
    /// Lines for people.
    pub text: String,
}

impl View {
    pub(super) fn push(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.push(format!("\n{}", styled(HEADING, text)));
    }

    /// Says how many there are beyond those that were shown.
    pub(super) fn more(&mut self, all: usize, shown: usize, what: &str) {
        if all > shown {
            self.push(styled(DIM, format!("  … {} more {what}", all - shown)));
        }
    }
}

/// Looks at the artifact in a folder.
///
/// # Errors
/// Where a file that its type promises is absent or not what it should be.
pub fn view(artifact: ArtifactType, dir: &Path) -> Result<View, Failure> {
    match artifact {
        ArtifactType::Model => model(dir),
        ArtifactType::Dataset => dataset(dir),
        ArtifactType::Prompts => prompts(dir),
        ArtifactType::Tokens => tokens(dir),
        ArtifactType::Adapter => adapter(dir),
        ArtifactType::Answers => answers::view(&dir.join("answers.json")),
        ArtifactType::Verdict => verdict(dir),
        ArtifactType::Report => report(dir),
        ArtifactType::Files => Ok(View::default()),
    }
}

fn model(dir: &Path) -> Result<View, Failure> {
    let mut view = View::default();
    let config: Value = json(&dir.join("config.json"))?;
    let names =
        ["model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size"];
    for name in names.into_iter().chain(["max_position_embeddings", "tie_word_embeddings"]) {
        if let Some(value) = config.get(name) {
            view.figures.insert(name.to_owned(), value.clone());
        }
    }
    let tensors = tensors(dir)?;
    let parameters: u64 = tensors.values().map(|tensor| tensor.shape.iter().product::<u64>()).sum();
    view.figures.insert("parameters".to_owned(), parameters.into());
    view.figures.insert("tensors".to_owned(), tensors.len().into());
    view.text = figures_table(&view.figures);
    view.heading("Tensors");
    let shown = tensors.iter().take(2 * ROWS);
    let rows: Vec<_> =
        shown.map(|(name, tensor)| vec![name.clone(), tensor.dtype.clone(), format!("{:?}", tensor.shape)]).collect();
    view.push(table(&["name", "dtype", "shape"].map(String::from), &rows));
    view.more(tensors.len(), 2 * ROWS, "tensors");
    Ok(view)
}

/// Headers of all safetensors files of a folder, sorted by tensor name.
fn tensors(dir: &Path) -> Result<IndexMap<String, TensorHeader>, Failure> {
    let mut tensors: IndexMap<String, TensorHeader> = IndexMap::new();
    let entries = fs::read_dir(dir).map_err(|error| io_failure("read", dir, &error))?;
    let mut files: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    for file in files {
        tensors.extend(safetensors::header(&file)?.tensors);
    }
    tensors.sort_keys();
    Ok(tensors)
}

fn dataset(dir: &Path) -> Result<View, Failure> {
    let mut view = View { figures: json(&dir.join("dataset.json"))?, text: String::new() };
    let rows: Vec<DatasetRow> = lines(&dir.join("rows.jsonl"), usize::MAX)?;
    view.figures.extend(dataset_figures(&rows));
    view.text = figures_table(&view.figures);
    view.heading("First rows");
    for row in rows.iter().take(ROWS) {
        match row {
            DatasetRow::Instruction { instruction, input, output } => {
                let asked = [instruction.as_str(), input.as_str()].join(" ");
                view.push(format!("  {}\n    {}", clip(&asked, 100), styled(GOOD, clip(output, 100))));
            }
            DatasetRow::Conversation { messages } => {
                for message in messages.iter().take(ROWS) {
                    view.push(format!("  {} {}", styled(DIM, &message.role), clip(&message.content, 100)));
                }
            }
        }
    }
    Ok(view)
}

/// Lengths in characters: of what is asked, and of what is answered, in one row.
fn dataset_figures(rows: &[DatasetRow]) -> Metrics {
    let (mut asked, mut answered, mut turns) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        match row {
            DatasetRow::Instruction { instruction, input, output } => {
                asked.push(instruction.chars().count() + input.chars().count());
                answered.push(output.chars().count());
            }
            DatasetRow::Conversation { messages } => {
                let of = |role: &str| -> usize {
                    let said = messages.iter().filter(|message| message.role == role);
                    said.map(|message| message.content.chars().count()).sum()
                };
                asked.push(of("user"));
                answered.push(of("assistant"));
                turns += messages.len();
            }
        }
    }
    let mean = |lengths: &[usize]| lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
    let longest = |lengths: &[usize]| lengths.iter().max().copied().unwrap_or(0);
    let with_input =
        rows.iter().filter(|row| matches!(row, DatasetRow::Instruction { input, .. } if !input.is_empty()));
    let mut figures: Vec<(&str, Value)> = vec![
        ("mean_asked_characters", mean(&asked).into()),
        ("longest_asked_characters", longest(&asked).into()),
        ("mean_answered_characters", mean(&answered).into()),
        ("longest_answered_characters", longest(&answered).into()),
    ];
    match turns {
        0 => figures.push(("with_input", with_input.count().into())),
        _ => figures.push(("mean_turns", (turns as f64 / rows.len() as f64).into())),
    }
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn prompts(dir: &Path) -> Result<View, Failure> {
    let file = dir.join("prompts.jsonl");
    let rows: Vec<PromptRow> = lines(&file, usize::MAX)?;
    let mut view = View::default();
    view.figures.insert("prompts".to_owned(), rows.len().into());
    let referenced = rows.iter().filter(|row| !row.reference.is_empty()).count();
    view.figures.insert("with_reference".to_owned(), referenced.into());
    view.text = figures_table(&view.figures);
    view.heading("First prompts");
    for row in rows.iter().take(ROWS) {
        let asked = [row.instruction.as_str(), row.input.as_str()].join(" ");
        view.push(format!("  {}", clip(&asked, 100)));
        for reference in row.reference.iter().take(2) {
            view.push(format!("    {}", styled(GOOD, clip(reference, 100))));
        }
    }
    view.more(rows.len(), ROWS, "prompts");
    Ok(view)
}

/// A stretch of a rendered row.
#[derive(Deserialize)]
struct Piece {
    text: String,
    trained: bool,
}

fn tokens(dir: &Path) -> Result<View, Failure> {
    let info: TokensInfo = json(&dir.join("tokens.json"))?;
    let mut view = View::default();
    for (name, split) in [("train", &info.train), ("heldout", &info.heldout)] {
        let counts = serde_json::to_value(split).expect("counts serialise");
        for (count, value) in counts.as_object().into_iter().flatten() {
            view.figures.insert(format!("{name}.{count}"), value.clone());
        }
    }
    info.dropped.iter().for_each(|(reason, count)| {
        view.figures.insert(format!("dropped.{reason}"), (*count).into());
    });
    view.text = figures_table(&view.figures);
    view.heading("Lengths in tokens");
    view.push(lengths_table(&info));
    let preview = dir.join("preview.jsonl");
    if preview.exists() {
        view.heading("First rows (what is trained on is coloured)");
        for row in lines::<Vec<Piece>>(&preview, ROWS)? {
            let text: String = row
                .iter()
                .map(|piece| styled(if piece.trained { GOOD } else { DIM }, piece.text.replace('\n', "⏎")))
                .collect();
            view.push(format!("  {text}"));
        }
    }
    Ok(view)
}

/// How long rows are, before and after they were cut at the longest length.
fn lengths_table(info: &TokensInfo) -> String {
    let heading = ["split", "rows", "mean", "longest", "longest before the cut", "rows cut"].map(str::to_owned);
    let row = |(name, split): (&str, &SplitInfo)| {
        let mean = split.tokens as f64 / split.rows.max(1) as f64;
        let longest = split.longest_tokens.min(info.max_length_tokens);
        let counts = [split.rows, longest, split.longest_tokens, split.truncated_rows].map(|count| count.to_string());
        let [rows, longest, before, cut] = counts;
        vec![name.to_owned(), rows, format!("{mean:.1}"), longest, before, cut]
    };
    table(&heading, &[("train", &info.train), ("heldout", &info.heldout)].map(row))
}

fn adapter(dir: &Path) -> Result<View, Failure> {
    let mut view = View { figures: json(&dir.join("metrics.json"))?, text: String::new() };
    let config: Value = json(&dir.join("adapter_config.json"))?;
    for name in ["r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules"] {
        if let Some(value) = config.get(name) {
            view.figures.insert(name.to_owned(), value.clone());
        }
    }
    let plain: Metrics =
        view.figures.iter().filter(|(_, value)| !value.is_array()).map(|(k, v)| (k.clone(), v.clone())).collect();
    view.text = figures_table(&plain);
    let steps = dir.join("steps.jsonl");
    if steps.exists() {
        let steps: Vec<Metrics> = lines(&steps, usize::MAX)?;
        view.heading("Steps");
        view.push(steps_table(&steps));
    }
    Ok(view)
}

/// At most a dozen steps, evenly spread, the last among them.
fn steps_table(steps: &[Metrics]) -> String {
    let Some(first) = steps.first() else { return String::new() };
    let heading: Vec<String> = first.keys().cloned().collect();
    let stride = steps.len().div_ceil(12).max(1);
    let chosen = steps.iter().enumerate().filter(|(at, _)| at % stride == 0 || at + 1 == steps.len());
    let rows: Vec<Vec<String>> = chosen
        .map(|(_, step)| heading.iter().map(|name| step.get(name).map_or(String::new(), cell)).collect())
        .collect();
    table(&heading, &rows)
}

fn verdict(dir: &Path) -> Result<View, Failure> {
    let verdict: Value = json(&dir.join("verdict.json"))?;
    let figures = leaves(&verdict).into_iter().filter(|(_, value)| !value.is_array()).collect();
    Ok(View { text: figures_table(&figures), figures })
}

fn report(dir: &Path) -> Result<View, Failure> {
    let page = dir.join("index.html");
    fs::metadata(&page).map_err(|error| io_failure("read", &page, &error))?;
    let mut view = View::default();
    view.push(format!("open {}", page.display()));
    Ok(view)
}

/// Figures as two columns.
pub fn figures_table(figures: &Metrics) -> String {
    let width = figures.keys().map(String::len).max().unwrap_or(0);
    figures.iter().map(|(name, value)| format!("  {name:<width$}  {}\n", cell(value))).collect()
}

/// A JSON file of an artifact.
pub(in crate::cli) fn json<T: DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    let bytes = fs::read(file).map_err(|error| io_failure("read", file, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(file, &error))
}

/// The first lines of a file of JSON lines.
pub(in crate::cli) fn lines<T: DeserializeOwned>(file: &Path, limit: usize) -> Result<Vec<T>, Failure> {
    use std::io::BufRead;
    let reader = fs::File::open(file).map_err(|error| io_failure("read", file, &error))?;
    let rows = std::io::BufReader::new(reader).lines().take(limit).map(|line| {
        let line = line.map_err(|error| io_failure("read", file, &error))?;
        serde_json::from_str(&line).map_err(|error| malformed(file, &error))
    });
    rows.collect()
}

fn malformed(file: &Path, error: &serde_json::Error) -> Failure {
    Failure::data(format!("{}: {error}", file.display()))
}
