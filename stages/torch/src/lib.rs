//! What needs tensors: the model, its adapters, training and decoding.
//!
//! The program of this crate is a worker: it reads a request, leaves files, and knows neither the store nor the plan.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod changes;
pub mod cuda_library;
pub mod device;
pub mod dropout;
pub mod generate;
pub mod lora;
pub mod measure;
pub mod merge;
pub mod model;
pub mod model_files;
pub mod native;
pub mod neft;
pub mod score;
pub mod tensor_file;
pub mod train;
