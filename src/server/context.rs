//! The context of requests, with closures in place of the modules that the API does not know.

use std::sync::Arc;

use actix_web::web;
use tokio::sync::Notify;

use crate::api;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::delivery;
use crate::delivery::address::{AddressRule, OwnAddresses};
use crate::scheduler;
use crate::store::Store;
use crate::telemetry::Metrics;

/// The parts of a context that a reload of the settings leaves as they are.
pub struct Lasting {
    pub store: Store,
    pub metrics: Arc<Metrics>,
    pub started_at: Timestamp,
    pub shares: Arc<api::Shares>,
    pub schemas: Arc<api::Schemas>,
    pub hand_over_asked: Arc<Notify>,
}

impl Lasting {
    pub fn of(context: &api::Context) -> Lasting {
        Lasting {
            store: context.store.clone(),
            metrics: context.metrics.clone(),
            started_at: context.started_at,
            shares: context.shares.clone(),
            schemas: context.schemas.clone(),
            hand_over_asked: context.hand_over_asked.clone(),
        }
    }

    /// The context by these settings.
    pub fn with(
        self,
        config: Config,
        send_settings: &Arc<delivery::SendSettings>,
        own_addresses: &OwnAddresses,
        lanes: scheduler::Lanes,
    ) -> web::Data<api::Context> {
        web::Data::new(api::Context {
            addresses: address_check(&config, own_addresses),
            config: Arc::new(config),
            example_requests: send_settings.example_requests(),
            preview: preview(send_settings),
            transformation_problems: transformation_problems(send_settings),
            message_preview: message_preview(send_settings, &self.store),
            lanes: lane_watch(lanes.clone()),
            sending: sending_watch(lanes),
            store: self.store,
            metrics: self.metrics,
            started_at: self.started_at,
            shares: self.shares,
            schemas: self.schemas,
            hand_over_asked: self.hand_over_asked,
        })
    }
}

fn address_check(config: &Config, own: &OwnAddresses) -> api::AddressCheck {
    let rule = AddressRule::new(&config.delivery, own.clone());
    Box::new(move |url| rule.url_problem(url))
}

fn preview(settings: &Arc<delivery::SendSettings>) -> api::Preview {
    let settings = settings.clone();
    Box::new(move |profile, draft| settings.preview(profile, draft))
}

fn transformation_problems(settings: &Arc<delivery::SendSettings>) -> api::TransformationCheck {
    let settings = settings.clone();
    Box::new(move |transformation| settings.transformation_problems(transformation))
}

fn message_preview(settings: &Arc<delivery::SendSettings>, store: &Store) -> api::MessagePreview {
    let (settings, clock) = (settings.clone(), store.clock().clone());
    Box::new(move |endpoint, message| settings.preview_message(endpoint, message, clock.now()))
}

/// The current state of lanes, in the API's words.
fn lane_watch(lanes: scheduler::Lanes) -> api::LaneWatch {
    Box::new(move |numbers| {
        let lanes = lanes.clone();
        Box::pin(async move {
            let looks = lanes.look(numbers).await.into_iter();
            looks
                .map(|look| {
                    let now = api::LaneNow {
                        in_flight: look.in_flight,
                        hanging: look.hanging,
                        throttled: look.throttled,
                        waits_for_host: look.waits_for_host,
                    };
                    (look.lane, now)
                })
                .collect()
        })
    })
}

fn sending_watch(lanes: scheduler::Lanes) -> api::SendingWatch {
    Box::new(move |numbers, message| {
        let lanes = lanes.clone();
        Box::pin(async move {
            let keys = lanes.sending(numbers, message).await;
            keys.into_iter().collect()
        })
    })
}
