//! The two splits: which rows each has, their tokens, and the prompts made of their groups.

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{DatasetRow, PromptRow, SplitInfo};
use neftpipe_protocol::worker::Job;

use super::encode::{Encoder, Tokens};
use super::holdout::Holdout;
use super::prompts::{Groups, choose, group, prompt};
use super::question::Question;
use super::sift::{Dropped, NO_TRAINED_TOKEN, Row, count};

/// Both splits of a dataset.
#[derive(Debug)]
pub struct Splits<'a> {
    /// Rows to train on.
    pub train: Split<'a>,
    /// Rows kept out of training.
    pub heldout: Split<'a>,
    holdout: Holdout,
}

/// One split.
#[derive(Debug, Default)]
pub struct Split<'a> {
    /// Its rows as tokens.
    pub tokens: Tokens,
    /// The rows that became tokens.
    kept: Vec<&'a DatasetRow>,
    /// All rows that the hash put here, also those without a trained token within the longest length.
    all: Vec<&'a DatasetRow>,
}

impl<'a> Splits<'a> {
    /// Encodes all rows, each into its split. `None` where the worker was asked to stop.
    ///
    /// # Errors
    /// Where a row does not fit the template.
    pub fn encode(
        job: &Job,
        encoder: &Encoder,
        rows: &'a [Row],
        holdout: Holdout,
        dropped: &mut Dropped,
    ) -> Result<Option<Self>, Failure> {
        let mut splits = Self { train: Split::default(), heldout: Split::default(), holdout };
        let encoded = encoder.encode(job, rows, |index, encoded| {
            let row = &rows[index].content;
            let held_out = holdout.holds_out(Question::of(row));
            let split = if held_out { &mut splits.heldout } else { &mut splits.train };
            split.all.push(row);
            split.tokens.info.split_conversations += u64::from(encoded.len() > 1);
            let mut is_kept = false;
            for part in encoded {
                match split.tokens.push(part, encoder.max_length_tokens) {
                    true => is_kept = true,
                    false => count(dropped, NO_TRAINED_TOKEN),
                }
            }
            split.kept.extend(is_kept.then_some(row));
        })?;
        Ok(encoded.map(|()| splits))
    }

    /// The prompts of all groups held out. They depend on the dataset and the split alone.
    pub fn heldout_prompts(&self) -> Vec<PromptRow> {
        group(&self.heldout.all).iter().map(|(question, rows)| prompt(question, rows)).collect()
    }

    /// Prompts of so many groups that are trained on.
    pub fn trained_prompts(&self, number: u64) -> Vec<PromptRow> {
        choose(&self.train.groups(), number as usize, |question| self.holdout.rank(question))
    }
}

impl<'a> Split<'a> {
    /// Groups of the rows that became tokens.
    fn groups(&self) -> Groups<'a> {
        group(&self.kept)
    }

    /// All counts.
    pub fn info(&self) -> SplitInfo {
        SplitInfo { groups: self.groups().len() as u64, ..self.tokens.info.clone() }
    }
}
