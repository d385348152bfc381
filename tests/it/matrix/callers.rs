//! Who calls: somebody of each role, with each kind of credential.

use std::collections::BTreeSet;
use std::rc::Rc;

use awc::http::Method;
use postrider::catalog::{Catalog, Change};
use postrider::domain::id::{ApplicationId, OrganisationId};
use postrider::domain::token::{self as domain, Token};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::table::SCOPES;
use super::world::{Place, Things};
use crate::jwt;
use crate::support::{Planned, Receiver, Server, together};

#[derive(Clone, Debug)]
pub enum Role {
    Owner,
    Publisher,
    WebhookAdmin,
    /// Granted an endpoint and its application.
    WebhookUser,
    /// Granted an endpoint alone.
    WebhookUserOfEndpoint,
    Application,
    SignedApplication,
    Viewer,
    /// A link to the portal, with these capabilities.
    Session(Vec<&'static str>),
    /// Without a credential that holds.
    Nobody,
}

/// What a token is limited to, beside its role.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// The only scope that it has.
    pub scope: Option<&'static str>,
    /// It is for its place's application alone.
    pub is_of_application: bool,
}

pub type Headers = Vec<(&'static str, String)>;

pub struct Caller {
    pub name: String,
    pub role: Role,
    pub limits: Limits,
    /// The headers with the credential.
    pub credential: Headers,
    /// What is its own.
    pub place: Rc<Place>,
    /// Nothing is: the place is one of others, too.
    pub has_nothing: bool,
    pub foreign: Vec<Foreign>,
}

/// What is not the caller's, as far as it is not.
pub struct Foreign {
    pub name: &'static str,
    pub is_of_same_organisation: bool,
    pub things: Things,
    /// What no answer to the caller may have.
    pub hidden: Vec<String>,
}

impl Foreign {
    fn new(name: &'static str, things: Things, private: &[String]) -> Foreign {
        let ids = things
            .iter()
            .filter(|(kind, _)| !["profile", "page", "guide"].contains(kind));
        let names = ids.flat_map(|(_, names)| names);
        // Short ones are numbers, which stand for many things.
        let names = names.filter(|name| name.len() > 8).cloned();
        Foreign {
            name,
            is_of_same_organisation: true,
            hidden: names.chain(private.iter().cloned()).collect(),
            things,
        }
    }

    /// Whether it is in another application than what is the caller's own.
    pub fn is_apart(&self) -> bool {
        self.things.contains_key("application")
    }

    /// All of a place in another organisation.
    fn place(name: &'static str, place: &Place) -> Foreign {
        let mut private = place.private.clone();
        private.extend([place.flagged.clone(), format!("second.{}", place.label)]);
        Foreign {
            is_of_same_organisation: false,
            ..Foreign::new(name, place.things.clone(), &private)
        }
    }

    /// Another application of the same organisation, whose event types all know.
    fn application(place: &Place) -> Foreign {
        let mut things = place.things.clone();
        things.remove("event type");
        // What describes an event type is for all, too.
        let note = format!("note-of-{}", place.label);
        let private: Vec<String> = place
            .private
            .iter()
            .filter(|one| **one != note)
            .cloned()
            .collect();
        Foreign::new("another application", things, &private)
    }

    fn ungranted(place: &Place) -> Foreign {
        Foreign::new(
            "an endpoint that was not granted",
            place.second.clone(),
            &[],
        )
    }

    fn flagged(place: &Place) -> Foreign {
        let things = Things::from([("event type", vec![place.flagged.clone()])]);
        Foreign::new("an event type with a flag", things, &[])
    }
}

/// Everybody, and the places whose owners must find nothing changed: that of another organisation and
/// that of another application.
pub struct World {
    pub callers: Vec<Caller>,
    pub theirs: Rc<Place>,
    pub neighbour: Rc<Place>,
}

const SESSIONS: [&[&str]; 7] = [
    &["ViewBase"],
    &["ViewEndpointSecret"],
    &["ManageEndpointSecret"],
    &["ManageTransformations"],
    &["CreateAttempts"],
    &["ManageEndpoint"],
    &["ManageEndpoint", "CreateAttempts"],
];

/// Who changes things has a place of its own.
const CHANGE: [&str; 20] = [
    "owner",
    "owner at the console",
    "signed owner",
    "webhook admin",
    "webhook user",
    "webhook user of an endpoint",
    "application",
    "API key by link",
    "owner with the scope endpoints",
    "owner with the scope applications",
    "owner with the scope event_types",
    "owner with the scope expunge",
    "owner with the scope tokens",
    "owner with the scope portal",
    "owner with the scope operational_webhooks",
    "owner of an application",
    "webhook admin of an application",
    "signed application",
    "session ManageEndpoint",
    "session ManageEndpoint CreateAttempts",
];

/// The places with an endpoint of the organisation's own.
const OWN_ENDPOINT: [&str; 5] = [
    "owner",
    "signed-owner",
    "owner-with-the-scope-operational_webhooks",
    "quiet",
    "theirs",
];

impl World {
    pub async fn made(server: &Server, receiver: &Receiver) -> World {
        // While it is the only one.
        let organisation = jwt::own_organisation(server);
        let other_owner = jwt::owner_of(server, jwt::OTHER);
        let labels = CHANGE.map(|name| name.replace(' ', "-"));
        let ours = labels
            .iter()
            .map(|label| (server.token.as_str(), label.as_str()));
        let others = [
            (server.token.as_str(), "quiet"),
            (server.token.as_str(), "neighbour"),
            (other_owner.as_str(), "theirs"),
        ];
        let all = ours
            .chain(others)
            .map(|(owner, label)| Place::made(server, owner, label, receiver));
        let mut places = together(all).await;
        for place in &mut places {
            // An organisation has few of them. Who may not take one away shares that of the quiet place.
            if OWN_ENDPOINT.contains(&place.label.as_str()) {
                place.own_endpoint(server).await;
            }
        }
        server.settle().await;
        together(places.iter_mut().map(|place| place.finish(server))).await;
        let named = |label: &str| {
            places
                .iter()
                .find(|place| place.label == label)
                .expect("made above")
                .clone()
        };
        let quiet = Rc::new(named("quiet"));
        let with_own_endpoint = |label: &str| {
            let mut place = named(label);
            let own = quiet.things["own endpoint"].clone();
            place.things.entry("own endpoint").or_insert(own);
            Rc::new(place)
        };
        let (neighbour, theirs) = (with_own_endpoint("neighbour"), Rc::new(named("theirs")));
        let place_of = |name: &str| match CHANGE.contains(&name) {
            true => with_own_endpoint(&name.replace(' ', "-")),
            false => Rc::clone(&quiet),
        };
        let mut world = World {
            callers: Vec::new(),
            theirs,
            neighbour,
        };
        world.add_callers(server, organisation, &place_of).await;
        world
    }

    async fn add_callers(
        &mut self,
        server: &Server,
        own: OrganisationId,
        place_of: &dyn Fn(&str) -> Rc<Place>,
    ) {
        let token = async |body: Value| {
            text(&server.post("/api/v1/token", body).await.expect(201)["token"])
        };
        for (name, role) in [
            ("owner", Role::Owner),
            ("publisher", Role::Publisher),
            ("webhook admin", Role::WebhookAdmin),
            ("webhook user", Role::WebhookUser),
            ("webhook user of an endpoint", Role::WebhookUserOfEndpoint),
            ("application", Role::Application),
            ("viewer", Role::Viewer),
        ] {
            let things = place_of(name).things.clone();
            let application = &things["application"][0];
            let mut endpoints = json!(things["spare endpoint"]);
            endpoints
                .as_array_mut()
                .expect("a list")
                .push(json!(things["endpoint"][0]));
            let mut body = json!({"name": name, "role": match role {
                Role::WebhookUserOfEndpoint => "webhook_user".to_owned(),
                _ => name.replace(' ', "_"),
            }});
            match role {
                Role::WebhookUser => {
                    body["applicationIds"] = json!([application]);
                    body["endpointIds"] = endpoints;
                }
                Role::WebhookUserOfEndpoint => body["endpointIds"] = endpoints,
                Role::Application => body["applicationId"] = json!(application),
                _ => {}
            }
            self.add(name, role, token(body).await, place_of(name));
        }
        let at_console = token(json!({"name": "console", "role": "owner"})).await;
        let place = place_of("owner at the console");
        self.add("owner at the console", Role::Owner, String::new(), place);
        let caller = self.callers.last_mut().expect("added just now");
        caller.credential = visit(server, &at_console).await;
        for capabilities in SESSIONS {
            let name = format!("session {}", capabilities.join(" "));
            let place = place_of(&name);
            let link = link(server, &place, json!({"capabilities": capabilities})).await;
            self.add(&name, Role::Session(capabilities.to_vec()), link, place);
        }
        let place = place_of("read-only session");
        let read_only = link(server, &place, json!({"readOnly": true})).await;
        self.add(
            "read-only session",
            Role::Session(vec!["ViewBase"]),
            read_only,
            place,
        );
        // A key that a link made is one like others.
        let place = place_of("API key by link");
        let by = link(server, &place, json!({})).await;
        let path = place.filled("/api/v1/app/{application}/token");
        let body = Some(json!({"name": "k"}).to_string());
        let key = server
            .call_as(&by, Method::POST, &path, body)
            .await
            .expect(201);
        self.add(
            "API key by link",
            Role::Application,
            text(&key["token"]),
            place,
        );
        // Signed tokens.
        let signed = |organisation: OrganisationId, application: Option<&str>| {
            let application = application.map(|id| id.parse::<ApplicationId>().expect("an id"));
            jwt::signed(server, organisation, application, None)
        };
        self.add(
            "signed owner",
            Role::Owner,
            signed(own, None),
            place_of("signed owner"),
        );
        let place = place_of("signed application");
        let application = place.things["application"][0].clone();
        self.add(
            "signed application",
            Role::SignedApplication,
            signed(own, Some(&application)),
            place,
        );
        // Those that are limited to a scope, or to an application.
        for scope in SCOPES {
            let name = format!("owner with the scope {scope}");
            let limits = Limits {
                scope: Some(scope),
                ..Limits::default()
            };
            self.add_limited(server, own, &name, Role::Owner, limits, place_of(&name))
                .await;
        }
        for (name, role) in [
            ("owner of an application", Role::Owner),
            ("webhook admin of an application", Role::WebhookAdmin),
            ("viewer of an application", Role::Viewer),
            ("publisher of an application", Role::Publisher),
        ] {
            let limits = Limits {
                is_of_application: true,
                ..Limits::default()
            };
            self.add_limited(server, own, name, role, limits, place_of(name))
                .await;
        }
        // Those to whom everything is foreign.
        let nothing = token(json!({"name": "n", "role": "webhook_user"})).await;
        let quiet = place_of("");
        self.add_without_own(
            "webhook user of nothing",
            Role::WebhookUser,
            nothing,
            Foreign::application(&quiet),
        );
        let nobodys = signed(OrganisationId([7; 20]), None);
        self.add_without_own(
            "owner of an organisation without anything",
            Role::Owner,
            nobodys,
            Foreign::place("ours", &quiet),
        );
        // And those without a credential that holds.
        let ended = json!({"name": "e", "role": "owner"});
        let ended = server.post("/api/v1/token", ended).await.expect(201);
        server
            .delete(&format!("/api/v1/token/{}", text(&ended["id"])))
            .await
            .expect(204);
        let forged = format!("{}x", signed(own, None));
        for (name, credential) in [
            ("nobody", String::new()),
            (
                "somebody with a wrong token",
                "pr_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG".to_owned(),
            ),
            ("somebody with a revoked token", text(&ended["token"])),
            ("somebody with a forged token", forged),
        ] {
            self.add(name, Role::Nobody, credential, Rc::clone(&quiet));
        }
    }

    fn add(&mut self, name: &str, role: Role, credential: String, place: Rc<Place>) {
        let mut foreign = vec![Foreign::place("another organisation", &self.theirs)];
        match role {
            Role::Owner | Role::Publisher | Role::WebhookAdmin | Role::Viewer | Role::Nobody => {}
            Role::WebhookUser | Role::WebhookUserOfEndpoint => {
                foreign.push(Foreign::application(&self.neighbour));
                foreign.push(Foreign::ungranted(&place));
            }
            Role::Application | Role::SignedApplication | Role::Session(_) => {
                foreign.push(Foreign::application(&self.neighbour));
                foreign.push(Foreign::flagged(&self.neighbour));
            }
        }
        self.callers.push(Caller {
            name: name.to_owned(),
            role,
            limits: Limits::default(),
            credential: bearer(&credential),
            place,
            has_nothing: false,
            foreign,
        });
    }

    async fn add_limited(
        &mut self,
        server: &Server,
        organisation: OrganisationId,
        name: &str,
        role: Role,
        limits: Limits,
        place: Rc<Place>,
    ) {
        let kind = match role {
            Role::Publisher => domain::Role::Publisher,
            Role::WebhookAdmin => domain::Role::WebhookAdmin,
            Role::Viewer => domain::Role::Viewer,
            _ => domain::Role::Owner,
        };
        let credential = format!("pr_{}", name.replace(' ', "_"));
        let hash = Sha256::digest(&credential).into();
        let mut token = Token::new(organisation, kind, name.to_owned(), hash, server.now());
        token.scopes = limits
            .scope
            .map(|scope| BTreeSet::from([scope.parse().expect("a scope")]));
        if limits.is_of_application {
            let application = place.things["application"][0].parse().expect("an id");
            token.applications = Some(BTreeSet::from([application]));
        }
        let put = server.store().change(Planned(move |_: &Catalog| {
            Ok((vec![Change::PutToken(token)], ()))
        }));
        put.await.expect("the store works");
        self.add(name, role, credential, place);
        let caller = self.callers.last_mut().expect("added just now");
        caller.limits = limits;
        if limits.is_of_application {
            caller.foreign.push(Foreign::application(&self.neighbour));
        }
    }

    fn add_without_own(&mut self, name: &str, role: Role, credential: String, also: Foreign) {
        self.add(name, role, credential, Rc::clone(&self.neighbour));
        let caller = self.callers.last_mut().expect("added just now");
        caller.has_nothing = true;
        caller.foreign.truncate(1);
        caller.foreign.push(also);
    }
}

pub fn bearer(credential: &str) -> Headers {
    let value = match credential {
        "" => String::new(),
        _ => format!("Bearer {credential}"),
    };
    vec![("authorization", value)]
}

/// The cookie of a visit to the console, as its pages send it.
async fn visit(server: &Server, token: &str) -> Headers {
    let body = json!({"token": token}).to_string();
    let headers = [("x-postrider-surface", "console")];
    let answer = server
        .call(Method::POST, "/api/v1/session", &headers, Some(body))
        .await;
    let cookie = answer.header("set-cookie").expect("a cookie");
    let (cookie, _) = cookie.split_once(';').expect("it ends there");
    vec![
        ("cookie", cookie.to_owned()),
        (headers[0].0, headers[0].1.to_owned()),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

async fn link(server: &Server, place: &Place, body: Value) -> String {
    let path = place.filled("/api/v1/auth/app-portal-access/{application}");
    text(&server.post(&path, body).await.expect(200)["token"])
}
