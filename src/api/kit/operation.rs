//! The API's operations as data: method, path, handler, and documentation for its users.
//!
//! Each module of handlers lists its own; from the same list the routes are installed and the
//! OpenAPI document is made, so that the two cannot disagree. Bodies and answers are described by
//! the types that are read and written (`schemars`), doc comments and all.

use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{FromRequest, HttpRequest, HttpResponse, Resource, Route, guard, web};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::error::Failure;
use crate::error::{Error, Result};
use crate::misfit::{misspelled, not_known};
use crate::rules::caller::{Action, Caller};
use crate::rules::checks::Problems;

/// The longest body of an operation that does not say otherwise.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The longest bodies of operations with a limit of their own.
#[derive(Clone, Copy)]
pub struct BytesMax {
    pub message: usize,
    pub batch: usize,
}

pub struct Operation {
    pub method: Method,
    /// With `{parts}` in braces; answered with and without a slash at its end.
    pub path: &'static str,
    /// The contract's `operationId`, or one of the same form.
    pub id: &'static str,
    pub summary: &'static str,
    /// Details that do not fit into the summary; empty where there are none.
    pub description: &'static str,
    pub parameters: Vec<Parameter>,
    pub takes: Vec<Content>,
    /// A request without a body is taken, too.
    pub body_is_optional: bool,
    pub answers: Vec<AnswerSpec>,
    /// The body of every error, where it differs from the native API's.
    pub errors: Option<Content>,
    /// No credential is needed.
    pub open: bool,
    needs: Option<Needs>,
    body_bytes_max: usize,
    route: Route,
}

/// A parameter in the query or in a header.
#[derive(Clone)]
pub struct Parameter {
    pub name: &'static str,
    /// `query` or `header`.
    pub place: &'static str,
    pub says: &'static str,
    /// A JSON schema.
    pub schema: Value,
}

/// A body: its media type and its schema.
#[derive(Clone, Copy)]
pub struct Content {
    pub media_type: &'static str,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Content {
    /// Text whose form the media type says.
    pub fn text(media_type: &'static str) -> Content {
        Content {
            media_type,
            schema: |_| json_schema!({ "type": "string" }),
        }
    }

    /// A form with the fields of `T`.
    pub fn form<T: JsonSchema>(media_type: &'static str) -> Content {
        Content {
            media_type,
            ..Content::json::<T>()
        }
    }

    pub fn json<T: JsonSchema>() -> Content {
        Content {
            media_type: "application/json",
            schema: |generator| generator.subschema_for::<T>(),
        }
    }
}

pub struct AnswerSpec {
    pub status: u16,
    pub says: &'static str,
    pub content: Option<Content>,
}

impl Operation {
    pub fn new(method: Method, path: &'static str, id: &'static str, route: Route) -> Operation {
        Operation {
            method,
            path,
            id,
            summary: "",
            description: "",
            parameters: Vec::new(),
            takes: Vec::new(),
            body_is_optional: false,
            answers: Vec::new(),
            errors: None,
            open: false,
            needs: None,
            body_bytes_max: BODY_BYTES_MAX,
            route,
        }
    }

    pub fn get(path: &'static str, id: &'static str, route: Route) -> Operation {
        Operation::new(Method::GET, path, id, route)
    }

    pub fn post(path: &'static str, id: &'static str, route: Route) -> Operation {
        Operation::new(Method::POST, path, id, route)
    }

    pub fn put(path: &'static str, id: &'static str, route: Route) -> Operation {
        Operation::new(Method::PUT, path, id, route)
    }

    pub fn patch(path: &'static str, id: &'static str, route: Route) -> Operation {
        Operation::new(Method::PATCH, path, id, route)
    }

    pub fn delete(path: &'static str, id: &'static str, route: Route) -> Operation {
        Operation::new(Method::DELETE, path, id, route)
    }

    /// In one line, without a full stop.
    pub fn summary(self, summary: &'static str) -> Operation {
        Operation { summary, ..self }
    }

    pub fn description(self, description: &'static str) -> Operation {
        Operation {
            description,
            ..self
        }
    }

    pub fn parameters(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Operation {
        self.parameters.extend(parameters);
        self
    }

    /// A JSON body that must be there.
    pub fn takes<T: JsonSchema>(self) -> Operation {
        self.takes_content(Content::json::<T>())
    }

    /// A body of another media type; said once for each that can be chosen.
    pub fn takes_content(mut self, content: Content) -> Operation {
        self.takes.push(content);
        self
    }

    /// A JSON body that may be left out.
    pub fn may_take<T: JsonSchema>(mut self) -> Operation {
        self.body_is_optional = true;
        self.takes::<T>()
    }

    /// An answer with a JSON body.
    pub fn answers<T: JsonSchema>(self, status: u16, says: &'static str) -> Operation {
        self.answers_content(status, says, Some(Content::json::<T>()))
    }

    /// An answer without a body; an error has the one that errors have.
    pub fn answers_nothing(self, status: u16, says: &'static str) -> Operation {
        self.answers_content(status, says, None)
    }

    /// An answer with a body of another media type.
    pub fn answers_content(
        mut self,
        status: u16,
        says: &'static str,
        content: Option<Content>,
    ) -> Operation {
        self.answers.push(AnswerSpec {
            status,
            says,
            content,
        });
        self
    }

    /// Gives errors a body that differs from the native API's.
    pub fn errors<T: JsonSchema>(self) -> Operation {
        Operation {
            errors: Some(Content::json::<T>()),
            ..self
        }
    }

    /// Adds the `idempotency-key`: a POST that is repeated with the same key is not done twice.
    pub fn once(mut self) -> Operation {
        self.parameters.push(Parameter {
            name: "idempotency-key",
            place: "header",
            says: "A text of your own, such as a UUID, that makes it safe to send the request \
                   again: for 12 hours, the same key is answered as the first time and nothing is \
                   done twice.",
            schema: json!({
                "type": "string",
                "minLength": 1,
                "maxLength": super::extract::IDEMPOTENCY_KEY_BYTES_MAX,
            }),
        });
        self
    }

    /// Sets the action that a caller must be allowed to do, at least somewhere. A caller without it
    /// is told that before the problems of the query. Every operation that changes something has
    /// one.
    pub fn needs(self, action: Action) -> Operation {
        let needs = Some(Needs::Permission(action));
        Operation { needs, ..self }
    }

    /// Sets a check of the caller in place of an action, where no role decides.
    pub fn needs_to_be(self, one: fn(&Caller) -> Result<()>) -> Operation {
        let needs = Some(Needs::Caller(one));
        Operation { needs, ..self }
    }

    pub fn without_credential(self) -> Operation {
        Operation { open: true, ..self }
    }

    pub fn body_bytes_max(self, body_bytes_max: usize) -> Operation {
        Operation {
            body_bytes_max,
            ..self
        }
    }
}

/// The sections that the contract's clients do not know. In these, and in [`OURS`], the single
/// other operation that takes a query and that they do not know, a query with an unknown name is
/// refused. On all others that read, clients of another version may ask for parameters that we do
/// not know.
const OUR_SECTIONS: [&str; 6] = [
    "v1.token.",
    "v1.profile.",
    "v1.channel.",
    "v1.lane.",
    "v1.status.",
    "v1.session.",
];
const OURS: &str = "v1.endpoint.get-attempt-series";

impl Operation {
    fn is_ours(&self) -> bool {
        let in_section = OUR_SECTIONS
            .iter()
            .any(|section| self.id.starts_with(section));
        in_section || self.id == OURS
    }

    /// Whether a query with an unknown name is refused before anything is done: in the native API
    /// by every operation that changes something. Clients of other systems' surfaces may send
    /// parameters of their own.
    pub fn refuses_before(&self) -> bool {
        self.needs.is_some() || (self.open && self.method != Method::GET)
    }

    /// The parameters that a query may have.
    fn query_names(&self) -> Vec<&'static str> {
        let parameters = self.parameters.iter();
        let in_query = parameters.filter(|parameter| parameter.place == "query");
        in_query.map(|parameter| parameter.name).collect()
    }
}

/// The permission that a caller needs for an operation that changes something.
#[derive(Clone, Copy)]
enum Needs {
    Permission(Action),
    Caller(fn(&Caller) -> Result<()>),
}

impl Needs {
    fn are_met_by(self, caller: &Caller) -> Result<()> {
        match self {
            Needs::Permission(action) => caller.may_with_some(action),
            Needs::Caller(is_one) => is_one(caller),
        }
    }
}

/// Accepts every caller, for [`Operation::needs_to_be`].
pub fn anybody(_: &Caller) -> Result<()> {
    Ok(())
}

/// Returns the route for a query with an unknown name, in place of the operation's own: a change is
/// refused before it is made. A missing permission comes first.
fn refusing_route(operation: &Operation) -> Route {
    let known: Rc<[&'static str]> = operation.query_names().into();
    let needs = operation.needs;
    let is_refused = {
        let known = Rc::clone(&known);
        move |request: &guard::GuardContext<'_>| {
            let query = request.head().uri.query();
            query.is_some_and(|query| refuse_unknown_queries(query, &known).is_err())
        }
    };
    let route = web::method(operation.method.clone()).guard(guard::fn_guard(is_refused));
    route.to(move |request: HttpRequest| {
        let known = Rc::clone(&known);
        async move {
            if let Some(needs) = needs {
                let caller = Caller::extract(&request).await?;
                needs.are_met_by(&caller)?;
            }
            refuse_unknown_queries(request.query_string(), &known)?;
            // The guard has let nothing else come here.
            Err::<HttpResponse, Failure>(Error::Defect.into())
        }
    })
}

/// The route, which refuses a query with any other name in it.
fn only_known_queries(route: Route, known: Vec<&'static str>) -> Route {
    let known: Rc<[&'static str]> = known.into();
    route.wrap(from_fn(
        move |request: ServiceRequest, next: Next<BoxBody>| {
            let known = Rc::clone(&known);
            let query = request.query_string().to_owned();
            async move {
                let answer = next.call(request).await?;
                // Every other error comes first, a missing permission above all.
                if answer.status().is_success() {
                    refuse_unknown_queries(&query, &known).map_err(Failure::Of)?;
                }
                Ok(answer)
            }
        },
    ))
}

fn refuse_unknown_queries(query: &str, known: &[&str]) -> Result<()> {
    let mut problems = Problems::default();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if !known.contains(&&*name) {
            let meant = misspelled(&name, known.iter().copied());
            let message = not_known("parameter", meant);
            problems.add(&["query", &name], message);
        }
    }
    problems.done()
}

impl Parameter {
    pub fn query(name: &'static str, says: &'static str, schema: Value) -> Parameter {
        Parameter {
            name,
            place: "query",
            says,
            schema,
        }
    }

    pub fn flag(name: &'static str, default: bool, says: &'static str) -> Parameter {
        let schema = json!({ "type": "boolean", "default": default });
        Parameter::query(name, says, schema)
    }

    /// A flag that has no effect here, and the reason.
    pub fn flag_without_effect(
        name: &'static str,
        default: bool,
        reason: &'static str,
    ) -> Parameter {
        let schema = json!({ "type": "boolean", "default": default, "x-without-effect": reason });
        Parameter::query(name, "Taken for compatibility, and without effect.", schema)
    }
}

/// The resources of these operations, those with the same path as one; `prefix` is taken off their
/// paths.
pub fn resources(prefix: &str, operations: Vec<Operation>) -> Vec<Resource> {
    let all: Vec<(&'static str, Method)> = operations
        .iter()
        .map(|one| (one.path, one.method.clone()))
        .collect();
    let mut resources = Vec::new();
    let mut operations = operations.into_iter().peekable();
    while let Some(first) = operations.next() {
        let first_path = first.path;
        let mut same = vec![first];
        while let Some(next) = operations.next_if(|next| next.path == first_path) {
            same.push(next);
        }
        let path = first_path
            .strip_prefix(prefix)
            .expect("a surface's paths have its prefix");
        resources.push(resource(path, same, left_to_ids(&all, first_path)));
    }
    resources
}

/// Returns the methods that a fixed path leaves to a path with an id in its place: `GET
/// …/msg/batch` shows the message whose `eventId` is `batch`.
fn left_to_ids(all: &[(&'static str, Method)], path: &str) -> Vec<Method> {
    let own = |method: &Method| all.iter().any(|one| one.0 == path && one.1 == *method);
    let others = all.iter().filter(|(other, _)| takes_as_id(other, path));
    let methods = others.map(|(_, method)| method.clone());
    methods.filter(|method| !own(method)).collect()
}

/// Whether the other path has an id where this one has a fixed word, and is the same elsewhere.
fn takes_as_id(other: &str, path: &str) -> bool {
    let is_id = |part: &str| part.starts_with('{');
    let same_length = other.split('/').count() == path.split('/').count();
    let mut pairs = other.split('/').zip(path.split('/'));
    let fits = |(other, part): (&str, &str)| other == part || (is_id(other) && !is_id(part));
    same_length && other != path && pairs.all(fits)
}

/// Returns a path with its methods. HEAD is handled like GET. Any other method is answered with the
/// path's methods, except for methods that are left to a resource behind this one. The document has
/// those at that resource's path.
fn resource(path: &str, operations: Vec<Operation>, left: Vec<Method>) -> Resource {
    let names: Vec<&str> = operations.iter().map(|one| one.method.as_str()).collect();
    let allowed = names.join(", ");
    let longest = operations.iter().map(|one| one.body_bytes_max).max();
    let mut resource = web::resource(format!("{path}{{_slash:/?}}"))
        .app_data(web::PayloadConfig::new(longest.unwrap_or(BODY_BYTES_MAX)));
    if !left.is_empty() {
        resource = resource.guard(guard::fn_guard(move |request| {
            let method = match &request.head().method {
                &Method::HEAD => &Method::GET,
                method => method,
            };
            !left.contains(method)
        }));
    }
    for operation in operations {
        let is_ours = operation.is_ours() && operation.method == Method::GET;
        if operation.refuses_before() {
            resource = resource.route(refusing_route(&operation));
        }
        let known = operation.query_names();
        let route = match operation.method {
            Method::GET => operation
                .route
                .guard(guard::Any(guard::Get()).or(guard::Head())),
            method => operation.route.method(method),
        };
        resource = resource.route(match is_ours {
            true => only_known_queries(route, known),
            false => route,
        });
    }
    resource.default_service(web::to(move || {
        let failure = Failure::NoMethod(allowed.clone());
        async { Err::<HttpResponse, _>(failure) }
    }))
}
