//! A frame as Parquet: every column optional, of the narrowest type that holds its values.

use std::sync::Arc;

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::{Column, Frame, plain};

/// What the values of a column have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Flags,
    Whole,
    Numbers,
    Text,
}

impl Frame {
    /// A Parquet file of one row group.
    ///
    /// # Errors
    /// Where a column's name is none that Parquet takes.
    pub fn parquet(&self) -> Result<Vec<u8>> {
        let contents: Vec<Content> = (0..self.columns.len()).map(|at| content(self.cells(at))).collect();
        let fields: Result<Vec<TypePtr>> =
            self.columns.iter().zip(&contents).map(|(column, content)| field(column, *content)).collect();
        let schema = Type::group_type_builder("table").with_fields(fields?).build()?;
        let mut file = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut file, Arc::new(schema), Arc::new(WriterProperties::builder().build()))?;
        let mut group = writer.next_row_group()?;
        let mut at = 0;
        while let Some(mut column) = group.next_column()? {
            self.write(&mut column, at, contents[at])?;
            column.close()?;
            at += 1;
        }
        group.close()?;
        writer.close()?;
        Ok(file)
    }

    fn cells(&self, at: usize) -> impl Iterator<Item = &Value> {
        self.rows.iter().map(move |row| &row[at])
    }

    fn write(&self, column: &mut SerializedColumnWriter<'_>, at: usize, content: Content) -> Result<()> {
        let present = || self.cells(at).filter(|value| !value.is_null());
        let levels: Vec<i16> = self.cells(at).map(|value| i16::from(!value.is_null())).collect();
        match content {
            Content::Flags => batch::<BoolType>(column, present().filter_map(Value::as_bool).collect(), &levels),
            Content::Whole => batch::<Int64Type>(column, present().filter_map(Value::as_i64).collect(), &levels),
            Content::Numbers => batch::<DoubleType>(column, present().filter_map(Value::as_f64).collect(), &levels),
            Content::Text => {
                let texts = present().map(|value| ByteArray::from(plain(value).into_bytes())).collect();
                batch::<ByteArrayType>(column, texts, &levels)
            }
        }
    }
}

fn batch<T: DataType>(column: &mut SerializedColumnWriter<'_>, values: Vec<T::T>, levels: &[i16]) -> Result<()> {
    column.typed::<T>().write_batch(&values, Some(levels), None).map(drop)
}

fn field(column: &Column, content: Content) -> Result<TypePtr> {
    let (physical, converted) = match content {
        Content::Flags => (Physical::BOOLEAN, ConvertedType::NONE),
        Content::Whole => (Physical::INT64, ConvertedType::NONE),
        Content::Numbers => (Physical::DOUBLE, ConvertedType::NONE),
        Content::Text => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
    };
    let field = Type::primitive_type_builder(&column.path(), physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_converted_type(converted)
        .build()?;
    Ok(Arc::new(field))
}

fn content<'v>(values: impl Iterator<Item = &'v Value>) -> Content {
    let kinds = values.filter(|value| !value.is_null()).map(|value| match value {
        Value::Bool(_) => Content::Flags,
        Value::Number(number) if number.is_i64() => Content::Whole,
        Value::Number(_) => Content::Numbers,
        _ => Content::Text,
    });
    let join = |a, b| match (a, b) {
        (a, b) if a == b => a,
        (Content::Whole, Content::Numbers) | (Content::Numbers, Content::Whole) => Content::Numbers,
        _ => Content::Text,
    };
    kinds.reduce(join).unwrap_or(Content::Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::frame::{Group, Record};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use serde_json::json;

    fn record(values: Value) -> Record {
        Record::default().with(Group::Metrics, serde_json::from_value(values).unwrap())
    }

    #[test]
    fn what_is_written_reads_back() {
        let frame = Frame::new(&[
            record(json!({ "whole": 3, "number": 1, "flag": true, "text": "a, \"b\"" })),
            record(json!({ "whole": 4, "number": 0.5, "text": [1, 2] })),
            record(json!({ "number": null })),
        ]);
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &frame.parquet().unwrap()).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        let row = |whole: &str, number: &str, flag: &str, text: &str| {
            format!("{{metrics.whole: {whole}, metrics.number: {number}, metrics.flag: {flag}, metrics.text: {text}}}")
        };
        assert_eq!(rows[0], row("3", "1.0", "true", r#""a, "b"""#));
        assert_eq!(rows[1], row("4", "0.5", "null", r#""[1,2]""#));
        assert_eq!(rows[2], row("null", "null", "null", "null"));
    }
}
