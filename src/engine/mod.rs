//! Carrying out a plan.

pub mod event;
pub mod lockfile;
