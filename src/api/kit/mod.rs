//! The toolkit of every surface: how handlers read a request, hand a command to the writer, answer
//! and list; and the limits that hold before a handler runs.
//!
//! Nothing here knows how a credential is proved, or what a resource looks like.

pub mod by_address;
pub mod call;
pub mod client_address;
pub mod connections;
pub mod context;
pub mod cors;
pub mod decide;
pub mod document;
pub mod endpoint_url;
pub mod error;
pub mod extract;
pub mod fair;
pub mod fields;
pub mod form;
pub mod incoming;
pub mod minute;
pub mod operation;
pub mod outgoing;
pub mod page;
pub mod query;
pub mod rate;
pub mod reads;
pub mod schemas;
mod value_schemas;
