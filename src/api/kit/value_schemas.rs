//! Schemas of the domain's values for the API's document: ids and instants are texts.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::clock::Timestamp;
use crate::domain::id::{
    ApplicationId, AttemptId, EndpointId, JobId, MessageId, OrganisationId, TokenId, VisitId,
};

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let pattern = format!("^{}[0-9A-Za-z]{{27}}$", $name::PREFIX);
                json_schema!({ "type": "string", "pattern": pattern })
            }
        }
    )*};
}

ids!(
    ApplicationId,
    AttemptId,
    EndpointId,
    JobId,
    MessageId,
    OrganisationId,
    TokenId,
    VisitId
);

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}
