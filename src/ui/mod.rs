//! What people see: the printer, tables, progress and diagnostics. It knows results and events, not how they came about.

mod board;
pub mod diagnostic;
pub mod frame;
pub mod leaves;
mod live;
pub mod outcome;
pub mod printer;
pub mod progress;
pub mod table;
pub mod tensorboard;
