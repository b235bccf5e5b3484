//! Tokens as Parquet for other trainers, beside the copy of them: a row is `input_ids` and `labels`, −100 where a token
//! carries no loss. What lies in memory is one group of rows.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use parquet::data_type::Int32Type;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::cli::safetensors::{self, Header};

/// The splits of tokens.
const SPLITS: [&str; 2] = ["train", "heldout"];
/// Tokens after which a group of rows ends.
const GROUP_TOKENS: usize = 1 << 20;
/// What PyTorch's cross entropy leaves out.
const IGNORED: i32 = -100;
/// Lists as Parquet's specification writes them.
const SCHEMA: &str = "message tokens {
    required group input_ids (LIST) { repeated group list { required int32 element; } }
    required group labels (LIST) { repeated group list { required int32 element; } }
}";

/// Writes `train.parquet` and `heldout.parquet` into the copy of tokens.
///
/// # Errors
/// Where a split is not what it promises, or a file cannot be written.
pub fn write(folder: &Path) -> std::result::Result<(), Failure> {
    for split in SPLITS {
        let from = folder.join(format!("{split}.safetensors"));
        let mut rows = Rows::open(&from)?;
        let to = folder.join(format!("{split}.parquet"));
        let file = File::create(&to).map_err(|error| io_failure("write", &to, &error))?;
        save(&mut rows, file).map_err(|error| Failure::data(format!("{}: {error}", to.display())))?;
    }
    Ok(())
}

fn save(rows: &mut Rows, file: impl io::Write + Send) -> Result<()> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::builder().build()))?;
    while let Some(group) = rows.group()? {
        let mut to = writer.next_row_group()?;
        column(&mut to, &group.ids, &group.lengths)?;
        column(&mut to, &group.labels(), &group.lengths)?;
        to.close()?;
    }
    writer.close().map(drop)
}

/// Lists of these lengths: an element begins a list (0) or goes on with it (1), and an empty list has no element.
fn column(
    group: &mut SerializedRowGroupWriter<'_, impl io::Write + Send>,
    values: &[i32],
    lengths: &[usize],
) -> Result<()> {
    let begins = lengths.iter().flat_map(|&length| (0..length.max(1)).map(|at| i16::from(at > 0))).collect::<Vec<_>>();
    let is_there = lengths.iter().flat_map(|&length| (0..length.max(1)).map(move |_| i16::from(length > 0)));
    let is_there = is_there.collect::<Vec<_>>();
    let mut column = group.next_column()?.expect("the schema has two columns");
    column.typed::<Int32Type>().write_batch(values, Some(&is_there), Some(&begins))?;
    column.close()
}

/// Some rows, one after the other.
struct Group {
    ids: Vec<i32>,
    trained: Vec<u8>,
    lengths: Vec<usize>,
}

impl Group {
    fn labels(&self) -> Vec<i32> {
        self.ids.iter().zip(&self.trained).map(|(&id, &trained)| if trained == 0 { IGNORED } else { id }).collect()
    }
}

/// The rows of a split, read from its tensors side by side.
struct Rows {
    ids: BufReader<File>,
    trained: BufReader<File>,
    offsets: BufReader<File>,
    /// Rows not read yet.
    left: usize,
    /// Where the next row begins.
    next: i64,
}

impl Rows {
    fn open(path: &Path) -> std::result::Result<Self, Failure> {
        let header = safetensors::header(path)?;
        Self::of(path, &header).map_err(|error| io_failure("read", path, &error))
    }

    fn of(path: &Path, header: &Header) -> io::Result<Self> {
        let tensor = |name: &str| header.tensors.get(name).ok_or_else(|| broken(name));
        let at = |name: &str| -> io::Result<BufReader<File>> {
            let mut file = BufReader::new(File::open(path)?);
            file.seek(SeekFrom::Start(header.data_start.saturating_add(tensor(name)?.data_offsets[0])))?;
            Ok(file)
        };
        let places = *tensor("offsets")?.shape.first().ok_or_else(|| broken("offsets"))?;
        let mut offsets = at("offsets")?;
        let next = if places == 0 { 0 } else { offset(&mut offsets)? };
        let left = places.saturating_sub(1) as usize;
        Ok(Self { ids: at("input_ids")?, trained: at("trained")?, offsets, left, next })
    }

    /// The next rows; nothing after the last.
    fn group(&mut self) -> io::Result<Option<Group>> {
        let (mut lengths, mut tokens) = (Vec::new(), 0);
        while self.left > 0 && tokens < GROUP_TOKENS {
            let end = offset(&mut self.offsets)?;
            let length = end.checked_sub(self.next).and_then(|length| usize::try_from(length).ok());
            let length = length.ok_or_else(|| broken("offsets"))?;
            (self.next, self.left) = (end, self.left - 1);
            lengths.push(length);
            tokens += length;
        }
        if lengths.is_empty() {
            return Ok(None);
        }
        let ids = bytes(&mut self.ids, 4 * tokens)?;
        let ids = ids.as_chunks().0.iter().map(|&id| i32::from_le_bytes(id)).collect();
        Ok(Some(Group { ids, trained: bytes(&mut self.trained, tokens)?, lengths }))
    }
}

fn offset(file: &mut impl Read) -> io::Result<i64> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    Ok(i64::from_le_bytes(bytes))
}

/// So many bytes; fewer are an error, whatever a broken file says of its lengths.
fn bytes(file: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(count as u64).read_to_end(&mut bytes)?;
    if bytes.len() == count { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn broken(tensor: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has no usable tensor `{tensor}`"))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::SerializedFileReader;
    use parquet::record::RowAccessor;

    use super::*;

    fn split(ids: &[i32], trained: &[u8], offsets: &[i64]) -> Vec<u8> {
        let (a, b) = (4 * ids.len(), 4 * ids.len() + trained.len());
        let header = serde_json::json!({
            "input_ids": { "dtype": "I32", "shape": [ids.len()], "data_offsets": [0, a] },
            "trained": { "dtype": "U8", "shape": [trained.len()], "data_offsets": [a, b] },
            "offsets": { "dtype": "I64", "shape": [offsets.len()], "data_offsets": [b, b + 8 * offsets.len()] },
        })
        .to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        file.extend(trained);
        file.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        file
    }

    fn exported(train: &[u8], heldout: &[u8]) -> std::result::Result<[Vec<[Vec<i32>; 2]>; 2], Failure> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.safetensors"), train).unwrap();
        std::fs::write(folder.path().join("heldout.safetensors"), heldout).unwrap();
        write(folder.path())?;
        Ok(SPLITS.map(|split| {
            let file = File::open(folder.path().join(format!("{split}.parquet"))).unwrap();
            let rows = SerializedFileReader::new(file).unwrap().into_iter();
            let list = |row: &parquet::record::Row, at| {
                let list = row.get_list(at).unwrap();
                list.elements().iter().map(|id| id.to_string().parse().unwrap()).collect()
            };
            rows.map(|row| row.unwrap()).map(|row| [list(&row, 0), list(&row, 1)]).collect()
        }))
    }

    #[test]
    fn rows_come_with_their_labels() {
        let train = split(&[5, 6, 7, 8, 9], &[0, 1, 1, 0, 1], &[0, 3, 3, 5]);
        let [train, heldout] = exported(&train, &split(&[], &[], &[0])).unwrap();
        let expected = [[vec![5, 6, 7], vec![-100, 6, 7]], [vec![], vec![]], [vec![8, 9], vec![-100, 9]]];
        assert_eq!(train, expected);
        assert!(heldout.is_empty());
    }

    #[test]
    fn many_rows_are_groups_of_rows() {
        let (rows, length) = (3 * GROUP_TOKENS / 1000, 1000);
        let ids: Vec<i32> = (0..rows as i32 * length).collect();
        let offsets: Vec<i64> = (0..=rows as i64).map(|row| row * i64::from(length)).collect();
        let [train, _] = exported(&split(&ids, &vec![1; ids.len()], &offsets), &split(&[], &[], &[0])).unwrap();
        assert_eq!(train.len(), rows);
        assert_eq!(train.concat()[2 * rows - 1], ids[ids.len() - length as usize..]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = split(&[5, 6, 7], &[1, 1, 1], &[0, 3]);
        for broken in
            [&whole[..whole.len() - 1], &whole[..20], &split(&[5], &[1], &[0, 9]), &split(&[5], &[1], &[0, -1])]
        {
            assert!(exported(broken, &whole).is_err());
        }
    }
}
