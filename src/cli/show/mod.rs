//! `neftpipe show`.

pub mod view;
