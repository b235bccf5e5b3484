//! From a YAML file to a checked pipeline.

pub mod model;
