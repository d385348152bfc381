//! postrider sends webhooks: it stores each published message durably, fans it out to the HTTP
//! endpoints that a platform's customers registered, signs every request, judges the answers,
//! retries, and keeps a log of every attempt.
//!
//! The modules below stand in the order in which a message passes through them.
//! ARCHITECTURE.md walks through a message's way and names the invariants.

pub mod api;
pub mod rules;

pub mod catalog;
pub mod domain;
pub mod journal;
pub mod store;

pub mod backup;

pub mod jobs;
pub mod scheduler;

pub mod delivery;

pub mod notify;

mod asset;
pub mod clock;
pub mod config;
pub mod error;
mod lock;
mod misfit;
mod shortage;
pub mod telemetry;
mod watched;

pub mod cli;
pub mod console;
pub mod server;
