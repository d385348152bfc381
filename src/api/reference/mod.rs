//! The documentation: `/openapi.json`, and the same for people at `/docs`, with the guides.
//!
//! All of it is made once, at the start, and is the same for everybody: no credential is needed.

use std::collections::BTreeMap;

use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use crate::api::kit::document::document;
use crate::api::kit::error::Failure;
use crate::api::kit::operation::{Content, Operation};
use crate::asset::Asset;
use crate::error::Error;

mod docs;
mod guide;
mod html;

/// The pages and documents of this module, ready to be sent.
pub struct Reference {
    document: Asset,
    /// By their paths.
    pages: BTreeMap<String, Asset>,
}

impl Reference {
    pub fn new(operations: &[Operation]) -> Reference {
        let document = document(operations);
        Reference::of(&document)
    }

    fn of(document: &Value) -> Reference {
        let pages = docs::pages(document)
            .into_iter()
            .map(|(name, html)| (name, Asset::with_policy(HTML, html, docs::policy())))
            .collect();
        let text = serde_json::to_string(document).expect("a JSON value is JSON");
        Reference {
            document: Asset::with_policy("application/json", text, docs::policy()),
            pages,
        }
    }
}

/// It is made once for every server of the process.
type Served = web::Data<&'static Reference>;

const HTML: &str = "text/html; charset=utf-8";

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/openapi.json", "server.openapi", web::to(openapi))
            .summary("Show the OpenAPI document")
            .description("This description of the API, for programs.")
            .answers::<BTreeMap<String, Value>>(200, "The document")
            .answers_nothing(304, "It is the one with the ETag given")
            .without_credential(),
        Operation::get("/docs", "server.docs", web::to(page))
            .summary("Read the documentation")
            .description("This description of the API, for people.")
            .answers_content(200, "The first page", Some(Content::text(HTML)))
            .answers_nothing(304, "It is the one with the ETag given")
            .without_credential(),
        Operation::get("/docs/{page}", "server.docs-page", web::to(page))
            .summary("Read a page of the API's reference")
            .answers_content(200, "The page", Some(Content::text(HTML)))
            .answers_nothing(304, "It is the one with the ETag given")
            .answers_nothing(404, "There is no such page")
            .without_credential(),
        Operation::get("/docs/guide/{page}", "server.docs-guide", web::to(page))
            .summary("Read a guide")
            .answers_content(200, "The page", Some(Content::text(HTML)))
            .answers_nothing(304, "It is the one with the ETag given")
            .answers_nothing(404, "There is no such page")
            .without_credential(),
    ]
}

async fn openapi(request: HttpRequest, reference: Served) -> HttpResponse {
    let mut response = reference.document.answer(&request);
    // The document holds nothing that a page of another origin must not have.
    let anyone = HeaderValue::from_static("*");
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, anyone);
    response
}

async fn page(request: HttpRequest, reference: Served) -> Result<HttpResponse, Failure> {
    let path = request.path().trim_end_matches('/');
    let page = reference.pages.get(path);
    Ok(page.ok_or(Error::not_found("page"))?.answer(&request))
}
