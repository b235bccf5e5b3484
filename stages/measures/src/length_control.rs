//! AlpacaEval's length-controlled win rate: what the win rate would be if answers were as long as the reference's.
//!
//! A logistic model explains each preference by length, by how hard the instruction is, and by the model's own strength:
//!
//! P(model wins row i) = σ(w_t · tanh(dl_i / sd(dl)) + w_g · gamma_i + w_n · ng_i), dl = characters(output_1) − characters(output_2),
//!
//! fitted by min ‖w‖₁ + C · Σ s_i · CE(y_i, σ(·)) with y = preference − 1. The win rate is then predicted with dl = 0. Besides
//! the judged rows (s = 1, ng = 1) the fit sees 1,610 rows of two baselines that were told to be concise or verbose
//! (s = 0.1, ng = 0), which pin down the effect of length. Of their targets only two sums enter.
//!
//! C is a number, or is chosen by cross-validation as the public fit chooses it ([`Strength`]).
//!
//! What prompts leave open in the rate, the fit included, is told by a value for each of them ([`LengthControlled::pseudo_values`]).
//!
//! Source: Y. Dubois et al., "Length-Controlled AlpacaEval", arXiv 2404.04475; alpaca_eval 0.6.6, `length_controlled_v1`.

use crate::summary::{mean, standard_error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod fit;
mod influence;
mod official;
mod strength;

use fit::{FEATURES, Problem, Row};
use influence::Sample;
pub use official::DIFFICULTY_FILE;
pub use strength::Strength;

/// The strength of the data against the penalty that the public fit chose for most models.
pub const DEFAULT_C: f64 = 2.7826;

/// One judged pair. Preferences are 1 (`output_1`, the reference) to 2 (`output_2`, the model), lengths in characters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JudgedPair<'a> {
    /// The instruction, by which its difficulty is looked up.
    pub instruction: &'a str,
    /// Characters of the reference's output.
    pub length_1_characters: usize,
    /// Characters of the model's output.
    pub length_2_characters: usize,
    /// The preference; `None` where the judgement could not be read. Such a row is predicted but not fitted.
    pub preference: Option<f64>,
}

/// What is known about the instructions from other models, without which length and difficulty cannot be told apart.
#[derive(Clone, Debug, PartialEq)]
pub struct LengthControl {
    difficulty: BTreeMap<String, f64>,
    gamed: Gamed,
}

/// The rows of the baselines with forced length.
#[derive(Clone, Debug, Default, PartialEq)]
struct Gamed {
    /// tanh(standardised length difference) and difficulty of each row.
    features: Vec<[f64; 2]>,
    /// Σ tanh · y and Σ difficulty · y over the rows.
    sums_with_target: [f64; 2],
    /// y of each row, where the data tell it.
    targets: Option<Vec<f64>>,
    /// The weight of a row.
    weight: f64,
}

/// The form of `length_control.json`.
#[derive(Deserialize)]
struct LengthControlFile {
    instructions: Vec<String>,
    instruction_difficulty: Vec<f64>,
    gamed_tanh: Vec<Vec<f64>>,
    #[serde(rename = "T_gamed_sum_tanhlen_times_y")]
    sum_tanh_target: f64,
    #[serde(rename = "G_gamed_sum_difficulty_times_y")]
    sum_difficulty_target: f64,
    #[serde(default = "public_gamed_weight")]
    gamed_weight: f64,
}

/// 0.2, shared by two baselines.
fn public_gamed_weight() -> f64 {
    0.1
}

/// Why there is no length-controlled win rate.
#[derive(Debug, thiserror::Error)]
pub enum LengthControlError {
    /// The file is not of the documented form.
    #[error("the length-control file cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Its lists do not have one entry an instruction.
    #[error("the length-control file has {instructions} instructions but {entries} entries in `{list}`")]
    UnequalLists {
        /// Which list.
        list: &'static str,
        /// How many instructions there are.
        instructions: usize,
        /// How many entries the list has.
        entries: usize,
    },
    /// A table has not the documented columns, or a cell that is no number.
    #[error("{file}, line {line}: {what}")]
    Table {
        /// Which file.
        file: &'static str,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// None of the files is one that length control can use.
    #[error("none of the files is df_gamed.csv or a JSON file of instructions and difficulties")]
    NoFile,
    /// Difficulties without instructions belong to the rows of a whole set, in its order.
    #[error(
        "the length-control tables are for {known} prompts in the order of their set, and {pairs} pairs were judged"
    )]
    OtherCount {
        /// Difficulties.
        known: usize,
        /// Judged pairs.
        pairs: usize,
    },
    /// C cannot be chosen, since the data have only the sums of the gamed rows' targets.
    #[error("length_control.C: cv needs df_gamed.csv: the JSON form holds only sums over its rows")]
    NoTargets,
    /// An instruction stands twice in the file.
    #[error("the length-control file names this instruction twice: {0:?}")]
    DuplicateInstruction(String),
    /// A number of the file is not one that a fit can use.
    #[error("the length-control file holds a number in `{0}` that is out of range")]
    NotFinite(&'static str),
    /// Instructions of the judged pairs are not in the file.
    #[error(
        "{missing} of {pairs} judged instructions are not in the length-control file, the first is {first:?}; length control works for the prompts it was made for"
    )]
    UnknownInstructions {
        /// How many.
        missing: usize,
        /// Of how many.
        pairs: usize,
        /// The first of them.
        first: String,
    },
    /// No row has a preference that counts.
    #[error("none of the {0} judged pairs has a preference to fit")]
    NothingToFit(usize),
    /// All outputs have the same length difference, so there is no effect of length to control for.
    #[error(
        "the outputs of all {0} judged pairs differ in length by the same amount, so length cannot be controlled for"
    )]
    ConstantLength(usize),
    /// C is not a positive finite number.
    #[error("length_control.C is {0}, expected a positive number")]
    BadC(f64),
    /// The fit did not settle.
    #[error("the length-control fit did not converge in {0} steps; try a smaller C")]
    NotConverged(usize),
}

/// The coefficients of the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Of tanh of the standardised length difference: below 0 where the judge likes long answers.
    pub length: f64,
    /// Of the instruction's difficulty.
    pub difficulty: f64,
    /// Of the constant: the model's strength at equal length and average difficulty.
    pub model: f64,
}

/// The length-controlled figures of one model. Rates are percentages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthControlled {
    /// The win rate at equal length.
    pub length_controlled_winrate: f64,
    /// The standard error over prompts of the predicted rates, as AlpacaEval gives it: it leaves out that the fit is uncertain.
    /// `None` of a single prompt.
    pub lc_standard_error: Option<f64>,
    /// The strength of the data against the penalty, as given or as chosen.
    pub c: f64,
    /// The fitted coefficients.
    pub weights: Weights,
    /// The predicted share of a win at equal length for each pair, in their order, 0 to 1.
    pub predicted: Vec<f64>,
    /// What each pair contributes to the rate, as a share: the rate is their mean, and their spread is what the prompts leave
    /// open in it, the fit included. Differences of two models may be resampled by them.
    pub pseudo_values: Vec<f64>,
}

impl LengthControl {
    /// Reads a file of the form of `length_control.json`: instructions with difficulties, tanh features of the gamed rows
    /// (one list a baseline, in the order of the instructions) and the two sums with their targets.
    ///
    /// # Errors
    /// A file of another form, lists of unequal length, a repeated instruction, a number that is not finite.
    pub fn from_json(text: &str) -> Result<Self, LengthControlError> {
        let file: LengthControlFile = serde_json::from_str(text)?;
        file.check()?;
        let difficulties = file.instruction_difficulty;
        let with_difficulty = |tanh: &Vec<f64>| -> Vec<[f64; 2]> {
            tanh.iter().zip(&difficulties).map(|(&tanh, &difficulty)| [tanh, difficulty]).collect()
        };
        let gamed = Gamed {
            features: file.gamed_tanh.iter().flat_map(with_difficulty).collect(),
            sums_with_target: [file.sum_tanh_target, file.sum_difficulty_target],
            targets: None,
            weight: file.gamed_weight,
        };
        let difficulty = file.instructions.into_iter().zip(difficulties).collect();
        Ok(Self { difficulty, gamed })
    }

    /// Reads the one of these files (names and texts) that length control is in: the official `df_gamed.csv` (beside which
    /// `instruction_difficulty.csv` may stand), or a JSON file.
    ///
    /// The tables know instructions by their place in the set alone: `instructions` are those of all rows in its order.
    ///
    /// # Errors
    /// See [`LengthControlError`].
    pub fn from_files(files: &[(String, String)], instructions: &[&str]) -> Result<Self, LengthControlError> {
        let named = |wanted: &str| files.iter().find(|(name, _)| name.rsplit('/').next() == Some(wanted));
        if let Some((_, gamed)) = named(official::GAMED_FILE) {
            return official::read(
                gamed,
                named(official::DIFFICULTY_FILE).map(|(_, text)| text.as_str()),
                instructions,
            );
        }
        match files.iter().find(|(name, _)| name.ends_with(".json")) {
            Some((_, text)) => Self::from_json(text),
            None => Err(LengthControlError::NoFile),
        }
    }

    /// Difficulties of the pairs in their order.
    fn difficulties(&self, pairs: &[JudgedPair<'_>]) -> Result<Vec<f64>, LengthControlError> {
        let known = |pair: &JudgedPair<'_>| self.difficulty.get(pair.instruction).copied();
        let unknown: Vec<_> = pairs.iter().filter(|pair| known(pair).is_none()).collect();
        match unknown.first() {
            None => Ok(pairs.iter().filter_map(known).collect()),
            Some(first) => Err(LengthControlError::UnknownInstructions {
                missing: unknown.len(),
                pairs: pairs.len(),
                first: first.instruction.to_owned(),
            }),
        }
    }
}

impl LengthControlFile {
    fn check(&self) -> Result<(), LengthControlError> {
        let instructions = self.instructions.len();
        let lists = std::iter::once(("instruction_difficulty", &self.instruction_difficulty))
            .chain(self.gamed_tanh.iter().map(|list| ("gamed_tanh", list)));
        for (list, values) in lists {
            if values.len() != instructions {
                return Err(LengthControlError::UnequalLists { list, instructions, entries: values.len() });
            }
            if !values.iter().all(|value| value.is_finite()) {
                return Err(LengthControlError::NotFinite(list));
            }
        }
        if !(self.gamed_weight.is_finite() && self.gamed_weight >= 0.0) {
            return Err(LengthControlError::NotFinite("gamed_weight"));
        }
        let mut seen = std::collections::BTreeSet::new();
        match self.instructions.iter().find(|instruction| !seen.insert(*instruction)) {
            Some(twice) => Err(LengthControlError::DuplicateInstruction(twice.clone())),
            None => Ok(()),
        }
    }
}

/// The length-controlled win rate of AlpacaEval 2.
///
/// # Errors
/// See [`LengthControlError`].
pub fn length_controlled(
    pairs: &[JudgedPair<'_>],
    control: &LengthControl,
    strength: Strength,
) -> Result<LengthControlled, LengthControlError> {
    let difficulties = control.difficulties(pairs)?;
    fit_and_predict(pairs, &difficulties, &control.gamed, strength)
}

/// The same without knowledge of the instructions (AlpacaEval's `length_controlled_minimal`): length and the model's strength
/// alone. For prompts other than AlpacaEval's; not comparable with the leaderboard.
///
/// # Errors
/// See [`LengthControlError`].
pub fn length_controlled_minimal(
    pairs: &[JudgedPair<'_>],
    strength: Strength,
) -> Result<LengthControlled, LengthControlError> {
    let no_rows = Gamed { targets: Some(Vec::new()), ..Gamed::default() };
    fit_and_predict(pairs, &vec![0.0; pairs.len()], &no_rows, strength)
}

fn fit_and_predict(
    pairs: &[JudgedPair<'_>],
    difficulties: &[f64],
    gamed: &Gamed,
    strength: Strength,
) -> Result<LengthControlled, LengthControlError> {
    let sample = Sample::new(pairs, difficulties)?;
    let judged: Vec<([f64; FEATURES], f64)> = sample.judged().collect();
    if judged.is_empty() {
        return Err(LengthControlError::NothingToFit(pairs.len()));
    }
    let c = match strength {
        Strength::Fixed(c) if c.is_finite() && c > 0.0 => c,
        Strength::Fixed(c) => return Err(LengthControlError::BadC(c)),
        Strength::CrossValidated => strength::choose(gamed, &judged)?,
    };
    let mut problem = gamed.problem(c);
    judged.iter().for_each(|&(features, share)| problem.add_row(features, 1.0, share));
    let w = fit::minimise(&problem, fit::SEEDS[0])?;
    let [length, difficulty, model] = w;
    let figures = predict(Weights { length, difficulty, model }, difficulties, c);
    let pseudo_values = sample.pseudo_values(&problem, w, &figures.predicted);
    Ok(LengthControlled { pseudo_values, ..figures })
}

impl Gamed {
    /// The fit's problem before any judged row.
    fn problem(&self, c: f64) -> Problem {
        let row = |&[length, difficulty]: &[f64; 2]| Row { features: [length, difficulty, 0.0], weight: self.weight };
        let [length, difficulty] = self.sums_with_target.map(|sum| self.weight * sum);
        Problem {
            rows: self.features.iter().map(row).collect(),
            linear: [length, difficulty, 0.0],
            c,
            class_sizes: self.class_sizes(),
        }
    }

    /// Where targets are not known, they are taken not to be quite certain, as those of a weighted judge are.
    fn class_sizes(&self) -> [usize; 2] {
        let count = |counts: fn(f64) -> bool| match &self.targets {
            Some(targets) => targets.iter().filter(|&&target| counts(target)).count(),
            None => self.features.len(),
        };
        [count(|target| target > 0.0), count(|target| target < 1.0)]
    }
}

impl Problem {
    fn add_row(&mut self, features: [f64; FEATURES], weight: f64, target: f64) {
        self.rows.push(Row { features, weight });
        (0..FEATURES).for_each(|k| self.linear[k] += weight * target * features[k]);
        self.class_sizes[0] += usize::from(target > 0.0);
        self.class_sizes[1] += usize::from(target < 1.0);
    }
}

fn predict(weights: Weights, difficulties: &[f64], c: f64) -> LengthControlled {
    let logits = difficulties.iter().map(|difficulty| weights.model + weights.difficulty * difficulty);
    let predicted: Vec<f64> = logits.map(fit::sigmoid).collect();
    LengthControlled {
        length_controlled_winrate: 100.0 * mean(&predicted).expect("a fit has rows"),
        lc_standard_error: standard_error(&predicted).map(|error| 100.0 * error),
        c,
        weights,
        predicted,
        pseudo_values: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
