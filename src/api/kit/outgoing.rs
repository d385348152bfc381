//! Sends answers in pieces, and counts them while they are in memory.
//!
//! A body is copied to its connection piece by piece, as fast as the reader takes it. So a body
//! that many readers share (pages, the OpenAPI document) is in memory once. A caller's own answer
//! counts against the caller's share (see `fair`) until it is sent or the connection is gone; a
//! read whose answer would exceed the share is refused.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpMessage, HttpRequest, ResponseError};

use super::connections::{UnderWay, Watched};
use super::error::Failure;
use super::fair::Held;
use crate::clock::{Clock, Stopwatch};
use crate::error::Result;
use crate::rules::caller::{Caller, Proof};
use crate::telemetry::{CutOff, SLOW_READERS};

/// The bytes of one piece. A connection's buffer has at most one piece and [`WRITE_BUFFER`]. After
/// each piece the other connections of the thread have a turn: a fast reader of a long answer would
/// otherwise keep the thread for as long as the copying takes.
const PIECE: usize = 16 << 10;
/// The least bytes a second that a reader takes on average, after some time to begin with. A reader
/// that takes a little now and then would otherwise hold an answer for hours.
const PACE_MIN: u64 = 16 << 10;
const UNHURRIED: Duration = Duration::from_secs(30);
/// How much a connection buffers before it waits for its reader.
pub const WRITE_BUFFER: usize = 16 << 10;

/// The rest of a body that is whole in memory.
pub struct Outgoing {
    rest: Bytes,
    sent: u64,
    begun: Stopwatch,
    /// When the last piece went to the connection, in the system's time.
    sent_at: Instant,
    /// The system ends a connection whose reader takes nothing for this long (see `server`).
    stall: Duration,
    cut_off: CutOff,
    /// Whether others had a turn since the last piece.
    has_yielded: bool,
    _held: Option<Held>,
    _under_way: Option<UnderWay>,
}

impl Outgoing {
    fn is_too_slow(&self) -> bool {
        let hurried = self.begun.elapsed().saturating_sub(UNHURRIED);
        self.sent < hurried.as_secs() * PACE_MIN
    }
}

impl MessageBody for Outgoing {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let piece = self.rest.len().min(PIECE);
        if piece == 0 {
            return Poll::Ready(None);
        }
        if !self.has_yielded {
            self.has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_yielded = false;
        if self.is_too_slow() {
            self.cut_off.pace.inc();
            log::info!(
                target: SLOW_READERS,
                "an answer was broken off: its reader took less than {PACE_MIN} bytes a second"
            );
            self.rest.clear();
            // The head announced more, so actix closes the connection.
            return Poll::Ready(None);
        }
        self.sent += piece as u64;
        self.sent_at = Instant::now();
        Poll::Ready(Some(Ok(self.rest.split_to(piece))))
    }
}

/// A connection's error ends its answer without a report. One that comes this long after the last
/// piece is the system's limit, or a reader that went away after it had taken nothing for as long.
impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.rest.is_empty() && self.sent_at.elapsed() >= self.stall {
            self.cut_off.stalled.inc();
            log::info!(
                target: SLOW_READERS,
                "an answer was broken off: its reader took nothing for {} s",
                self.stall.as_secs()
            );
        }
    }
}

/// Sends the service's answers in pieces.
pub fn around<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<EitherBody<EitherBody<B, Outgoing>>>, actix_web::Error>>
+ use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let under_way = request.conn_data::<Watched>().map(Watched::request);
    let answering = service.call(request);
    async move {
        let answer = answering.await?;
        let is_short =
            matches!(answer.response().body().size(), BodySize::Sized(n) if n <= PIECE as u64);
        if is_short {
            return Ok(answer.map_body(|_, body| EitherBody::left(EitherBody::left(body))));
        }
        let (request, response) = answer.into_parts();
        let (response, body) = response.into_parts();
        let rest = match body.try_into_bytes() {
            Ok(rest) => rest,
            Err(body) => {
                let response = response.set_body(EitherBody::left(EitherBody::left(body)));
                return Ok(ServiceResponse::new(request, response));
            }
        };
        let context = request.app_data::<Data<super::context::Context>>();
        let response = match held(&request, context, rest.len()) {
            Ok(held) => {
                let clock = context.map_or(&Clock::System, |context| context.store.clock());
                let cut_off = context.map(|context| context.metrics.slow_readers_cut_off.clone());
                let stall = context.map(|context| context.config.server.answer_stall_seconds);
                let body = Outgoing {
                    rest,
                    sent: 0,
                    begun: clock.stopwatch(),
                    sent_at: Instant::now(),
                    stall: stall.map_or(Duration::MAX, Duration::from_secs),
                    cut_off: cut_off.unwrap_or_default(),
                    has_yielded: true,
                    _held: held,
                    _under_way: under_way,
                };
                response.set_body(EitherBody::left(EitherBody::right(body)))
            }
            Err(error) => Failure::Of(error).error_response().map_into_right_body(),
        };
        Ok(ServiceResponse::new(request, response))
    }
}

/// Takes memory of the caller's share, whose proof is kept with the request. Answers without a
/// credential are the same for all and take none.
fn held(
    request: &HttpRequest,
    context: Option<&Data<super::context::Context>>,
    bytes: usize,
) -> Result<Option<Held>> {
    let Some(context) = context else {
        return Ok(None);
    };
    let payer = request
        .extensions()
        .get::<Proof>()
        .map(|proof| Caller::of(proof).payer());
    let Some(payer) = payer else {
        return Ok(None);
    };
    let now = context.store.clock().now();
    match [Method::GET, Method::HEAD].contains(request.method()) {
        true => context.shares.hold(payer, bytes, now).map(Some),
        // The change has happened, and must be answered.
        false => Ok(Some(context.shares.hold_anyway(payer, bytes, now))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn who_takes_little_now_and_then_is_cut_off() {
        let minute = Duration::from_secs(60);
        for (taken_in, sent, is_too_slow) in [
            (Duration::ZERO, 0, false),
            (UNHURRIED, 0, false),
            (minute, 29 * PACE_MIN, true),
            (minute, 31 * PACE_MIN, false),
            (60 * minute, 4 << 20, true),
        ] {
            let clock = Clock::manual(Timestamp(0));
            let body = Outgoing {
                rest: Bytes::new(),
                sent,
                begun: clock.stopwatch(),
                sent_at: Instant::now(),
                stall: Duration::MAX,
                cut_off: CutOff::default(),
                has_yielded: true,
                _held: None,
                _under_way: None,
            };
            clock.advance_to(Timestamp(0) + taken_in);
            assert_eq!(
                body.is_too_slow(),
                is_too_slow,
                "{sent} bytes in {taken_in:?}"
            );
        }
    }
}
