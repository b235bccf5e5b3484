//! Rows to token ids with a loss mask, on all cores, cut at the longest length; conversations are split at turns first.
//!
//! How a row is cut into pieces and encoded is the business of `neftpipe-text`: a prompt has the same tokens here as in
//! generation, because each piece is encoded by itself, as the public recipes for the Alpaca prompt do.

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{DatasetRow, SplitInfo};
use neftpipe_protocol::worker::Job;
use neftpipe_text::{Encoded, Renderer, TextError, Tokenizer};
use rayon::prelude::*;

use super::sift::Row;
use super::turns;

/// Rows between two words about progress, and between two looks at whether to stop.
const CHUNK_ROWS: usize = 1024;

/// What encodes a row.
pub struct Encoder<'a> {
    /// Text to tokens.
    pub tokenizer: &'a Tokenizer,
    /// Row to text.
    pub renderer: &'a Renderer,
    /// Longest row.
    pub max_length_tokens: usize,
}

/// The rows of one split, flat: row `i` is `ids[offsets[i]..offsets[i + 1]]`.
#[derive(Debug)]
pub struct Tokens {
    /// Token ids of all rows, one after the other.
    pub ids: Vec<u32>,
    /// For each token, whether it carries loss.
    pub trained: Vec<bool>,
    /// Where each row begins, and where the last one ends.
    pub offsets: Vec<usize>,
    /// Counts, all but the groups.
    pub info: SplitInfo,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { ids: Vec::new(), trained: Vec::new(), offsets: vec![0], info: SplitInfo::default() }
    }
}

impl Tokens {
    /// Ids and loss mask of one row.
    pub fn row(&self, index: usize) -> (&[u32], &[bool]) {
        let range = self.offsets[index]..self.offsets[index + 1];
        (&self.ids[range.clone()], &self.trained[range])
    }

    /// Appends a row, cut at the longest length; says whether it was kept, which it is not where no trained token is left.
    pub fn push(&mut self, row: &Encoded, max_length_tokens: usize) -> bool {
        let kept = row.ids.len().min(max_length_tokens);
        let trained = &row.trained[..kept];
        self.info.longest_tokens = self.info.longest_tokens.max(row.ids.len() as u64);
        if !trained.contains(&true) {
            return false;
        }
        self.ids.extend(&row.ids[..kept]);
        self.trained.extend(trained);
        self.offsets.push(self.ids.len());
        self.info.rows += 1;
        self.info.tokens += kept as u64;
        self.info.trained_tokens += trained.iter().filter(|&&flag| flag).count() as u64;
        self.info.truncated_rows += u64::from(kept < row.ids.len());
        true
    }
}

impl Encoder<'_> {
    /// Encodes all rows and hands each to `take`, in order: a row, or the parts of a conversation that is too long for one.
    /// `None` where the worker was asked to stop.
    ///
    /// # Errors
    /// Where a row does not fit the template; its line is named.
    pub fn encode(
        &self,
        job: &Job,
        rows: &[Row],
        mut take: impl FnMut(usize, &[Encoded]),
    ) -> Result<Option<()>, Failure> {
        let total = rows.len() as u64;
        let mut done = 0;
        for chunk in rows.chunks(CHUNK_ROWS) {
            if job.should_stop() {
                return Ok(None);
            }
            let encoded: Vec<_> = chunk.par_iter().map(|row| self.row(row)).collect::<Result<_, _>>()?;
            encoded.iter().enumerate().for_each(|(index, row)| take(done + index, row));
            done += chunk.len();
            job.progress(done as u64, Some(total), "rows", None);
        }
        Ok(Some(()))
    }

    fn row(&self, row: &Row) -> Result<Vec<Encoded>, Failure> {
        self.parts(&row.content).map_err(|error| at_row(row.line, error))
    }

    fn parts(&self, row: &DatasetRow) -> Result<Vec<Encoded>, TextError> {
        let encode = |row: &DatasetRow| self.renderer.row(row).and_then(|pieces| self.tokenizer.encode_pieces(&pieces));
        let fits = |encoded: &Encoded| encoded.ids.len() <= self.max_length_tokens;
        let whole = encode(row)?;
        match row {
            DatasetRow::Conversation { messages } if !fits(&whole) => {
                turns::split(messages, |messages| encode(&DatasetRow::Conversation { messages }), fits)
            }
            _ => Ok(vec![whole]),
        }
    }
}

fn at_row(line: usize, error: TextError) -> Failure {
    let failure = Failure::from(error);
    Failure { message: format!("row {line} of the dataset: {}", failure.message), ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_counted_and_left_out_without_a_trained_token() {
        let row = Encoded { ids: vec![5, 6, 7, 8], trained: vec![false, false, true, true] };
        let mut tokens = Tokens::default();
        assert!(tokens.push(&row, 4));
        assert!(tokens.push(&row, 3));
        assert!(!tokens.push(&row, 2));
        assert_eq!(tokens.row(1), (&[5, 6, 7][..], &[false, false, true][..]));
        assert_eq!(tokens.offsets, [0, 4, 7]);
        let expected = SplitInfo {
            rows: 2,
            tokens: 7,
            trained_tokens: 3,
            truncated_rows: 1,
            longest_tokens: 4,
            ..SplitInfo::default()
        };
        assert_eq!(tokens.info, expected);
    }
}
