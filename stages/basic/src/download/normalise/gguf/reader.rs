//! Reads a GGUF file's header: metadata and the places of its tensors.
//!
//! Format: magic, version, counts, key-value pairs, tensor descriptions, then the data, aligned
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>). Every length is checked against what is there, so that a
//! damaged file is an error and never a panic. What keys and tensors mean is not known here.

use indexmap::IndexMap;
use serde_json::Value;

use super::blocks::Format;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file ends too early.
    #[error("the file is truncated: {what} ends at byte {end}, and the file has {has}")]
    Truncated {
        /// What should have been there.
        what: String,
        /// Where it would end.
        end: u64,
        /// The file's size.
        has: u64,
    },
    /// It is something else.
    #[error("{0}")]
    Invalid(String),
}

/// Shorthand for an error that only has a message.
pub fn invalid(what: impl Into<String>) -> GgufError {
    GgufError::Invalid(what.into())
}

/// A tensor as the file describes it.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Rows: the product of all but the innermost dimension.
    pub rows: usize,
    /// Numbers in a row.
    pub columns: usize,
    /// Whether it has one dimension.
    pub is_vector: bool,
    /// How its numbers are stored.
    pub format: Format,
    /// The stored bytes, row after row.
    pub data: &'a [u8],
}

/// A file's header.
pub struct Gguf<'a> {
    metadata: IndexMap<String, Value>,
    /// All tensors, in the order of the file.
    pub tensors: Vec<Tensor<'a>>,
}

impl<'a> Gguf<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// A file that is cut short, or is no GGUF file of a known version.
    pub fn read(bytes: &'a [u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(4, "the magic")? != b"GGUF" {
            return Err(invalid("not a GGUF file: it does not begin with `GGUF`"));
        }
        let version = cursor.u32("the version")?;
        if !matches!(version, 2 | 3) {
            return Err(invalid(format!("GGUF version {version} is not read; versions 2 and 3 are")));
        }
        let tensors = cursor.u64("the number of tensors")?;
        let pairs = cursor.u64("the number of metadata entries")?;
        let mut metadata = IndexMap::new();
        for _ in 0..pairs {
            let key = cursor.text("a metadata key")?.to_owned();
            let value = cursor.value(&key, 0)?;
            metadata.insert(key, value);
        }
        let described = (0..tensors).map(|_| Described::read(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
        let alignment = match metadata.get("general.alignment").map(Value::as_u64) {
            None => 32,
            Some(Some(alignment)) if alignment.is_power_of_two() => alignment,
            Some(_) => return Err(invalid("general.alignment is no power of two")),
        };
        let start = (cursor.at as u64).checked_next_multiple_of(alignment);
        let start = start.ok_or_else(|| invalid("general.alignment is absurd"))?;
        let tensors = described.into_iter().map(|tensor| tensor.locate(bytes, start)).collect::<Result<_, _>>()?;
        Ok(Self { metadata, tensors })
    }

    /// A metadata value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// A whole number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Value::as_u64)
    }

    /// A value that must be there.
    ///
    /// # Errors
    /// Where it is not, or is no whole number.
    pub fn required(&self, key: &str) -> Result<u64, GgufError> {
        self.number(key).ok_or_else(|| invalid(format!("the metadata has no whole number `{key}`")))
    }

    /// A list.
    pub fn list(&self, key: &str) -> Option<&Vec<Value>> {
        self.get(key).and_then(Value::as_array)
    }
}

/// A tensor's description, before its place is known.
struct Described<'a> {
    name: &'a str,
    shape: Vec<u64>,
    format: Format,
    offset: u64,
}

impl<'a> Described<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, GgufError> {
        let name = cursor.text("a tensor's name")?;
        let dimensions = cursor.u32("a tensor's number of dimensions")?;
        if !(1..=4).contains(&dimensions) {
            return Err(invalid(format!("tensor `{name}` has {dimensions} dimensions")));
        }
        let shape = (0..dimensions).map(|_| cursor.u64("a tensor's shape")).collect::<Result<_, _>>()?;
        let code = cursor.u32("a tensor's number format")?;
        let format = Format::of(code).map_err(|stored| {
            invalid(format!(
                "tensor `{name}` is stored as {stored}, which is not converted; {} are",
                Format::ALL.map(Format::name).join(", ")
            ))
        })?;
        Ok(Self { name, shape, format, offset: cursor.u64("a tensor's offset")? })
    }

    fn locate(self, bytes: &'a [u8], start: u64) -> Result<Tensor<'a>, GgufError> {
        let Self { name, shape, format, offset } = self;
        let absurd = || invalid(format!("tensor `{name}` has the shape {shape:?}"));
        let columns = usize::try_from(shape[0]).map_err(|_| absurd())?;
        let rows = shape[1..].iter().try_fold(1_u64, |product, &n| product.checked_mul(n)).ok_or_else(absurd)?;
        let rows = usize::try_from(rows).map_err(|_| absurd())?;
        if columns == 0 || rows == 0 || !columns.is_multiple_of(format.block_numbers()) {
            return Err(absurd());
        }
        let row_bytes = (columns / format.block_numbers()).checked_mul(format.block_bytes()).ok_or_else(absurd)?;
        let length = row_bytes.checked_mul(rows).ok_or_else(absurd)? as u64;
        let begin = start.checked_add(offset).ok_or_else(absurd)?;
        let end = begin.checked_add(length).ok_or_else(absurd)?;
        let has = bytes.len() as u64;
        if end > has {
            return Err(GgufError::Truncated { what: format!("tensor `{name}`"), end, has });
        }
        let data = &bytes[begin as usize..end as usize];
        Ok(Tensor { name, rows, columns, is_vector: shape.len() == 1, format, data })
    }
}

/// A place in the file.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8], GgufError> {
        let has = self.bytes.len() as u64;
        let end = (self.at as u64).saturating_add(length);
        if end > has {
            return Err(GgufError::Truncated { what: what.to_owned(), end, has });
        }
        let taken = &self.bytes[self.at..end as usize];
        self.at = end as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        Ok(self.take(N as u64, what)?.try_into().expect("as many bytes were taken"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn text(&mut self, what: &str) -> Result<&'a str, GgufError> {
        let length = self.u64(what)?;
        std::str::from_utf8(self.take(length, what)?).map_err(|_| invalid(format!("{what} is not UTF-8")))
    }

    fn value(&mut self, key: &str, depth: u8) -> Result<Value, GgufError> {
        let kind = self.u32(key)?;
        self.value_of(kind, key, depth)
    }

    fn value_of(&mut self, kind: u32, key: &str, depth: u8) -> Result<Value, GgufError> {
        Ok(match kind {
            0 => Value::from(u8::from_le_bytes(self.array(key)?)),
            1 => Value::from(i8::from_le_bytes(self.array(key)?)),
            2 => Value::from(u16::from_le_bytes(self.array(key)?)),
            3 => Value::from(i16::from_le_bytes(self.array(key)?)),
            4 => Value::from(self.u32(key)?),
            5 => Value::from(i32::from_le_bytes(self.array(key)?)),
            6 => shortest(f32::from_le_bytes(self.array(key)?)),
            7 => Value::from(u8::from_le_bytes(self.array(key)?) != 0),
            8 => Value::from(self.text(key)?),
            9 => self.list_of(key, depth)?,
            10 => Value::from(self.u64(key)?),
            11 => Value::from(i64::from_le_bytes(self.array(key)?)),
            12 => Value::from(f64::from_le_bytes(self.array(key)?)),
            other => return Err(invalid(format!("metadata `{key}` has the unknown type {other}"))),
        })
    }

    fn list_of(&mut self, key: &str, depth: u8) -> Result<Value, GgufError> {
        const DEEPEST: u8 = 4;
        if depth == DEEPEST {
            return Err(invalid(format!("metadata `{key}` is nested too deeply")));
        }
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        // Grows as items are read: a count that the file does not hold allocates nothing.
        (0..count).map(|_| self.value_of(kind, key, depth + 1)).collect()
    }
}

/// The shortest decimal that reads back as this float, so that 1e-5 is written as 0.00001.
fn shortest(float: f32) -> Value {
    Value::from(float.to_string().parse::<f64>().unwrap_or(f64::from(float)))
}
