//! (to be written)
use actix_web::web;
use std::sync::Arc;
pub struct Context {
    pub store: crate::store::Store,
    pub config: Arc<crate::config::Config>,
    pub addresses: Box<dyn Fn(&url::Url) -> Option<String> + Send + Sync>,
    pub metrics: Arc<crate::telemetry::Metrics>,
}
pub fn configure(_context: web::Data<Context>) -> impl Fn(&mut web::ServiceConfig) + Clone {
    move |_c| {}
}
