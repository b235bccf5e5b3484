//! What the runner and its workers agree on: digests, artifact types, stage parameters, requests, events,
//! and the arithmetic of a training plan.
//!
//! This crate knows nothing of tensors, of the store, or of how a stage is carried out. Planning needs only it,
//! so `neftpipe plan` answers without starting a worker.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod artifact;
pub mod digest;
pub mod event;
pub mod failure;
pub mod judging;
pub mod kind;
pub mod params;
pub mod question;
pub mod random;
pub mod request;
pub mod scoring;
pub mod source;
pub mod training;
pub mod worker;

pub use artifact::ArtifactType;
pub use digest::{ContentHash, Digest, KeyHasher};
pub use failure::{Failure, FailureClass};
pub use kind::Kind;

/// Version of the request, event and result files. A worker and a runner that disagree on it do not work together.
pub const PROTOCOL_VERSION: u32 = 1;
