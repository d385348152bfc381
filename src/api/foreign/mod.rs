//! The management surfaces of other systems: adapters over the same store and the same rules as the
//! native API, each with its own bodies and its own shape of errors.

pub mod ocrolus;
mod ocrolus_body;
pub mod ovation;
