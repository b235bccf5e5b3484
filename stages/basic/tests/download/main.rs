//! `download` from outside: the worker is started as the runner starts it, and what it leaves is looked at.
//!
//! Web servers, the hub and pip are played by this test, so nothing depends on the network or on Python.
#![allow(clippy::unwrap_used)]

mod gguf;
mod gguf_file;
mod hub;
mod local;
mod packages;
mod server;
mod web;
mod worker;
