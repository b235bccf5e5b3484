//! Parquet, record by record.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::{At, Each};

/// The records of a file.
pub fn read(name: &str, path: &Path, each: &mut Each) -> Result<ControlFlow<()>, Failure> {
    let broken = |error: parquet::errors::ParquetError| Failure::data(format!("{name}: not a Parquet file: {error}"));
    let file = File::open(path).map_err(|error| io_failure("read", path, &error))?;
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    for (row, record) in (1..).zip(reader.get_row_iter(None).map_err(broken)?) {
        let at = At { file: name, row };
        let record = record.map_err(|error| at.malformed(error))?;
        if each(at, object(&record))?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn object(row: &Row) -> Value {
    Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect::<Map<_, _>>())
}

/// Text, numbers and what is made of them; kinds of columns that no text field uses are shown as text.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => Value::from(*flag),
        Field::Byte(number) => Value::from(*number),
        Field::Short(number) => Value::from(*number),
        Field::Int(number) => Value::from(*number),
        Field::Long(number) => Value::from(*number),
        Field::UByte(number) => Value::from(*number),
        Field::UShort(number) => Value::from(*number),
        Field::UInt(number) => Value::from(*number),
        Field::ULong(number) => Value::from(*number),
        Field::Float(number) => Value::from(*number),
        Field::Double(number) => Value::from(*number),
        Field::Str(text) => Value::from(text.as_str()),
        // Columns of bytes without a mark for text are written by old tools.
        Field::Bytes(bytes) => bytes.as_utf8().map_or_else(|_| Value::from(field.to_string()), Value::from),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let pairs = map.entries().iter().map(|(key, item)| (key_text(key), value(item)));
            Value::Object(pairs.collect())
        }
        other => Value::from(other.to_string()),
    }
}

fn key_text(key: &Field) -> String {
    match value(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
