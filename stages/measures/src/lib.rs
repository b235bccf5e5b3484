//! Text measures, AlpacaEval's figures and honest statistics.
//!
//! Everything here is a pure function of its arguments: no files, no clock, no tensors, no knowledge of stages or
//! artifacts. Random draws come from seeded generators defined in this crate, so a figure is the same on every machine.
//!
//! - text against references: [`rouge`], [`bleu`], [`exact_match`];
//! - text by itself: [`length`], [`repetition`], [`diversity`], [`screening`];
//! - judged pairs, as AlpacaEval has them: [`switch`], [`preference`], [`win_rate`], [`length_control`], [`leaderboard`], [`agreement`];
//! - comparing arms: [`contrast`], [`bootstrap`], [`sign_test`], [`holm`], [`comparison`], [`numerals`], [`sentence`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agreement;
pub mod bleu;
pub mod bootstrap;
pub mod comparison;
pub mod contrast;
pub mod diversity;
pub mod exact_match;
pub mod holm;
pub mod leaderboard;
pub mod length;
pub mod length_control;
pub mod numerals;
pub mod preference;
mod python_literal;
pub mod random;
pub mod repetition;
pub mod rouge;
pub mod screening;
pub mod sentence;
pub mod sign_test;
pub mod summary;
pub mod switch;
mod tokenizer_13a;
pub mod win_rate;
mod words;
