//! The real server, in this process, driven through its API with scripted receivers and a clock
//! that is stepped by hand.

mod support;

mod addresses;
mod applications;
mod attempts;
mod batch;
mod deliver_at;
mod delivering;
mod endpoint_fields;
mod endpoints;
mod errors;
mod event_types;
mod expiry;
mod export;
mod fairness;
mod health;
mod held;
mod idempotency;
mod ioffice;
mod limits;
mod messages;
mod metrics;
mod ocrolus;
mod okhi;
mod ovation;
mod ovcode;
mod payloads;
mod profile_requests;
mod profiles;
mod receivers;
mod reserved_slots;
mod restart;
mod retention;
mod retries;
mod roles;
mod signatures;
mod soundness;
mod test_events;
mod tls;
mod tokens;
mod webhook_users;
