//! The part of an application's messages and attempts that a caller may read.

use std::sync::Arc;

use crate::api::kit::call::Call;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, EndpointId, MessageId};
use crate::domain::message::Message;
use crate::error::{Error, Result};
use crate::rules::caller::Action;
use crate::store::{Store, Stretch, Window};

const NOT_FOUND: Error = Error::not_found("message");

/// The part of an application's messages and attempts that a caller may read.
#[derive(Clone)]
pub struct History {
    pub application: ApplicationId,
    /// Only messages and attempts for these endpoints; all where absent.
    endpoints: Option<Vec<Arc<Endpoint>>>,
}

impl History {
    /// Returns the history of the application in the path.
    pub fn named(call: &Call) -> Result<History> {
        History::named_for(call, Action::ReadHistory)
    }

    /// Returns the history of the application in the path, for another action than reading.
    pub fn named_for(call: &Call, action: Action) -> Result<History> {
        let catalog = call.catalog();
        let entry = (call.caller).application(&catalog, call.path("app_id"), action)?;
        Ok(History {
            application: entry.application.id,
            endpoints: call.caller.limited_to(&catalog, entry),
        })
    }

    /// Whether attempts at this endpoint are part of the history.
    pub fn includes(&self, endpoint: EndpointId) -> bool {
        self.endpoints
            .as_ref()
            .is_none_or(|endpoints| endpoints.iter().any(|one| one.id == endpoint))
    }

    fn lanes(&self) -> Option<Vec<u64>> {
        let endpoints = self.endpoints.as_ref()?;
        Some(endpoints.iter().map(|endpoint| endpoint.number).collect())
    }

    /// Returns the message by its id or its `eventId`. Blocks on the disk.
    pub fn message(&self, store: &Store, id: &str) -> Result<Arc<Message>> {
        let message = match id.parse::<MessageId>() {
            Ok(id) => store.message(self.application, id)?,
            Err(_) => store.message_by_event_id(self.application, id)?,
        };
        let message = message.ok_or(NOT_FOUND)?;
        match self.lanes() {
            Some(lanes) if !store.was_sent_to(&message, &lanes)? => Err(NOT_FOUND),
            _ => Ok(message),
        }
    }

    /// Returns a page of the messages that `keep` accepts. Blocks on the disk.
    pub fn messages(
        &self,
        store: &Store,
        window: &Window<MessageId>,
        payloads: bool,
        keep: &mut dyn FnMut(&Message) -> bool,
    ) -> Result<Stretch<Arc<Message>, MessageId>> {
        match self.lanes() {
            // A caller without endpoints has no messages, and looking for them would take long.
            Some(lanes) if lanes.is_empty() => Ok(Stretch {
                items: Vec::new(),
                next: None,
            }),
            lanes => {
                let lanes = lanes.as_deref();
                store.messages(self.application, lanes, window, payloads, keep)
            }
        }
    }
}

/// Whether a message has one of these event types and this channel, as far as they are given.
pub fn is_wanted(message: &Message, event_types: Option<&[String]>, channel: Option<&str>) -> bool {
    let type_fits = event_types.is_none_or(|names| names.contains(&message.event_type));
    let channel_fits = channel.is_none_or(|name| message.channels.iter().any(|one| one == name));
    type_fits && channel_fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::message::Origin;
    use std::collections::BTreeMap;

    #[test]
    fn filters_want_what_they_name() {
        let message = Message {
            id: MessageId::at(Timestamp(0)),
            application: ApplicationId::at(Timestamp(0)),
            event_type: "a".to_owned(),
            event_id: None,
            channels: vec!["x".to_owned()],
            payload: Default::default(),
            is_raw: false,
            content_type: None,
            accepted_at: Timestamp(0),
            origin: Origin::Published,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
            endpoints_matched: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        };
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (types, channel, expected) in [
            (None, None, true),
            (Some(names(&["b", "a"])), Some("x"), true),
            (Some(names(&["b"])), None, false),
            (None, Some("y"), false),
        ] {
            assert_eq!(is_wanted(&message, types.as_deref(), channel), expected);
        }
    }
}
