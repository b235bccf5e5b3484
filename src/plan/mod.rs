//! Pure planning: a pipeline and what the store knows become keys, states and reasons.

pub mod preimage;
