//! The parts of requests that no handler reads: requests on connections that were refused, and the
//! ends of bodies.
//!
//! actix-web closes a connection if its request was answered before the body ended. There is one
//! exception: a body in chunks that nobody holds any more is read to its end, however many bytes
//! and however long that takes, even for callers without a credential. So the connection holds the
//! rest of such a body here. A short rest is read before the answer, and the connection stays open.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::web::Bytes;
use futures_core::Stream;

use super::connections::RefusedConnection;
use super::error::Failure;
use crate::error::Error;

/// How much of the rest is read, and for how long, before the connection is given up.
const REST_BYTES_MAX: usize = 64 << 10;
const REST_WITHIN: Duration = Duration::from_secs(1);

/// The rest of a connection's latest body in chunks. It is data of the connection, so it is held until
/// the answer is sent, whatever becomes of the request.
#[derive(Clone, Default)]
pub struct Unread(Rc<RefCell<Option<Payload>>>);

impl Unread {
    async fn read_short_rest(&self) {
        let Some(mut rest) = self.0.take() else {
            return;
        };
        let reading = async {
            let mut bytes = 0;
            while bytes < REST_BYTES_MAX {
                match poll_fn(|context| Pin::new(&mut rest).poll_next(context)).await {
                    Some(Ok(piece)) => bytes += piece.len(),
                    Some(Err(_)) | None => break,
                }
            }
        };
        // After either limit the body has not ended, which closes the connection.
        let _ = tokio::time::timeout(REST_WITHIN, reading).await;
        self.0.replace(Some(rest));
    }
}

/// A request's body, which its connection holds when the request does not any more.
struct Body {
    payload: Payload,
    unread: Unread,
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.payload).poll_next(context)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.unread.0.replace(Some(self.payload.take()));
    }
}

/// Answers by the service, unless the connection was refused (see `connections`), and keeps the rest of a
/// body in chunks, where the connection has [`Unread`].
pub fn around<S, B>(
    mut request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<B>, actix_web::Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
{
    let is_refused = request.conn_data::<RefusedConnection>().is_some();
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let unread = request
        .conn_data::<Unread>()
        .filter(|_| is_chunked)
        .cloned();
    if let Some(unread) = &unread {
        let body = Body {
            payload: request.take_payload(),
            unread: unread.clone(),
        };
        request.set_payload(Payload::Stream {
            payload: Box::pin(body),
        });
    }
    let answering = (!is_refused).then(|| service.call(request));
    async move {
        let Some(answering) = answering else {
            // Nobody reads this error; the request must only not be handled.
            let gone = Error::Unavailable {
                reason: "the connection was refused".to_owned(),
                retry_after_seconds: 1,
            };
            return Err(Failure::Of(gone).into());
        };
        let answer = answering.await;
        if let Some(unread) = unread {
            unread.read_short_rest().await;
        }
        answer
    }
}
