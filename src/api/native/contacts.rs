//! An application's contact, who hears by e-mail of its endpoints: `/api/v1/app/{app_id}/contact`. An addition
//! to the contract.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, answered, json, optional_text};
use crate::api::kit::operation::Operation;
use crate::clock::Timestamp;
use crate::domain::contact::{address_problem, is_code};
use crate::domain::email;
use crate::error::Result;
use crate::rules::caller::Action;
use crate::rules::checks::Problems;
use crate::rules::contacts::{DeleteContact, SetContact, ShownContact, VerifyContact, contact};
use crate::store::Answered;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
struct ContactIn {
    /// An e-mail address, such as `ops@acme.example`.
    #[schemars(with = "String", length(max = email::BYTES_MAX), extend("format" = "email"))]
    address: Option<String>,
    /// True: the address needs no code, because the caller answers for it. For those who may change the
    /// application itself.
    verified: Option<bool>,
}

impl ContactIn {
    fn checked(self, application: String) -> Result<SetContact> {
        let mut problems = Problems::default();
        match &self.address {
            Some(address) => problems.add_if(&["body", "address"], address_problem(address)),
            None => problems.missing(&["body", "address"]),
        }
        problems.done()?;
        Ok(SetContact {
            application,
            address: self.address.unwrap_or_default(),
            verified: self.verified == Some(true),
        })
    }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["code"]))]
struct ContactCodeIn {
    /// The six digits that were mailed.
    #[schemars(with = "String", regex(pattern = "^[0-9]{6}$"))]
    code: Option<String>,
}

impl ContactCodeIn {
    fn checked(self, application: String) -> Result<VerifyContact> {
        let mut problems = Problems::default();
        match &self.code {
            Some(code) if !is_code(code) => problems.add(&["body", "code"], "must be six digits"),
            Some(_) => {}
            None => problems.missing(&["body", "code"]),
        }
        problems.done()?;
        let code = self.code.unwrap_or_default();
        Ok(VerifyContact { application, code })
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ContactOut<'a> {
    /// Null where the application has no contact.
    address: Option<&'a str>,
    /// Only a verified address gets mails about endpoints.
    verified: bool,
    #[serde(serialize_with = "optional_text")]
    verified_at: Option<Timestamp>,
    /// Until when the code that was asked for last can be given back; null where none counts.
    #[serde(serialize_with = "optional_text")]
    code_expires_at: Option<Timestamp>,
    /// How often that code can still be tried.
    code_tries_left: u32,
    /// When another code can be asked for; null where that is now.
    #[serde(serialize_with = "optional_text")]
    next_code_at: Option<Timestamp>,
}

impl<'a> From<&'a ShownContact> for ContactOut<'a> {
    fn from(contact: &'a ShownContact) -> Self {
        ContactOut {
            address: contact.address.as_deref(),
            verified: contact.verified_at.is_some(),
            verified_at: contact.verified_at,
            code_expires_at: contact.code.map(|code| code.expires_at),
            code_tries_left: contact.code.map_or(0, |code| code.tries_left),
            next_code_at: contact.next_code_at,
        }
    }
}

fn shown(contact: ShownContact) -> Answered {
    answered(StatusCode::OK, &ContactOut::from(&contact))
}

const NONE: &str = "The application has no contact, or there is no such application";

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    const PATH: &str = "/api/v1/app/{app_id}/contact";
    vec![
        Operation::get(PATH, "v1.application.get-contact", web::to(get))
            .summary("Show who hears of an application's endpoints")
            .answers::<ContactOut>(200, "The contact; without an `address` where there is none"),
        Operation::put(PATH, "v1.application.set-contact", web::to(put))
            .needs(Action::ChangeContact)
            .summary("Set who hears of an application's endpoints")
            .description(
                "An e-mail address, to which the server writes when an endpoint of the application fails. It \
                 is mailed a code of six digits first, and nothing else until that comes back. The same \
                 request again asks for another code: one a minute, five an hour for an application. An \
                 address that is verified already is left as it is.",
            )
            .takes::<ContactIn>()
            .answers::<ContactOut>(200, "Set; a code is mailed where the address is not verified")
            .answers_nothing(
                409,
                "The server sends no e-mail (`notify.smtp_host`), so it can mail no code",
            )
            .answers_nothing(
                429,
                "Too many codes for this application; `retry-after` says when there can be another",
            ),
        Operation::delete(PATH, "v1.application.delete-contact", web::to(delete))
            .needs(Action::ChangeContact)
            .summary("Remove who hears of an application's endpoints")
            .description("Nothing is mailed about the application's endpoints any more.")
            .answers_nothing(204, "Removed")
            .answers_nothing(404, NONE),
        Operation::post(
            "/api/v1/app/{app_id}/contact/verify",
            "v1.application.verify-contact",
            web::to(verify),
        )
        .needs(Action::ChangeContact)
        .summary("Verify a contact by its code")
        .description(
            "A code counts for 30 minutes and can be tried 5 times; another one replaces it. A contact that is \
             verified already is answered as it is, whatever the code.",
        )
        .takes::<ContactCodeIn>()
        .answers::<ContactOut>(200, "Verified")
        .answers_nothing(404, NONE)
        .answers_nothing(409, "No code counts any more: ask for another one")
        .answers_nothing(422, "The code is not the one that was mailed last"),
    ]
}

async fn get(call: Call) -> Reply {
    let (application, now) = (call.path("app_id"), call.now());
    let contact = contact(&call.caller, &call.catalog(), application, now)?;
    Ok(json(StatusCode::OK, &ContactOut::from(&contact)))
}

/// The application that the path names, where the caller may change its contact.
fn application(call: &Call) -> Result<String> {
    let path = call.path("app_id");
    call.caller
        .application(&call.catalog(), path, Action::ChangeContact)?;
    Ok(path.to_owned())
}

async fn put(call: Call, body: Body) -> Reply {
    let application = application(&call)?;
    let command = body.json::<ContactIn>()?.checked(application)?;
    call.show(command, shown).await
}

async fn verify(call: Call, body: Body) -> Reply {
    let application = application(&call)?;
    let command = body.json::<ContactCodeIn>()?.checked(application)?;
    let verified = call.decide(command).await?.into_result()?;
    Ok(json(StatusCode::OK, &ContactOut::from(&verified)))
}

async fn delete(call: Call) -> Reply {
    let application = application(&call)?;
    call.done(DeleteContact { application }).await
}
