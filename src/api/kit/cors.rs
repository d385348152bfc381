//! CORS: answers browsers that ask whether a page of another origin may call the native API.
//!
//! A credential is in a header that only the page itself can set. The cookie of a visit counts only
//! together with a header that no page of another origin may send. So any origin may call unless
//! `server.cors_origins` says otherwise. A request without `Origin`, as all that publish are, costs
//! one look at its headers.
//!
//! By hand and not by actix-cors: that refuses a preflight of an unknown origin, or for an unknown
//! header, with a 400 of its own, where this answers 204 without permissions. It also boxes the future
//! of every request, and needs a scope around all routes to leave other paths alone.

use std::future::Future;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderValue, ORIGIN, VARY,
};

/// The path of the native API. Only servers call the surfaces of other systems.
const PREFIX: &str = "/api/v1";

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// The request headers that callers may send; the SDKs add the `svix-` ones.
const HEADERS: &str = "authorization, content-type, idempotency-key, api-key, svix-req-id, \
                       svix-retry-count, user-agent, accept";

/// The answer's headers that a page may read.
const EXPOSED: &str = "retry-after, allow";

/// How long a browser remembers the answer, in seconds. Browsers remember it for a day at most.
const MAX_AGE: &str = "86400";

/// The origins that may call.
#[derive(Clone)]
pub struct Cors(Arc<[String]>);

/// The headers for an answer to a page.
struct Allowed {
    origin: HeaderValue,
    /// The answer depends on the origin.
    varies: bool,
}

impl Cors {
    pub fn new(origins: &[String]) -> Cors {
        Cors(origins.into())
    }

    /// Answers a browser's question, and adds to every other answer which origin may read it.
    pub fn around<S, B>(
        &self,
        request: ServiceRequest,
        service: &S,
    ) -> impl Future<Output = Result<ServiceResponse<EitherBody<B>>, actix_web::Error>> + use<S, B>
    where
        S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
        B: MessageBody,
    {
        let allowed = self.allowed(&request);
        let asks = request.method() == Method::OPTIONS
            && request.path().starts_with(PREFIX)
            && request.headers().contains_key(ORIGIN)
            && request
                .headers()
                .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let answering = match asks {
            true => Err(request),
            false => Ok(service.call(request)),
        };
        async move {
            let mut response = match answering {
                Ok(answer) => answer.await?.map_into_left_body(),
                Err(request) => {
                    let mut answer = HttpResponse::NoContent();
                    if allowed.is_some() {
                        answer
                            .insert_header((ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                            .insert_header((ACCESS_CONTROL_ALLOW_HEADERS, HEADERS))
                            .insert_header((ACCESS_CONTROL_MAX_AGE, MAX_AGE));
                    }
                    request.into_response(answer.finish()).map_into_right_body()
                }
            };
            if let Some(allowed) = allowed {
                allowed.put_in(response.headers_mut());
            }
            Ok(response)
        }
    }

    fn allowed(&self, request: &ServiceRequest) -> Option<Allowed> {
        let origin = request.headers().get(ORIGIN)?;
        if !request.path().starts_with(PREFIX) {
            return None;
        }
        if self.0.iter().any(|one| one == "*") {
            return Some(Allowed {
                origin: HeaderValue::from_static("*"),
                varies: false,
            });
        }
        let known = self.0.iter().any(|one| one.as_bytes() == origin.as_bytes());
        known.then(|| Allowed {
            origin: origin.clone(),
            varies: true,
        })
    }
}

impl Allowed {
    fn put_in(self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}
