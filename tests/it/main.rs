//! The real server, in this process, driven through its API with scripted receivers and a clock
//! that is stepped by hand.

mod support;

mod applications;
mod attempts;
mod delivering;
mod endpoints;
mod errors;
mod event_types;
mod health;
mod idempotency;
mod messages;
mod metrics;
mod tokens;
