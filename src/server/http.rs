//! The listeners: one of the API and the pages, and one of metrics alone.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::Server as Listening;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpResponse, HttpServer, web};

use super::sockets;
use crate::api;
use crate::console;
use crate::telemetry::{METRICS_CONTENT_TYPE, Metrics};
use crate::watched::{self, Kind, Threads};

/// A publisher's connection stays open for this long between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A connection is closed after this time without a request, also when a part of one has come.
const IDLE_MAX: Duration = Duration::from_secs(KEEP_ALIVE.as_secs() + 10);
/// Connections to `server.metrics_listen`.
pub const METRICS_CONNECTIONS_MAX: usize = 64;

/// Answers requests to the API and for the pages.
pub fn serve_api(
    listener: TcpListener,
    contexts: Arc<api::Contexts>,
    connections: Arc<api::Connections>,
    routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    pages: web::Data<console::Pages>,
) -> std::io::Result<Listening> {
    let context = contexts.current();
    let (config, store) = (context.config.clone(), context.store.clone());
    let workers = config.server.workers;
    let cors = api::Cors::new(&config.server.cors_origins);
    let threads = store.threads().clone();
    let started = Arc::new(AtomicUsize::new(0));
    let app = move || {
        // This runs in each of actix's threads as it starts; one that panicked is started again.
        let number = started.fetch_add(1, Ordering::Relaxed) % workers;
        threads.add_current(Kind::Http(number));
        let (cors, contexts) = (cors.clone(), contexts.clone());
        let seen = Rc::new(api::ContextSeen::default());
        App::new()
            // Answers are private, so no cache on the way keeps them. Files of the pages set their
            // own time.
            .wrap(DefaultHeaders::new().add((CACHE_CONTROL, "no-store")))
            .wrap_fn(move |mut request, service| {
                contexts.give(&seen, &mut request);
                let path = request.path().to_owned();
                let answer = cors.around(request, service);
                // A panic of a handler is the end of its request and of nothing else.
                let answer = watched::contained_future(async move {
                    watched::planned_panic("request", &path);
                    answer.await
                });
                async { answer.await.unwrap_or_else(|_| Err(api::defect())) }
            })
            .wrap_fn(api::send_in_pieces)
            .wrap_fn(api::delay_guesses)
            .wrap_fn(api::close_unread)
            .configure(console::configure(pages.clone()))
            .configure(routes.clone())
    };
    let stall = Duration::from_secs(config.server.answer_stall_seconds);
    let http = HttpServer::new(app)
        // Before `listen`, which copies the handler.
        .on_connect(move |connection, data| {
            let limited = watched::contained(|| {
                watched::planned_thread_panic();
                sockets::prepare(connection, data, stall);
                if let Some(connection) = connection.downcast_ref() {
                    connections.opened(connection, data, IDLE_MAX);
                }
            });
            // The connection would be without its limits, and the next one, too.
            if limited.is_err() {
                store.thread_panicked("a thread that answers requests".to_owned());
            }
        })
        .listen(listener)?
        .workers(workers)
        .max_connections((config.limits.connections_max / workers).max(1))
        .keep_alive(KEEP_ALIVE)
        .h1_write_buffer_size(api::WRITE_BUFFER)
        .shutdown_timeout(config.server.drain_seconds)
        .disable_signals()
        .run();
    Ok(http)
}

/// Answers `/metrics` to anybody who reaches the listener.
pub fn serve_metrics(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    threads: Threads,
    stall: Duration,
) -> std::io::Result<Listening> {
    let metrics = web::Data::from(metrics);
    let http = HttpServer::new(move || {
        threads.add_current(Kind::MetricsHttp);
        App::new()
            .wrap_fn(api::close_unread)
            .app_data(metrics.clone())
            .route(
                "/metrics",
                web::get().to(|metrics: web::Data<Metrics>| async move {
                    HttpResponse::Ok()
                        .content_type(METRICS_CONTENT_TYPE)
                        .body(metrics.encode())
                }),
            )
    })
    .on_connect(move |connection, data| sockets::prepare(connection, data, stall))
    .listen(listener)?
    .workers(1)
    .max_connections(METRICS_CONNECTIONS_MAX)
    .disable_signals()
    .run();
    Ok(http)
}
