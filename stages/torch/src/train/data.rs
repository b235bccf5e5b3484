//! The rows of a `tokens` artifact, checked against the model before anything is computed.

use std::path::{Path, PathBuf};

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::TokensInfo;
use neftpipe_protocol::random::RandomStream;
use neftpipe_protocol::worker::io_failure;
use tch::Tensor;

use crate::model::LlamaConfig;
use crate::tensor_file::{TensorFile, TensorFileError};

/// Rows of a tokenised split.
pub struct Split {
    ids: Vec<i32>,
    trained: Vec<u8>,
    offsets: Vec<usize>,
}

/// One row: its tokens, and which of them carry loss.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Token ids.
    pub ids: &'a [i32],
    trained: &'a [u8],
}

impl<'a> Row<'a> {
    /// A row of which nothing is learnt.
    #[cfg(test)]
    pub fn of(ids: &'a [i32]) -> Self {
        Self { ids, trained: &[] }
    }

    /// Places of the tokens that are learnt; each is predicted at the place before it, so the first never is.
    pub fn targets(&self) -> impl Iterator<Item = usize> + '_ {
        (1..self.ids.len()).filter(|&place| self.trained[place] != 0)
    }
}

impl Split {
    /// Reads `train.safetensors` or `heldout.safetensors`.
    ///
    /// # Errors
    /// Where the file is damaged, a token is not in the model's vocabulary, or a row is longer than the model's window.
    pub fn load(path: &Path, model: &LlamaConfig) -> Result<Self, Failure> {
        let file = TensorFile::open(path)?;
        let ids: Vec<i32> = values(&file, "input_ids")?;
        let trained: Vec<u8> = values(&file, "trained")?;
        let offsets: Vec<i64> = values(&file, "offsets")?;
        let split = Self { ids, trained, offsets: offsets.iter().map(|&offset| offset as usize).collect() };
        split.check(path, model)?;
        Ok(split)
    }

    /// Rows of these lengths of random tokens, of which the second half carries loss.
    pub fn random(row_tokens: &[u64], vocabulary: i64, seed: u64) -> Self {
        let mut split = Self { ids: Vec::new(), trained: Vec::new(), offsets: vec![0] };
        for (row, &tokens) in row_tokens.iter().enumerate() {
            let mut stream = RandomStream::new("trial rows", seed, &[row as u64]);
            split.ids.extend((0..tokens).map(|_| stream.below(vocabulary as u64) as i32));
            split.trained.extend((0..tokens).map(|place| u8::from(2 * place >= tokens)));
            split.offsets.push(split.ids.len());
        }
        split
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Tokens of every row.
    pub fn lengths(&self) -> Vec<u64> {
        self.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row.
    pub fn row(&self, index: usize) -> Row<'_> {
        let range = self.offsets[index]..self.offsets[index + 1];
        Row { ids: &self.ids[range.clone()], trained: &self.trained[range] }
    }

    /// Refuses a row that teaches nothing: a step of such rows would divide by zero.
    ///
    /// # Errors
    /// The first such row.
    pub fn check_every_row_teaches(&self) -> Result<(), Failure> {
        match (0..self.len()).find(|&index| self.row(index).targets().next().is_none()) {
            Some(index) => Err(Failure::data(format!("train.safetensors: row {index} has no token that carries loss"))),
            None => Ok(()),
        }
    }

    fn check(&self, path: &Path, model: &LlamaConfig) -> Result<(), Failure> {
        let path = path.display();
        let ordered = self.offsets.windows(2).all(|pair| pair[0] < pair[1]);
        let ends = (self.offsets.first(), self.offsets.last());
        if !ordered || ends != (Some(&0), Some(&self.ids.len())) || self.trained.len() != self.ids.len() {
            return Err(Failure::data(format!("{path}: `offsets` do not divide the tokens into rows")));
        }
        for index in 0..self.len() {
            let row = self.row(index);
            if row.ids.len() as u64 > model.max_position_embeddings {
                let (row_tokens, window) = (row.ids.len(), model.max_position_embeddings);
                return Err(Failure::usage(format!(
                    "{path}: row {index} has {row_tokens} tokens, and the model's window holds {window}"
                ))
                .with_hint(format!("tokenize with `max_length: {window}` or less")));
            }
            if let Some(id) = row.ids.iter().find(|&&id| !(0..model.vocab_size).contains(&i64::from(id))) {
                let vocabulary = model.vocab_size;
                return Err(Failure::data(format!(
                    "{path}: row {index} has the token {id}, and the model knows {vocabulary} tokens"
                ))
                .with_hint("tokenize with the tokenizer of the model that is trained"));
            }
        }
        Ok(())
    }
}

/// Reads `tokens.json`.
///
/// # Errors
/// Where it is missing or not what it should be.
pub fn info(tokens: &Path) -> Result<TokensInfo, Failure> {
    let path: PathBuf = tokens.join("tokens.json");
    let text = std::fs::read(&path).map_err(|error| io_failure("read", &path, &error))?;
    serde_json::from_slice(&text).map_err(|error| Failure::data(format!("{}: {error}", path.display())))
}

fn values<T: tch::kind::Element + Copy + Default>(file: &TensorFile, name: &str) -> Result<Vec<T>, Failure> {
    let tensor: Tensor = file.read_any(name)?;
    if tensor.kind() != T::KIND || tensor.dim() != 1 {
        let shape = tensor.size();
        return Err(Failure::data(format!(
            "{}: `{name}` is {:?} {shape:?}, a list of {:?} is wanted",
            file.path().display(),
            tensor.kind(),
            T::KIND
        )));
    }
    let mut out = vec![T::default(); tensor.numel()];
    let copied = tensor.f_copy_data(&mut out, tensor.numel());
    copied.map_err(|source| TensorFileError::Torch { path: file.path().to_owned(), name: name.to_owned(), source })?;
    Ok(out)
}
