//! The real server, in this process, driven through its API with scripted receivers and a clock
//! that is stepped by hand.

mod support;

mod addresses;
mod applications;
mod attempts;
mod delivering;
mod endpoints;
mod errors;
mod event_types;
mod export;
mod fairness;
mod health;
mod held;
mod idempotency;
mod limits;
mod messages;
mod metrics;
mod payloads;
mod profiles;
mod receivers;
mod reserved_slots;
mod restart;
mod retention;
mod retries;
mod signatures;
mod soundness;
mod tls;
mod tokens;
