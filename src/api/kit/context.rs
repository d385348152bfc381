//! The context: the data that handlers work with, and its replacement when the settings are read
//! again.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use actix_web::dev::{Extensions, ServiceRequest};
use actix_web::{HttpRequest, web};
use tokio::sync::Notify;

use super::fair::Shares;
use super::schemas::Schemas;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::MessageId;
use crate::domain::message::{DeliveryKey, Message};
use crate::domain::profile::Draft;
use crate::domain::transformation::{Transformation, TransformationFault};
use crate::lock::locked;
use crate::store::Store;
use crate::telemetry::Metrics;

/// Returns why a URL's host may not be sent to, where that can be told without asking the DNS. This
/// is only an early answer; each connection checks the address again.
pub type AddressCheck = Box<dyn Fn(&url::Url) -> Option<String> + Send + Sync>;

/// Returns the request that the profile with this name makes of a draft, or why it makes none.
pub type Preview = Box<dyn Fn(&str, Draft) -> Result<serde_json::Value, String> + Send + Sync>;

/// Returns the problems of a transformation that every message would have.
pub type TransformationCheck =
    Box<dyn Fn(&Transformation) -> Vec<TransformationFault> + Send + Sync>;

/// Returns the request that an endpoint would get for a message, or why it gets none.
pub type MessagePreview = Box<
    dyn Fn(&Arc<Endpoint>, &Arc<Message>) -> Result<serde_json::Value, TransformationFault>
        + Send
        + Sync,
>;

/// The current state of a lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneNow {
    pub in_flight: usize,
    pub hanging: bool,
    pub throttled: bool,
    pub waits_for_host: bool,
}

/// Returns the current state of the lanes with these numbers; idle ones may be left out.
pub type LaneWatch =
    Box<dyn Fn(Arc<[u64]>) -> Pin<Box<dyn Future<Output = HashMap<u64, LaneNow>>>> + Send + Sync>;

/// Returns the deliveries of these lanes that are being sent at this moment, or only those of one
/// message.
pub type SendingWatch = Box<
    dyn Fn(Arc<[u64]>, Option<MessageId>) -> Pin<Box<dyn Future<Output = HashSet<DeliveryKey>>>>
        + Send
        + Sync,
>;

/// The data that handlers work with.
pub struct Context {
    pub store: Store,
    pub config: Arc<Config>,
    pub addresses: AddressCheck,
    pub metrics: Arc<Metrics>,
    pub started_at: Timestamp,
    /// By the profile's name, a request as it would be sent.
    pub example_requests: BTreeMap<String, serde_json::Value>,
    pub preview: Preview,
    pub transformation_problems: TransformationCheck,
    pub message_preview: MessagePreview,
    pub lanes: LaneWatch,
    pub sending: SendingWatch,
    /// Each customer's use of the shared resources.
    pub shares: Arc<Shares>,
    pub schemas: Arc<Schemas>,
    /// Notified where the server is to hand its store over to another machine.
    pub hand_over_asked: Arc<Notify>,
}

/// The context for new requests. It is replaced when the settings are read again; a request keeps
/// the one that it began with.
pub struct Contexts {
    /// Counts up with each replacement, so that a request only looks at a number.
    version: AtomicU64,
    current: Mutex<web::Data<Context>>,
}

/// One thread's copy of what [`Contexts`] has.
#[derive(Default)]
pub struct ContextSeen(RefCell<(u64, Rc<Extensions>)>);

impl Contexts {
    pub fn new(first: web::Data<Context>) -> Contexts {
        Contexts {
            version: AtomicU64::new(0),
            current: Mutex::new(first),
        }
    }

    pub fn current(&self) -> web::Data<Context> {
        let current = locked(self.current.lock());
        current.clone()
    }

    pub fn replace(&self, context: web::Data<Context>) {
        let mut current = locked(self.current.lock());
        *current = context;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Gives the request the current context; the first is there by [`crate::api::configure`].
    pub fn give(&self, seen: &ContextSeen, request: &mut ServiceRequest) {
        let version = self.version.load(Ordering::Acquire);
        if version == 0 {
            return;
        }
        let mut seen = seen.0.borrow_mut();
        if seen.0 != version {
            let mut extensions = Extensions::new();
            extensions.insert(self.current());
            *seen = (version, Rc::new(extensions));
        }
        request.add_data_container(seen.1.clone());
    }
}

/// The context that a request was given.
pub fn context_of(request: &HttpRequest) -> &web::Data<Context> {
    request
        .app_data()
        .expect("configure() installs the context with the routes")
}
