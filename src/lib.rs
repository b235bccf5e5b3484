//! The runner of neftpipe: from a pipeline file to artifacts, as a library for its own binary and tests.
//!
//! Direction of knowledge: `spec <- plan <- engine <- cli`, `exec <- engine`, `store <- engine`,
//! `engine::event <- ui, record <- cli`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cli;
pub mod engine;
pub mod env;
pub mod exec;
pub mod exit;
pub mod facts;
pub mod local_files;
pub mod plan;
pub mod process;
pub mod record;
pub mod spec;
pub mod store;
pub mod ui;
