//! A frame as CSV.

use super::{Frame, plain};

impl Frame {
    /// CSV with a heading row; an empty field where there is no value.
    pub fn csv(&self) -> Vec<u8> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        let heading: Vec<String> = self.columns.iter().map(super::Column::path).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(plain).collect());
        for row in std::iter::once(heading).chain(rows) {
            writer.write_record(row).expect("memory takes every row, and all are as long as the heading");
        }
        writer.into_inner().expect("memory takes every row")
    }
}
