//! An endpoint, a message and a profile → the request that is sent.
//!
//! `Sender` calls it for each attempt. This is the hot path: the parts that all requests of an endpoint
//! have in common are made once and kept until the endpoint changes, and a profile that has only the
//! headers of Standard Webhooks renders no template. Pure, but for that memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::Uri;
use actix_web::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName,
    HeaderValue, HttpDate, USER_AGENT,
};
use actix_web::web::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::SendSettings;
use super::profile::{CompiledProfile, Unrendered};
use super::scope::{ScopedAttempt, TemplateScope};
use super::sign::Signer;
use super::signature::Keys;
use super::target::Target;
use super::trace::failure;
use super::transformation::{self, CompiledTransformation};
use crate::clock::Timestamp;
use crate::domain::attempt::{FailureKind, SendFailure};
use crate::domain::endpoint::{BasicAuth, Endpoint, is_sensitive};
use crate::domain::header::{belongs_to_http, is_reserved};
use crate::domain::message::Message;
use crate::domain::profile::Method;
use crate::domain::transformation::TransformationFault;
use crate::domain::verification;

pub const PRODUCT: &str = concat!("postrider/", env!("CARGO_PKG_VERSION"));

/// Endpoints whose common part is kept; at one to two KiB each.
const ENDPOINTS_KEPT: usize = 4096;

/// Shown in place of a secret.
pub const MASK: &str = "***";

/// A request, ready to be sent.
pub struct Request {
    /// By which its answer is judged.
    pub profile: Arc<CompiledProfile>,
    pub timeout: Duration,
    pub method: Method,
    /// As the log shows it.
    pub url: String,
    pub https: bool,
    /// Always `http://`: TLS is the connector's.
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// The headers as the log shows them.
    pub shown: Vec<(String, String)>,
}

/// Why there is no request.
#[derive(Debug)]
pub struct NotSendable {
    pub failure: SendFailure,
    /// The message itself does not fit the profile, and waiting cannot change it. A missing secret
    /// or an unfit URL may be mended at the endpoint while the delivery waits.
    pub is_final: bool,
    /// Where it is the transformation's, which the endpoint's owner may mend.
    pub fault: Option<TransformationFault>,
}

impl From<SendFailure> for NotSendable {
    fn from(failure: SendFailure) -> NotSendable {
        NotSendable {
            failure,
            is_final: false,
            fault: None,
        }
    }
}

impl From<Unrendered> for NotSendable {
    fn from(unrendered: Unrendered) -> NotSendable {
        NotSendable {
            failure: unrendered.into(),
            is_final: true,
            fault: None,
        }
    }
}

impl From<TransformationFault> for NotSendable {
    fn from(fault: TransformationFault) -> NotSendable {
        NotSendable {
            failure: transformation::failure(&fault),
            is_final: false,
            fault: Some(fault),
        }
    }
}

pub struct Renderer {
    settings: Arc<SendSettings>,
    kept: RefCell<HashMap<u64, Rc<Prepared>>>,
}

/// The parts that all requests of an endpoint have in common.
pub struct Prepared {
    /// The endpoint that it was made from. A changed endpoint is another one in memory, so these parts
    /// can never be older than the endpoint.
    endpoint: Arc<Endpoint>,
    profile: Arc<CompiledProfile>,
    transformation: Option<CompiledTransformation>,
    is_templated: bool,
    timeout: Duration,
    method: Method,
    has_body: bool,
    target: Target,
    headers: Headers,
    /// Of the secrets, newest first: whether each fits the profile, and until when it counts.
    secrets: Vec<(bool, Option<Timestamp>)>,
    signer: Signer,
    /// By the profile's signatures.
    keys: Vec<Keys>,
}

/// Headers as they are sent, and as they are shown.
#[derive(Clone, Default)]
struct Headers {
    sent: HeaderMap,
    shown: Vec<(String, String)>,
}

impl Renderer {
    pub fn new(settings: Arc<SendSettings>) -> Renderer {
        Renderer {
            settings,
            kept: RefCell::default(),
        }
    }

    /// The request for this message, signed at the time `now`.
    pub fn render(
        &self,
        endpoint: &Arc<Endpoint>,
        message: &Arc<Message>,
        attempt_number: u32,
        now: Timestamp,
    ) -> Result<Request, NotSendable> {
        self.prepared(endpoint)?.request(message, now, || {
            TemplateScope::of_attempt(ScopedAttempt {
                message: message.clone(),
                endpoint: endpoint.clone(),
                number: attempt_number,
                now,
                server_url: self.settings.server_url.clone(),
            })
        })
    }

    /// The request for a challenge. Its parts are not kept, because the endpoint changes with the
    /// outcome.
    pub fn challenge(
        &self,
        endpoint: &Arc<Endpoint>,
        message: &Arc<Message>,
        now: Timestamp,
    ) -> Result<Request, SendFailure> {
        let prepared = Prepared::new(endpoint, &self.settings).map_err(|error| error.failure)?;
        let scope = TemplateScope::of_attempt(ScopedAttempt {
            message: message.clone(),
            endpoint: endpoint.clone(),
            number: 1,
            now,
            server_url: self.settings.server_url.clone(),
        });
        prepared.challenge(message, now, scope)
    }

    fn prepared(&self, endpoint: &Arc<Endpoint>) -> Result<Rc<Prepared>, NotSendable> {
        if let Some(prepared) = self.kept.borrow().get(&endpoint.number)
            && Arc::ptr_eq(&prepared.endpoint, endpoint)
        {
            return Ok(prepared.clone());
        }
        let prepared = Rc::new(Prepared::new(endpoint, &self.settings)?);
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= ENDPOINTS_KEPT {
            kept.clear();
        }
        kept.insert(endpoint.number, prepared.clone());
        Ok(prepared)
    }
}

impl Prepared {
    pub fn new(endpoint: &Arc<Endpoint>, settings: &SendSettings) -> Result<Prepared, NotSendable> {
        let profile = settings.profile(endpoint).map_err(|name| {
            not_sendable(format!(
                "The endpoint's profile {name:?} is not configured."
            ))
        })?;
        let target = Target::parse(&endpoint.url).map_err(not_sendable)?;
        if settings.https_only && !target.https {
            return Err(not_sendable("The URL is http, and only https is allowed.").into());
        }
        let transformation = compiled_transformation(endpoint, profile, settings)?;
        let changes = transformation.as_ref();
        let method = changes
            .and_then(|one| one.method)
            .unwrap_or_else(|| profile.method(endpoint.method));
        let has_body = profile.has_body(method)
            || (method != Method::Get && changes.is_some_and(CompiledTransformation::makes_body));
        // A secret from the time of another profile is not one to sign with.
        let form = profile.settings.secret_form();
        let (mut secrets, mut fitting) = (Vec::new(), Vec::new());
        for one in &endpoint.secrets {
            let fits = one.secret.fits(form);
            secrets.push((fits, one.expires_at));
            fitting.extend(fits.then(|| one.clone()));
        }
        Ok(Prepared {
            endpoint: endpoint.clone(),
            is_templated: profile.is_templated() || changes.is_some(),
            timeout: settings.timeout(endpoint, profile),
            method,
            has_body,
            headers: common_headers(endpoint, profile, changes, &target, has_body)?,
            secrets,
            signer: Signer::new(&fitting),
            keys: profile
                .signatures
                .iter()
                .map(|signature| signature.keys(&fitting))
                .collect(),
            profile: profile.clone(),
            transformation,
            target,
        })
    }

    /// The request for a message; the scope is made only if there are templates.
    pub fn request(
        &self,
        message: &Message,
        now: Timestamp,
        scope: impl FnOnce() -> TemplateScope,
    ) -> Result<Request, NotSendable> {
        self.check_secret(now)?;
        let mut request = Request {
            profile: self.profile.clone(),
            timeout: self.timeout,
            method: self.method,
            url: String::new(),
            https: self.target.https,
            uri: self.target.uri.clone(),
            headers: HeaderMap::new(),
            body: self.has_body.then(|| message.payload.clone().into()),
            shown: Vec::new(),
        };
        let mut headers = self.headers.with_room_for(8);
        if self.is_templated {
            self.render_templates(scope(), &mut request, &mut headers, now)?;
        }
        // The publisher's content type belongs to the published bytes, if these are sent.
        if let Some(content_type) = &message.content_type
            && self.has_body
            && !self.profile.makes_body()
            && !self
                .transformation
                .as_ref()
                .is_some_and(|one| one.makes_body() || one.content_type.is_some())
        {
            headers.replace(&CONTENT_TYPE, content_type.clone())?;
        }
        if !message.headers.is_empty() {
            headers.add_of_message(message)?;
        }
        if request.url.is_empty() {
            request.url.push_str(&self.endpoint.url);
        }
        let body = request.body.as_deref().unwrap_or_default();
        self.add_standard_signature(&mut headers, message, body, now)?;
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(now.as_seconds()));
        headers.add(&DATE, date.to_string(), false)?;
        if self.method != Method::Get {
            // The client adds this one itself.
            headers.show(&CONTENT_LENGTH, body.len().to_string());
        }
        request.headers = headers.sent;
        request.shown = headers.shown;
        Ok(request)
    }

    /// A POST of the payload as it is to the endpoint's own URL. It has the profile's signatures, but for
    /// those of values that only messages have.
    fn challenge(
        &self,
        message: &Message,
        now: Timestamp,
        scope: TemplateScope,
    ) -> Result<Request, SendFailure> {
        self.check_secret(now)?;
        let body = Bytes::from(message.payload.clone());
        let scope = scope.with_body(body.clone());
        let mut headers = self.headers.with_room_for(8);
        headers.replace(&CONTENT_TYPE, "application/json".to_owned())?;
        self.add_standard_signature(&mut headers, message, &body, now)?;
        let signatures = self.profile.signatures.iter().zip(&self.keys);
        for (index, (signature, keys)) in signatures.enumerate() {
            let value = self
                .profile
                .render_signature(index, keys, &scope, &body, now);
            if let Ok(Some(value)) = value {
                headers.add(&signature.header, value, signature.is_sensitive)?;
            }
        }
        Ok(Request {
            profile: self.profile.clone(),
            timeout: self.timeout.min(verification::TIMEOUT_MAX),
            method: Method::Post,
            url: self.endpoint.url.clone(),
            https: self.target.https,
            uri: self.target.uri.clone(),
            headers: headers.sent,
            body: Some(body),
            shown: headers.shown,
        })
    }

    fn add_standard_signature(
        &self,
        headers: &mut Headers,
        message: &Message,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SendFailure> {
        if let Some(standard) = &self.profile.standard {
            let id = message.id.to_string();
            let signature = self.signer.sign(&id, now, body);
            let timestamp = now.as_seconds().to_string();
            headers.add(&standard.id, id, standard.is_sensitive)?;
            headers.add(&standard.timestamp, timestamp, standard.is_sensitive)?;
            headers.add(&standard.signature, signature, standard.is_sensitive)?;
        }
        Ok(())
    }

    /// Whether the newest of the live secrets can sign. Older ones that cannot are left out.
    fn check_secret(&self, now: Timestamp) -> Result<(), SendFailure> {
        if !self.profile.signs() {
            return Ok(());
        }
        let is_live = |expires_at: Option<Timestamp>| expires_at.is_none_or(|end| end > now);
        match self
            .secrets
            .iter()
            .find(|(_, expires_at)| is_live(*expires_at))
        {
            Some((true, _)) => Ok(()),
            Some((false, _)) => Err(not_sendable(
                "The endpoint's secret does not fit its profile.",
            )),
            None => Err(not_sendable("The endpoint has no signing secret.")),
        }
    }

    /// Everything that the profile has beyond the headers of Standard Webhooks.
    fn render_templates(
        &self,
        mut scope: TemplateScope,
        request: &mut Request,
        headers: &mut Headers,
        now: Timestamp,
    ) -> Result<(), NotSendable> {
        let profile = &self.profile;
        let body = || match &request.body {
            Some(published) => profile.render_body(&scope, published).map(Some),
            None => Ok(None),
        };
        let body = match &self.transformation {
            None => body()?,
            Some(transformation) => {
                let made = transformation.render(&scope, self.has_body, body)??;
                for (header, value) in transformation.headers.iter().zip(made.headers) {
                    headers.replace(&header.name, value)?;
                }
                made.body
            }
        };
        if let Some(body) = body {
            scope = scope.with_body(body.clone());
            request.body = Some(body);
        }
        if let Some((url, uri)) = profile.render_url(&scope, &self.target)? {
            (request.url, request.uri) = (url, uri);
        }
        for header in profile.render_headers(&scope) {
            let (header, value) = header?;
            headers.add(&header.name, value, header.is_sensitive)?;
        }
        let body = request.body.as_deref().unwrap_or_default();
        for (index, (signature, keys)) in profile.signatures.iter().zip(&self.keys).enumerate() {
            let value = profile.render_signature(index, keys, &scope, body, now)?;
            let value = value.ok_or_else(|| not_sendable("The endpoint has no signing secret."))?;
            headers.add(&signature.header, value, signature.is_sensitive)?;
        }
        Ok(())
    }
}

/// The endpoint's transformation. One that the operator does not allow any more is an error: the endpoint's
/// receiver counts on it, and may not be meant to see what it leaves out.
fn compiled_transformation(
    endpoint: &Endpoint,
    profile: &CompiledProfile,
    settings: &SendSettings,
) -> Result<Option<CompiledTransformation>, NotSendable> {
    let Some(transformation) = endpoint.transformation() else {
        return Ok(None);
    };
    if !settings.transformations || !profile.settings.transformations {
        let detail = "The endpoint has a transformation, and the server does not offer \
                      transformations to it any more.";
        return Err(not_sendable(detail).into());
    }
    CompiledTransformation::compile(
        transformation,
        transformation::content_type(endpoint, profile),
        settings.payload_bytes,
        settings.header_value_bytes,
    )
    .map(Some)
    .map_err(|faults| match faults.into_iter().next() {
        Some(fault) => fault.into(),
        None => not_sendable("The transformation cannot be compiled.").into(),
    })
}

/// The headers that do not depend on the message, in the order of their names.
fn common_headers(
    endpoint: &Endpoint,
    profile: &CompiledProfile,
    transformation: Option<&CompiledTransformation>,
    target: &Target,
    has_body: bool,
) -> Result<Headers, SendFailure> {
    let mut headers = Headers::default();
    headers.add(&HOST, target.host.clone(), false)?;
    // Common rules of web application firewalls refuse a request without `accept`.
    for (name, value) in [(ACCEPT, "*/*"), (USER_AGENT, PRODUCT)] {
        if !profile.sets_header(&name) {
            headers.add(&name, value.to_owned(), false)?;
        }
    }
    if has_body {
        let own = transformation.and_then(|one| one.content_type.as_ref());
        let content_type = own.unwrap_or(&profile.settings.content_type).clone();
        headers.add(&CONTENT_TYPE, content_type, false)?;
    }
    if let Some(BasicAuth { username, password }) = &endpoint.basic_auth {
        let credentials = STANDARD.encode(format!("{username}:{password}"));
        headers.add(&AUTHORIZATION, format!("Basic {credentials}"), true)?;
    }
    let visible = endpoint.headers.iter().map(|pair| (pair, false));
    let hidden = endpoint.auth_headers.iter().map(|pair| (pair, true));
    for ((name, value), hide) in visible.chain(hidden) {
        let name = HeaderName::try_from(name.as_str())
            .map_err(|_| not_sendable("The name of a header cannot be sent."))?;
        let is_ours = match name {
            CONTENT_TYPE => {
                !has_body || transformation.is_some_and(|one| one.content_type.is_some())
            }
            _ => {
                belongs_to_http(name.as_str())
                    || profile.sets_header(&name)
                    || transformation.is_some_and(|one| one.sets_header(&name))
            }
        };
        if !is_ours {
            // The endpoint's own replace the credentials and the media type.
            headers.shown.retain(|(shown, _)| shown != name.as_str());
            let hide = hide || is_sensitive(name.as_str());
            headers.add(&name, value.clone(), hide)?;
        }
    }
    headers.shown.sort();
    Ok(headers)
}

impl Headers {
    fn with_room_for(&self, more: usize) -> Headers {
        let mut shown = Vec::with_capacity(self.shown.len() + more);
        shown.extend_from_slice(&self.shown);
        Headers {
            sent: self.sent.clone(),
            shown,
        }
    }

    /// Adds a header, in place of any that is sent with that name.
    fn add(&mut self, name: &HeaderName, value: String, hide: bool) -> Result<(), SendFailure> {
        let mut sent = HeaderValue::try_from(value.as_str())
            .map_err(|_| not_sendable(format!("The value of the header {name} cannot be sent.")))?;
        sent.set_sensitive(hide);
        self.sent.insert(name.clone(), sent);
        self.show(name, if hide { MASK.to_owned() } else { value });
        Ok(())
    }

    /// Adds the headers of the message itself. Those that the endpoint or its profile has stay.
    fn add_of_message(&mut self, message: &Message) -> Result<(), SendFailure> {
        for (name, value) in &message.headers {
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| not_sendable("The name of a header cannot be sent."))?;
            if !self.sent.contains_key(&name) && !is_reserved(name.as_str()) {
                self.add(&name, value.clone(), is_sensitive(name.as_str()))?;
            }
        }
        Ok(())
    }

    /// The same where one of that name may be there.
    fn replace(&mut self, name: &HeaderName, value: String) -> Result<(), SendFailure> {
        self.shown.retain(|(shown, _)| shown != name.as_str());
        self.add(name, value, false)
    }

    fn show(&mut self, name: &HeaderName, value: String) {
        self.shown.push((name.as_str().to_owned(), value));
    }
}

fn not_sendable(detail: impl Into<String>) -> SendFailure {
    failure(FailureKind::NotSendable, detail)
}
