//! The parts of a request that handlers take, and their answers: the body within its limits, JSON
//! with the places of its problems, parts of the path, the idempotency key.
//!
//! A body is UTF-8 JSON, whatever its content type says. It is parsed once, fast. Only where that
//! fails it is read again by [`misfit::read`], which finds the problem and its place.

use std::borrow::Cow;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, web::Bytes};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, forward_to_deserialize_any};
use sha2::{Digest, Sha256};

use super::context::Context;
use super::error::Failure;
use super::fields::{self, Names};
use crate::error::{Error, Invalid, Result};
use crate::misfit::{self, Step};
use crate::rules::caller::Caller;
pub use crate::rules::patch::Patch;
use crate::store::{Answered, Once};

/// How long a body may take to arrive, however slowly it is sent: connections are limited.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer idempotency keys are refused: they are meant to be a UUID or so.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// A request's body, read whole. How long it may be is the route's `PayloadConfig`.
pub struct Body(pub Bytes);

impl FromRequest for Body {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Body, Failure>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let reading = Bytes::from_request(request, payload);
        let encoding = request.headers().get(CONTENT_ENCODING);
        let encoding =
            encoding.filter(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let encoded = encoding.map(|encoding| {
            let shown = encoding.to_str().unwrap_or("that is not text");
            Failure::Encoded(shown.chars().take(40).collect())
        });
        Box::pin(async move {
            if let Some(refused) = encoded {
                return Err(refused);
            }
            match tokio::time::timeout(BODY_TIMEOUT, reading).await {
                Ok(Ok(bytes)) => Ok(Body(bytes)),
                Ok(Err(error)) => Err(match error.as_error::<PayloadError>() {
                    Some(PayloadError::Overflow) => {
                        Failure::TooLarge("the body is longer than this path takes".to_owned())
                    }
                    _ => Failure::BrokenBody,
                }),
                Err(_) => Err(Failure::TooSlow),
            }
        })
    }
}

impl Body {
    /// Returns the JSON object in the body, or all reasons why it does not fit `T`. Names that `T`
    /// does not have are reported where `T` denies unknown fields.
    pub fn json<'a, T: Deserialize<'a> + JsonSchema>(&'a self) -> Result<T> {
        let text = std::str::from_utf8(&self.0).map_err(|error| {
            let message = format!("is not UTF-8 from byte {}", error.valid_up_to());
            invalid_body(Vec::new(), message, "value_error.jsondecode")
        })?;
        if text.trim_ascii().is_empty() {
            let message = "a JSON body is needed here".to_owned();
            return Err(invalid_body(Vec::new(), message, "missing"));
        }
        // serde would read an array as a struct's fields in their order.
        if !text.trim_ascii_start().starts_with('{') {
            let is_json = serde_json::from_str::<IgnoredAny>(text);
            return Err(match is_json {
                Ok(_) => invalid_body(Vec::new(), "must be a JSON object".to_owned(), "type_error"),
                Err(error) => broken_json(&error),
            });
        }
        serde_json::from_str(text).map_err(|error| {
            if !error.is_data() {
                return broken_json(&error);
            }
            // Text that is not JSON is the first problem, even if a misfit stands before the place
            // where it breaks.
            if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
                return broken_json(&error);
            }
            let unknown = fields::unknown::<T>(text, Names::Known);
            match unknown.is_empty() {
                true => misfit::<T>(text),
                false => Error::Invalid(unknown),
            }
        })
    }

    /// Like [`Body::json`], for a surface whose clients may send more than `T` knows: only names
    /// that look like misspelled ones are refused.
    pub fn json_of_others<'a, T: Deserialize<'a> + JsonSchema>(&'a self) -> Result<T> {
        let value = self.json::<T>()?;
        let text = std::str::from_utf8(&self.0).unwrap_or_default();
        match fields::unknown::<T>(text, Names::NotMisspelled) {
            misspelled if misspelled.is_empty() => Ok(value),
            misspelled => Err(Error::Invalid(misspelled)),
        }
    }

    /// Like [`Body::json`], where every field has a default: an absent body counts as an empty
    /// object.
    pub fn json_or_default<'a, T: Deserialize<'a> + JsonSchema + Default>(&'a self) -> Result<T> {
        match self.0.trim_ascii().is_empty() {
            true => Ok(T::default()),
            false => self.json(),
        }
    }

    /// Refuses a body with anything in it, for a request that says everything by its path. No body,
    /// null and an empty object count alike.
    pub fn nothing(&self) -> Result<()> {
        #[derive(Default, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        struct Nothing {}
        self.json_if_any::<Nothing>().map(|Nothing {}| ())
    }

    /// Like [`Body::json_or_default`], where null counts as an absent body, too.
    pub fn json_if_any<'a, T: Deserialize<'a> + JsonSchema + Default>(&'a self) -> Result<T> {
        match self.0.trim_ascii() {
            b"null" => Ok(T::default()),
            _ => self.json_or_default(),
        }
    }
}

pub fn invalid_body(place: Vec<String>, message: String, kind: &'static str) -> Error {
    let mut location = vec!["body".to_owned()];
    location.extend(place);
    Error::invalid(Invalid {
        location,
        message,
        kind: kind.into(),
    })
}

fn broken_json(error: &serde_json::Error) -> Error {
    invalid_body(
        Vec::new(),
        misfit::not_json(error),
        "value_error.jsondecode",
    )
}

/// Returns the problem of a body that is JSON and does not fit `T`, by reading it again.
fn misfit<'a, T: Deserialize<'a> + JsonSchema>(text: &'a str) -> Error {
    let mut json = serde_json::Deserializer::from_str(text);
    let Err(mut misfit) = misfit::read::<T>(&mut json) else {
        let message = "does not have the form that is needed here".to_owned();
        return invalid_body(Vec::new(), message, "type_error");
    };
    let (least, most) = fields::bounds::<T>(misfit.place());
    misfit.narrow(least, most);
    let place = misfit.place().iter().map(|step| match step {
        Step::Key(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    });
    let kind = match misfit.is_missing() {
        true => "missing",
        false => "type_error",
    };
    invalid_body(place.collect(), misfit.to_string(), kind)
}

/// Reads a field that is an object or null.
///
/// The `Deserialize` that serde derives would also take an array as the fields in their order.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(value.map(|Object(value)| value))
}

/// Like [`object`], for a field of a change.
pub fn object_patch<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Patch<T>, D::Error> {
    object(deserializer).map(Patch::given)
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        T::deserialize(AsMap(deserializer)).map(Object)
    }
}

/// A deserializer that gives a map, whatever the type asks for.
struct AsMap<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AsMap<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

impl<T: JsonSchema> JsonSchema for Patch<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Patch_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// A named part of the path, as given.
pub fn path_part<'a>(request: &'a HttpRequest, name: &str) -> &'a str {
    request
        .match_info()
        .get(name)
        .expect("the route's pattern has this part")
}

/// Returns the caller's wish that this request happens once, if it has an `idempotency-key`.
pub fn once(request: &HttpRequest, caller: &Caller, body: &Body) -> Result<Option<Once>> {
    Ok(once_key(request, caller)?.map(|key| Once {
        key,
        body: Sha256::digest(&body.0).into(),
    }))
}

/// Returns the key of [`once`] without the body, for long bodies.
pub fn once_key(request: &HttpRequest, caller: &Caller) -> Result<Option<[u8; 32]>> {
    let Some(key) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        return Err(Error::invalid(Invalid {
            location: vec!["header".to_owned(), "idempotency-key".to_owned()],
            message: format!("must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} characters"),
            kind: "value_error".into(),
        }));
    }
    let path = request.path().trim_end_matches('/');
    let mut scope: Vec<&[u8]> = vec![
        &caller.organisation.0,
        request.method().as_str().as_bytes(),
        path.as_bytes(),
        key.as_bytes(),
    ];
    // Webhook users, portal sessions and tokens limited to applications do not see the same things at
    // a path, so none is given another's answer.
    let own_view = caller.own_view();
    if let Some(token) = &own_view {
        scope.push(&token.0);
    }
    Ok(Some(scoped_key(&scope)))
}

/// Each part with its length before it, so that no two different lists hash the same bytes.
fn scoped_key(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// An answer in the form in which it is also kept for a repeated idempotency key.
pub fn answered(status: StatusCode, body: &impl Serialize) -> Answered {
    Answered {
        status: status.as_u16(),
        body: serde_json::to_vec(body).expect("our types have text keys and finite numbers"),
    }
}

pub fn respond(answered: Answered) -> HttpResponse {
    let status = StatusCode::from_u16(answered.status).unwrap_or(StatusCode::OK);
    if answered.body.is_empty() {
        return HttpResponse::new(status);
    }
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(answered.body)
}

pub fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    respond(answered(status, body))
}

pub fn no_content() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// Runs a read of history in the caller's turn, on a thread that may block. Publishing and
/// delivering never wait for one.
pub async fn reading<T: Send + 'static>(
    context: &Context,
    caller: &Caller,
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let now = context.store.clock().now();
    context.shares.read(caller.payer(), now, read).await
}

/// Runs long work on a thread where it holds no request up.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Error::Defect),
        Err(_) => Err(Error::Unavailable {
            reason: "the server is stopping".to_owned(),
            retry_after_seconds: 1,
        }),
    }
}

/// Ids and instants, as the API spells them: the types' own serde form is the store's.
pub fn text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub fn optional_text<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", default)]
    struct Example {
        rate: Patch<u16>,
        channels: Option<Vec<String>>,
        metadata: Option<BTreeMap<String, String>>,
    }

    fn parse(text: &str) -> Result<Example> {
        Body(Bytes::copy_from_slice(text.as_bytes())).json()
    }

    #[test]
    fn absent_is_not_null() {
        assert_eq!(parse("{}").unwrap().rate, Patch::Absent);
        assert_eq!(parse(r#"{"rate":null}"#).unwrap().rate, Patch::Null);
        assert_eq!(
            parse(r#"{"rate":7,"more":[1]}"#).unwrap().rate,
            Patch::Set(7)
        );
    }

    #[test]
    fn wrong_bodies_say_where_they_are_wrong() {
        for (text, location, kind) in [
            ("", vec!["body"], "missing"),
            (" \n", vec!["body"], "missing"),
            ("{", vec!["body"], "value_error.jsondecode"),
            (r#"{"rate": 1} x"#, vec!["body"], "value_error.jsondecode"),
            ("[]", vec!["body"], "type_error"),
            (r#"{"rate":"7"}"#, vec!["body", "rate"], "type_error"),
            (r#"{"rate":70000}"#, vec!["body", "rate"], "type_error"),
            (
                r#"{"channels":["a",2]}"#,
                vec!["body", "channels", "1"],
                "type_error",
            ),
            (
                r#"{"metadata":{"a.b":3}}"#,
                vec!["body", "metadata", "a.b"],
                "type_error",
            ),
        ] {
            let Err(Error::Invalid(problems)) = parse(text) else {
                panic!("{text} was taken");
            };
            assert_eq!(
                (problems[0].location.clone(), &*problems[0].kind),
                (location.into_iter().map(str::to_owned).collect(), kind),
                "{text}"
            );
        }
        let secret = parse(r#"{"metadata":"s3cret, expected"}"#).unwrap_err();
        assert_eq!(
            secret.to_string(),
            "body.metadata: must be an object, not a string"
        );
        let latin = Body(Bytes::from_static(b"{\"rate\": 1, \"\xe9\": 2}"));
        assert!(latin.json::<Example>().is_err(), "it is not UTF-8");
    }

    #[test]
    fn a_default_stands_for_no_body_and_not_for_a_broken_one() {
        let body = |text: &str| Body(Bytes::copy_from_slice(text.as_bytes()));
        assert!(body("").json_or_default::<Example>().is_ok());
        assert!(body("nonsense").json_or_default::<Example>().is_err());
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let key = |parts: &[&str]| {
            let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            scoped_key(&parts)
        };
        assert_ne!(key(&["POST", "/a", "b"]), key(&["POST", "/ab", ""]));
        assert_ne!(key(&["a", "b"]), key(&["b", "a"]));
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
    }

    async fn length(body: Body) -> String {
        body.0.len().to_string()
    }

    #[actix_web::test]
    async fn a_body_has_the_length_of_its_route() {
        use actix_web::test::{TestRequest, call_service, init_service, read_body};
        use actix_web::{App, web};
        let app = App::new()
            .app_data(web::PayloadConfig::new(4))
            .service(web::resource("/short").route(web::post().to(length)))
            .service(
                web::resource("/long")
                    .app_data(web::PayloadConfig::new(8))
                    .route(web::post().to(length)),
            );
        let app = init_service(app).await;
        for (path, bytes, declared, status) in [
            ("/short", 4, false, 200),
            ("/short", 5, false, 413),
            ("/short", 5, true, 413),
            ("/long", 8, true, 200),
            ("/long", 9, true, 413),
        ] {
            let mut request = TestRequest::post().uri(path).set_payload(vec![b'x'; bytes]);
            if declared {
                request = request.insert_header(("content-length", bytes.to_string()));
            }
            let response = call_service(&app, request.to_request()).await;
            assert_eq!(response.status().as_u16(), status, "{bytes} to {path}");
            if status == 413 {
                let body: serde_json::Value =
                    serde_json::from_slice(&read_body(response).await).unwrap();
                assert_eq!(body["code"], "payload_too_large");
            }
        }
    }

    #[derive(Deserialize, JsonSchema)]
    struct Wrapper<'a> {
        #[serde(borrow)]
        payload: &'a RawValue,
    }

    proptest! {
        /// Whatever stands around it, the payload's bytes are a slice of the body: nothing of
        /// it is copied or spelled differently.
        #[test]
        fn a_payload_is_a_slice_of_its_body(
            before in "[ \\n\\t]{0,5}",
            key in "[a-zA-Z\\u{e9}\\u{1f600} ]{0,10}",
            number in "-?[1-9][0-9]{0,3}\\.[0-9]{1,4}0",
            after in "[ \\n\\t]{0,5}",
        ) {
            let payload = format!("{{{before}\"{key}\":{number}{after}}}");
            let body = Body(Bytes::from(format!("{before}{{\"other\":1,\"payload\":{before}{payload}{after}}}")));
            let wrapper: Wrapper<'_> = body.json().unwrap();
            let slice = body.0.slice_ref(wrapper.payload.get().as_bytes());
            prop_assert_eq!(&slice[..], payload.as_bytes());
            let range = body.0.as_ptr_range();
            prop_assert!(range.contains(&slice.as_ptr()));
        }

        #[test]
        fn any_bytes_are_taken_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Body(Bytes::from(bytes)).json::<Example>();
        }
    }
}
