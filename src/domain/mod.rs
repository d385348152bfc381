//! The nouns and the rules: values in, values out.
//!
//! Nothing here does I/O, asks for the time or draws a random number; what varies is an argument.
//! A type derives `Serialize` where it stands in a command of `rules` or its answer, in the settings, or
//! in a payload. What the store writes are records of its own (`store::record`), and what the API
//! shows are bodies of its own.

pub mod application;
pub mod attempt;
pub mod contact;
pub mod cost;
pub mod decimal;
pub mod disabled;
pub mod email;
pub mod endpoint;
pub mod event_type;
pub mod filter;
pub mod header;
pub mod health;
pub mod hold;
pub mod id;
pub mod job;
pub mod json_schema;
pub mod jwt;
pub mod merge;
pub mod message;
pub mod network;
pub mod notice;
pub mod one_line;
pub mod operational;
pub mod organisation;
pub mod payload;
pub mod profile;
pub mod retry;
pub mod scope;
pub mod secret;
pub mod starting_point;
pub mod summary;
pub mod tape;
pub mod token;
pub mod transformation;
pub mod url;
pub mod verification;
pub mod visit;
pub mod wildcard;

#[cfg(test)]
mod walls;
