//! Which permission each operation needs, and who has it.
//!
//! **A new route** fails the matrix until it is entered here:
//!
//! 1. `OPERATIONS` gets a line: the operation's id and its [`Need`], at a place where what was done
//!    by the lines before leaves what it needs. That order is the one in which each caller makes its
//!    calls on what is its own. What takes something away goes into `LAST`.
//! 2. [`body`] gets a line if the least body that the document's schema allows is not taken.
//! 3. If the path has a part of a new name, or a query or body a field that names something,
//!    `world::kind`, `world::kind_in_query` or [`named_in_bodies`] says of which kind it is. A new kind
//!    is made in `world::Place`.
//!
//! **A new role** is a column of [`Need::roles`] and a caller in `callers.rs`; a new scope is a name in
//! `SCOPES`, and has what [`Need::scope`] says.

use serde_json::{Value, json};

use super::callers::{Limits, Role};

/// What a call needs, in the words of docs/credentials.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Not even a credential.
    Nothing,
    ListApplications,
    CreateApplications,
    ChangeApplications,
    ReadApplication,
    ReadEventTypes,
    ChangeEventTypes,
    ReadProfiles,
    Publish,
    ReadEndpoints,
    CreateEndpoints,
    ChangeEndpoints,
    ChangeContact,
    HoldEndpoints,
    HoldAll,
    ReadSecrets,
    ChangeSecrets,
    SendAgain,
    SendMissing,
    ReadHistory,
    ReadJobs,
    ReadUsage,
    Expunge,
    ReadTokens,
    ChangeTokens,
    ChangeGrants,
    ChangeSessions,
    ReadMetrics,
    ReadStatus,
    HandOver,
    ReadOwnEndpoints,
    OwnEndpoints,
    ReadKeys,
    OwnKeys,
    ReadLanes,
    /// A token of the role application that is an account (Ocrolus).
    Account,
    /// A credential that can be given back: a portal session, or an application's signed token.
    LogOut,
    /// Seeing where somebody signed in with this credential.
    OwnSessions,
    /// Seeing everybody who is signed in. To others a session that is not their own does not exist.
    EndSession,
}

/// Whether a caller may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    Yes,
    No,
    /// It could, but for a scope that its token lacks.
    NotWithout(&'static str),
}

impl Need {
    /// Whether these have it: an owner, a publisher, a webhook admin, a webhook user, an application, a
    /// viewer. It is the first table of docs/credentials.md.
    fn roles(self) -> [bool; 6] {
        // owner, publisher, admin, user, application, viewer
        let row = match self {
            Need::Nothing | Need::ReadEventTypes | Need::ReadProfiles => [1, 1, 1, 1, 1, 1],
            Need::ReadApplication | Need::OwnSessions => [1, 1, 1, 1, 1, 1],
            Need::Publish => [1, 1, 0, 0, 0, 0],
            Need::ListApplications | Need::ReadLanes | Need::ReadTokens => [1, 0, 1, 0, 0, 1],
            Need::ChangeGrants => [1, 0, 1, 0, 0, 0],
            Need::ReadEndpoints | Need::ReadHistory | Need::ReadJobs => [1, 0, 1, 1, 1, 1],
            Need::CreateEndpoints | Need::ChangeEndpoints => [1, 0, 1, 1, 1, 0],
            Need::ChangeContact => [1, 0, 1, 0, 1, 0],
            Need::HoldEndpoints => [1, 0, 1, 0, 0, 0],
            Need::HoldAll => [1, 0, 0, 0, 0, 0],
            Need::ReadSecrets | Need::ChangeSecrets | Need::SendAgain => [1, 0, 1, 1, 1, 0],
            Need::SendMissing => [1, 0, 1, 0, 1, 0],
            Need::ReadUsage | Need::ReadMetrics | Need::ReadStatus => [1, 0, 0, 0, 0, 1],
            // Keys are an application's in the portal only: a key makes no others.
            Need::ReadOwnEndpoints | Need::ReadKeys => [1, 0, 0, 0, 0, 1],
            Need::CreateApplications | Need::ChangeApplications => [1, 0, 0, 0, 0, 0],
            Need::ChangeEventTypes | Need::Expunge | Need::ChangeTokens => [1, 0, 0, 0, 0, 0],
            // The owner of the first organisation has it, who is none of these.
            Need::HandOver => [0, 0, 0, 0, 0, 0],
            Need::ChangeSessions | Need::OwnEndpoints | Need::OwnKeys => [1, 0, 0, 0, 0, 0],
            Need::EndSession => [1, 0, 0, 0, 0, 0],
            Need::Account => [0, 0, 0, 0, 1, 0],
            Need::LogOut => [0, 0, 0, 0, 0, 0],
        };
        row.map(|cell| cell == 1)
    }

    /// The scope that it belongs to; none for what every credential may do, or none by its scopes.
    fn scope(self) -> Option<&'static str> {
        Some(match self {
            Need::Nothing | Need::Account | Need::LogOut | Need::OwnSessions => return None,
            Need::Publish => "publish",
            Need::ListApplications | Need::ReadApplication | Need::ReadEventTypes => "read",
            Need::ReadProfiles | Need::ReadEndpoints | Need::ReadHistory => "read",
            Need::ReadJobs | Need::ReadUsage | Need::ReadLanes => "read",
            Need::CreateEndpoints | Need::ChangeEndpoints => "endpoints",
            Need::ChangeContact | Need::HoldEndpoints | Need::HoldAll => "endpoints",
            Need::ReadSecrets | Need::ChangeSecrets => "secrets",
            Need::SendAgain | Need::SendMissing => "replays",
            Need::CreateApplications | Need::ChangeApplications => "applications",
            Need::ChangeEventTypes => "event_types",
            Need::Expunge => "expunge",
            Need::ReadTokens | Need::ChangeTokens | Need::ChangeGrants | Need::HandOver => "tokens",
            Need::ReadKeys | Need::OwnKeys | Need::EndSession => "tokens",
            Need::ChangeSessions => "portal",
            Need::ReadMetrics | Need::ReadStatus => "status",
            Need::ReadOwnEndpoints | Need::OwnEndpoints => "operational_webhooks",
        })
    }

    /// Whether it concerns all of the organisation, which is out of reach of a token that is limited to
    /// some applications.
    fn is_of_organisation(self) -> bool {
        matches!(
            self,
            Need::CreateApplications
                | Need::HoldAll
                | Need::ChangeEventTypes
                | Need::ReadUsage
                | Need::ReadTokens
                | Need::ChangeTokens
                | Need::ChangeGrants
                | Need::EndSession
                | Need::ReadMetrics
                | Need::ReadStatus
                | Need::HandOver
                | Need::ReadOwnEndpoints
                | Need::OwnEndpoints
        )
    }

    /// Whether a portal session with these capabilities has it: the table of capabilities.
    fn sessions(self, capabilities: &[&str]) -> bool {
        let has = |one: &str| capabilities.contains(&one);
        let manages = has("ManageEndpoint");
        match self {
            Need::CreateEndpoints | Need::ChangeEndpoints | Need::ChangeContact => manages,
            Need::ReadSecrets => {
                manages || has("ViewEndpointSecret") || has("ManageEndpointSecret")
            }
            Need::ChangeSecrets => manages || has("ManageEndpointSecret"),
            Need::SendAgain | Need::SendMissing => has("CreateAttempts"),
            Need::ReadKeys | Need::OwnKeys => manages && has("CreateAttempts"),
            Need::Account => false,
            Need::LogOut => true,
            other => other.roles()[4],
        }
    }

    /// Whether a caller of this role has it, whose token has these limits.
    pub fn is_met_by(self, role: &Role, limits: Limits) -> May {
        let [owner, publisher, admin, user, application, viewer] = self.roles();
        let by_role = match role {
            Role::Owner => owner,
            Role::Publisher => publisher,
            Role::WebhookAdmin => admin,
            Role::WebhookUser => user,
            // It was granted an endpoint, and not the application to make others in.
            Role::WebhookUserOfEndpoint => user && self != Need::CreateEndpoints,
            Role::Application => application,
            Role::SignedApplication => {
                self == Need::LogOut || (application && self != Need::Account)
            }
            Role::Viewer => viewer,
            Role::Session(capabilities) => self.sessions(capabilities),
            Role::Nobody => self == Need::Nothing,
        };
        match (by_role, limits.scope, self.scope()) {
            (false, ..) => May::No,
            _ if limits.is_of_application && self.is_of_organisation() => May::No,
            (true, Some(has), Some(needs)) if has != needs => May::NotWithout(needs),
            (true, ..) => May::Yes,
        }
    }
}

/// All scopes.
pub const SCOPES: [&str; 12] = [
    "publish",
    "read",
    "endpoints",
    "secrets",
    "replays",
    "applications",
    "event_types",
    "expunge",
    "tokens",
    "portal",
    "status",
    "operational_webhooks",
];

/// Calls that are refused once their caller was let in, unless another one holds the endpoint just then.
pub const REFUSED_LATER: [(&str, u16, &str); 2] = [
    ("v1.endpoint.cancel-held", 409, "disable or hold it first"),
    (
        "v1.operational-webhook.endpoint.cancel-held",
        409,
        "disable or hold it first",
    ),
];

/// What a token makes may do no more than the token itself, so one with a single scope makes nothing by
/// these: the operation, and the status and the words of its refusal (docs/credentials.md).
pub const NOT_BY_ONE_SCOPE: [(&str, u16, &str); 3] = [
    (
        "v1.token.create-of-application",
        422,
        "the scopes tokens, and a token of the role application uses none of them",
    ),
    (
        "v1.authentication.app-portal-access",
        403,
        "lacks the scope read",
    ),
    (
        "v1.authentication.dashboard-access",
        403,
        "lacks the scope read",
    ),
];

/// The operations of the document, in an order in which one leaves what the next needs.
pub const OPERATIONS: &[(&str, Need)] = &[
    // The server itself.
    ("v1.health.get", Need::Nothing),
    ("v1.health.ping", Need::Nothing),
    ("server.metrics", Need::ReadMetrics),
    ("server.openapi", Need::Nothing),
    ("server.docs", Need::Nothing),
    ("server.docs-page", Need::Nothing),
    ("server.docs-guide", Need::Nothing),
    ("v1.status.get", Need::ReadStatus),
    ("v1.server.hand-over", Need::HandOver),
    ("v1.lane.list", Need::ReadLanes),
    ("v1.session.get", Need::Nothing),
    ("v1.session.list", Need::OwnSessions),
    // But for the one that the request belongs to, of which each has its own here.
    ("v1.session.expire-all", Need::OwnSessions),
    // Applications.
    ("v1.application.list", Need::ListApplications),
    ("v1.application.create", Need::CreateApplications),
    ("v1.application.get", Need::ReadApplication),
    ("v1.application.update", Need::ChangeApplications),
    ("patch_application", Need::ChangeApplications),
    // It has a contact, which is verified.
    ("v1.application.get-contact", Need::ReadEndpoints),
    ("v1.application.set-contact", Need::ChangeContact),
    ("v1.application.verify-contact", Need::ChangeContact),
    // Event types.
    ("v1.event-type.list", Need::ReadEventTypes),
    ("v1.event-type.create", Need::ChangeEventTypes),
    ("v1.event-type.get", Need::ReadEventTypes),
    ("v1.event-type.update", Need::ChangeEventTypes),
    ("patch_event_type", Need::ChangeEventTypes),
    ("v1.event-type.import-openapi", Need::ChangeEventTypes),
    ("v1.channel.list", Need::ReadEventTypes),
    // Profiles and tests.
    ("v1.profile.list", Need::ReadProfiles),
    ("v1.profile.get", Need::ReadProfiles),
    ("v1.profile.preview", Need::ReadProfiles),
    ("v1.endpoint.send-example", Need::SendAgain),
    ("v1.endpoint.simulate", Need::SendAgain),
    ("v1.endpoint.verify", Need::SendAgain),
    // Messages and attempts.
    ("v1.message.create", Need::Publish),
    ("v1.message.create-batch", Need::Publish),
    ("v1.message.precheck", Need::Publish),
    ("v1.message.list", Need::ReadHistory),
    ("v1.message.get", Need::ReadHistory),
    ("v1.endpoint.test-filter", Need::ReadHistory),
    ("v1.message-attempt.get", Need::ReadHistory),
    ("v1.message-attempt.list-by-endpoint", Need::ReadHistory),
    ("v1.message-attempt.list-by-msg", Need::ReadHistory),
    (
        "v1.message-attempt.list-by-msg-deprecated",
        Need::ReadHistory,
    ),
    (
        "v1.message-attempt.list-by-endpoint-deprecated",
        Need::ReadHistory,
    ),
    (
        "v1.message-attempt.list-attempted-destinations",
        Need::ReadHistory,
    ),
    (
        "v1.message-attempt.list-attempted-messages",
        Need::ReadHistory,
    ),
    ("v1.endpoint.get-stats", Need::ReadHistory),
    ("v1.endpoint.get-attempt-stats", Need::ReadHistory),
    ("v1.endpoint.get-attempt-series", Need::ReadHistory),
    ("v1.message-attempt.resend", Need::SendAgain),
    // Background jobs.
    ("v1.endpoint.recover", Need::SendAgain),
    ("v1.endpoint.replay-missing", Need::SendMissing),
    ("v1.endpoint.bulk-replay", Need::SendAgain),
    ("v1.background-task.list", Need::ReadJobs),
    ("v1.background-task.get", Need::ReadJobs),
    // This one was begun by sending again.
    ("v1.background-task.cancel", Need::SendAgain),
    ("v1.statistics.aggregate-app-stats", Need::ReadUsage),
    ("v1.statistics.aggregate-event-types", Need::ReadUsage),
    ("v1.message-attempt.expunge-content", Need::Expunge),
    ("v1.message.bulk-expunge-contents", Need::Expunge),
    ("v1.message.expunge-content", Need::Expunge),
    // Endpoints.
    ("v1.endpoint.delivery-addresses", Need::ReadProfiles),
    ("v1.endpoint.list", Need::ReadEndpoints),
    ("v1.endpoint.create", Need::CreateEndpoints),
    ("v1.endpoint.get", Need::ReadEndpoints),
    ("v1.endpoint.update", Need::ChangeEndpoints),
    ("patch_endpoint", Need::ChangeEndpoints),
    ("v1.endpoint.cancel-held", Need::ChangeEndpoints),
    ("v1.endpoint.enable", Need::ChangeEndpoints),
    (
        "v1.endpoint.transformation-starting-points",
        Need::ReadProfiles,
    ),
    ("v1.endpoint.transformation-versions", Need::ReadEndpoints),
    ("v1.endpoint.transformation-preview", Need::ReadHistory),
    ("v1.endpoint.restore-transformation", Need::ChangeEndpoints),
    ("v1.endpoint.get-headers", Need::ReadEndpoints),
    ("v1.endpoint.update-headers", Need::ChangeEndpoints),
    ("v1.endpoint.patch-headers", Need::ChangeEndpoints),
    ("v1.endpoint.get-secret", Need::ReadSecrets),
    ("v1.endpoint.rotate-secret", Need::ChangeSecrets),
    // What is held by one is released by the next.
    ("v1.endpoint.hold", Need::HoldEndpoints),
    ("v1.endpoint.release", Need::HoldEndpoints),
    ("v1.application.hold", Need::HoldEndpoints),
    ("v1.application.release", Need::HoldEndpoints),
    ("v1.endpoint.hold-all", Need::HoldAll),
    ("v1.endpoint.release-all", Need::HoldAll),
    ("v1.endpoint.probe", Need::SendAgain),
    // Surfaces of other systems.
    ("ovation.webhook-endpoint.list", Need::ReadEndpoints),
    ("ovation.webhook-endpoint.create", Need::CreateEndpoints),
    ("ovation.webhook-endpoint.get", Need::ReadEndpoints),
    ("ovation.webhook-endpoint.update", Need::ChangeEndpoints),
    ("ocrolus.webhook-endpoint.update", Need::Account),
    ("ocrolus.webhook-endpoint.details", Need::Account),
    ("ocrolus.webhook-endpoint.test", Need::Account),
    ("ocrolus.webhook-secret.rotate", Need::Account),
    // The organisation's own endpoints.
    (
        "v1.operational-webhook.endpoint.list",
        Need::ReadOwnEndpoints,
    ),
    ("v1.operational-webhook.endpoint.create", Need::OwnEndpoints),
    (
        "v1.operational-webhook.endpoint.get",
        Need::ReadOwnEndpoints,
    ),
    ("v1.operational-webhook.endpoint.update", Need::OwnEndpoints),
    (
        "v1.operational-webhook.endpoint.cancel-held",
        Need::OwnEndpoints,
    ),
    ("v1.operational-webhook.endpoint.enable", Need::OwnEndpoints),
    (
        "v1.operational-webhook.endpoint.get-headers",
        Need::ReadOwnEndpoints,
    ),
    (
        "v1.operational-webhook.endpoint.update-headers",
        Need::OwnEndpoints,
    ),
    (
        "v1.operational-webhook.endpoint.patch-headers",
        Need::OwnEndpoints,
    ),
    (
        "v1.operational-webhook.endpoint.get-secret",
        Need::OwnEndpoints,
    ),
    (
        "v1.operational-webhook.endpoint.rotate-secret",
        Need::OwnEndpoints,
    ),
    ("v1.operational-webhook.endpoint.verify", Need::OwnEndpoints),
    ("v1.operational-webhook.endpoint.hold", Need::OwnEndpoints),
    (
        "v1.operational-webhook.endpoint.release",
        Need::OwnEndpoints,
    ),
    ("v1.operational-webhook.endpoint.probe", Need::OwnEndpoints),
    (
        "v1.operational-webhook.endpoint.list-attempts",
        Need::ReadOwnEndpoints,
    ),
    // Tokens and grants, an application's keys, and links to the portal.
    ("v1.token.list", Need::ReadTokens),
    ("v1.token.create", Need::ChangeTokens),
    ("v1.token.get", Need::ReadTokens),
    ("v1.token.grant", Need::ChangeGrants),
    ("v1.token.revoke-grant", Need::ChangeGrants),
    ("v1.token.grant-application", Need::ChangeGrants),
    ("v1.token.revoke-application", Need::ChangeGrants),
    ("v1.token.list-of-application", Need::ReadKeys),
    ("v1.token.create-of-application", Need::OwnKeys),
    ("v1.authentication.app-portal-access", Need::ChangeSessions),
    ("v1.authentication.dashboard-access", Need::ChangeSessions),
    ("v1.authentication.expire-all", Need::ChangeSessions),
];

/// Those that take away what the others need; the credential itself goes at last.
pub const LAST: &[(&str, Need)] = &[
    ("v1.session.delete-other", Need::EndSession),
    ("v1.token.delete-of-application", Need::OwnKeys),
    ("v1.token.delete", Need::ChangeTokens),
    ("v1.operational-webhook.endpoint.delete", Need::OwnEndpoints),
    ("v1.event-type.delete", Need::ChangeEventTypes),
    ("v1.application.delete-contact", Need::ChangeContact),
    ("ovation.webhook-endpoint.delete", Need::ChangeEndpoints),
    ("v1.endpoint.delete", Need::ChangeEndpoints),
    ("v1.application.delete", Need::ChangeApplications),
    ("logout_api_v1_auth_logout__post", Need::LogOut),
    ("v1.session.create", Need::Nothing),
    ("v1.session.delete", Need::Nothing),
];

/// A body that is taken, where the least one by the schema is not. In braces: what a place has of that
/// kind, or one of its words (`world::Place`).
pub fn body(id: &str) -> Option<Value> {
    let webhook = json!({"webhookEndpoint": {
        "target_url": "{url}", "event": "{event type}", "username": "u", "password": "p",
    }});
    Some(match id {
        "v1.session.create" => json!({"token": "{owner}"}),
        "v1.session.expire-all" => json!({"own": true}),
        "v1.application.set-contact" => json!({"address": "{address}"}),
        "v1.application.verify-contact" => json!({"code": "000000"}),
        "v1.application.create" => json!({"name": "n", "uid": "made-{label}"}),
        "v1.event-type.create" => json!({"name": "new-{label}", "description": ""}),
        "v1.event-type.import-openapi" => json!({"spec": {"webhooks": {}}}),
        "v1.endpoint.send-example" | "v1.endpoint.simulate" => json!({"eventType": "{event type}"}),
        "v1.message.create-batch" => json!([{"eventType": "a", "payload": {}}]),
        "v1.endpoint.restore-transformation" => json!({"number": 1}),
        "v1.message.bulk-expunge-contents" => json!({"ids": ["{message}"]}),
        "v1.endpoint.test-filter" => json!({"messageId": "{message}"}),
        "v1.endpoint.create" | "v1.endpoint.update" => json!({"url": "{url}"}),
        "v1.operational-webhook.endpoint.create" | "v1.operational-webhook.endpoint.update" => {
            json!({"url": "{url}"})
        }
        "ovation.webhook-endpoint.create" | "ovation.webhook-endpoint.update" => webhook,
        "ocrolus.webhook-endpoint.update" => {
            json!({"webhook_endpoint": "{url}", "events": ["{event type}"]})
        }
        "ocrolus.webhook-secret.rotate" => json!({"secret_key": "0123456789abcdef"}),
        "v1.token.create" => json!({"name": "t", "role": "owner"}),
        _ => return None,
    })
}

/// A field of a body that names something: the operation, the field, of which kind it is, and a body
/// with `{it}` in its place.
pub type Named = (&'static str, &'static str, &'static str, Value);

pub fn named_in_bodies() -> Vec<Named> {
    let url = "{url}";
    let message = |id: &str| json!({"eventType": "a", "payload": {}, "eventId": id});
    let user = |field: &str| json!({"name": "n", "role": "webhook_user", field: ["{it}"]});
    let since = "2024-01-01T00:00:00Z";
    let beside = json!({"name": "n", "uid": "{it}"});
    vec![
        (
            "v1.token.create",
            "applicationId",
            "application",
            json!({"name": "n", "role": "application", "applicationId": "{it}"}),
        ),
        (
            "v1.token.create",
            "applicationIds",
            "application",
            user("applicationIds"),
        ),
        (
            "v1.token.create",
            "endpointIds",
            "endpoint",
            user("endpointIds"),
        ),
        (
            "v1.statistics.aggregate-app-stats",
            "appIds",
            "application",
            json!({"since": since, "until": since, "appIds": ["{it}"]}),
        ),
        (
            "v1.statistics.aggregate-app-stats",
            "appIds",
            "application",
            json!({"since": since, "until": since, "appIds": ["{application}", "{it}"]}),
        ),
        (
            "v1.endpoint.test-filter",
            "messageId",
            "message",
            json!({"messageId": "{it}"}),
        ),
        (
            "v1.message.bulk-expunge-contents",
            "ids",
            "message",
            json!({"ids": ["{it}"]}),
        ),
        ("v1.message.create", "eventId", "message", message("{it}")),
        (
            "v1.message.create",
            "application.uid",
            "application",
            json!({"eventType": "a", "payload": {}, "application": beside}),
        ),
        (
            "v1.message.create-batch",
            "eventId",
            "message",
            json!([message("{it}")]),
        ),
        (
            "v1.message.create-batch",
            "application.uid",
            "application",
            json!([{"eventType": "a", "payload": {}, "application": beside}]),
        ),
        (
            "v1.endpoint.simulate",
            "eventId",
            "message",
            json!({"eventType": "{event type}", "eventId": "{it}"}),
        ),
        (
            "v1.application.create",
            "uid",
            "application",
            beside.clone(),
        ),
        (
            "v1.application.update",
            "uid",
            "application",
            beside.clone(),
        ),
        (
            "patch_application",
            "uid",
            "application",
            json!({"uid": "{it}"}),
        ),
        (
            "v1.endpoint.create",
            "uid",
            "endpoint",
            json!({"url": url, "uid": "{it}"}),
        ),
        (
            "v1.endpoint.update",
            "uid",
            "endpoint",
            json!({"url": url, "uid": "{it}"}),
        ),
        ("patch_endpoint", "uid", "endpoint", json!({"uid": "{it}"})),
        (
            "v1.operational-webhook.endpoint.create",
            "uid",
            "own endpoint",
            json!({"url": url, "uid": "{it}"}),
        ),
        (
            "v1.operational-webhook.endpoint.update",
            "uid",
            "own endpoint",
            json!({"url": url, "uid": "{it}"}),
        ),
        (
            "v1.authentication.app-portal-access",
            "sessionId",
            "session",
            json!({"sessionId": "{it}"}),
        ),
        (
            "v1.authentication.app-portal-access",
            "application.uid",
            "application",
            json!({"application": beside}),
        ),
        (
            "v1.authentication.dashboard-access",
            "sessionId",
            "session",
            json!({"sessionId": "{it}"}),
        ),
        (
            "v1.authentication.dashboard-access",
            "application.uid",
            "application",
            json!({"application": beside}),
        ),
        (
            "v1.authentication.expire-all",
            "sessionIds",
            "session",
            json!({"sessionIds": ["{it}"]}),
        ),
        // Event types: names, which are looked up all the same.
        (
            "v1.event-type.create",
            "name",
            "event type",
            json!({"name": "{it}", "description": ""}),
        ),
        (
            "v1.message.create",
            "eventType",
            "event type",
            json!({"eventType": "{it}", "payload": {}}),
        ),
        (
            "v1.message.precheck",
            "eventType",
            "event type",
            json!({"eventType": "{it}"}),
        ),
        (
            "v1.endpoint.transformation-preview",
            "messageIds",
            "message",
            json!({"messageIds": ["{it}"]}),
        ),
        (
            "v1.endpoint.send-example",
            "eventType",
            "event type",
            json!({"eventType": "{it}"}),
        ),
        (
            "v1.endpoint.simulate",
            "eventType",
            "event type",
            json!({"eventType": "{it}"}),
        ),
        (
            "v1.endpoint.bulk-replay",
            "eventTypes",
            "event type",
            json!({"since": since, "eventTypes": ["{it}"]}),
        ),
        (
            "v1.endpoint.create",
            "eventTypes",
            "event type",
            json!({"url": url, "eventTypes": ["{it}"]}),
        ),
        (
            "v1.endpoint.update",
            "eventTypes",
            "event type",
            json!({"url": url, "eventTypes": ["{it}"]}),
        ),
        (
            "patch_endpoint",
            "eventTypes",
            "event type",
            json!({"eventTypes": ["{it}"]}),
        ),
        (
            "ovation.webhook-endpoint.create",
            "webhookEndpoint.event",
            "event type",
            json!({"webhookEndpoint": {"target_url": url, "event": "{it}", "username": "u", "password": "p"}}),
        ),
        (
            "ovation.webhook-endpoint.update",
            "webhookEndpoint.event",
            "event type",
            json!({"webhookEndpoint": {"target_url": url, "event": "{it}", "username": "u", "password": "p"}}),
        ),
        (
            "ocrolus.webhook-endpoint.update",
            "events",
            "event type",
            json!({"webhook_endpoint": url, "events": ["{it}"]}),
        ),
    ]
}

/// Paths that are answered and not documented, with names in them.
pub const UNDOCUMENTED: [(&str, &str); 6] = [
    ("GET", "/api/v1/app/{app_id}/integration"),
    ("GET", "/api/v1/app/{app_id}/stats"),
    ("POST", "/api/v1/app/{app_id}/msg/expunge-all-contents"),
    ("GET", "/api/v1/app/{app_id}/msg/{msg_id}/raw"),
    (
        "GET",
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation",
    ),
    ("GET", "/api/v1/event-type/{event_type_name}/retry-schedule"),
];

/// Fields that look like the name of something and are none: what an answer had may be sent back.
pub const NAME_NOTHING: [&str; 6] = [
    "id",
    "application.id",
    "webhookEndpoint.id",
    // Of a message that is tried, and not published.
    "message.eventId",
    "message.application.uid",
    "message.application.id",
];
