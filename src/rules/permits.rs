//! Permissions: the tables of docs/credentials.md, as code.
//!
//! [`permit`] is the whole table. A portal session's capabilities narrow it ([`session_may`]), and so do
//! the applications that a token is limited to ([`within_applications`]) and its scopes (`scopes`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::scopes::{Scopes, scope_of};
use crate::domain::scope::Scope;
use crate::domain::token::{Capability, Role};

/// The kinds of things that a request can do, as permissions tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    ListApplications,
    CreateApplications,
    /// Update, delete.
    ChangeApplications,
    ReadApplication,
    ReadEventTypes,
    ChangeEventTypes,
    Publish,
    ReadEndpoints,
    CreateEndpoints,
    /// Update, delete.
    ChangeEndpoints,
    /// Set, verify and remove the application's contact, who hears of its endpoints by e-mail.
    ChangeContact,
    /// Hold endpoints and release them: the operator's, whoever may change them.
    HoldEndpoints,
    /// The same with all endpoints of the organisation at once.
    HoldAll,
    ReadSecrets,
    /// Rotate.
    ChangeSecrets,
    /// Send a message to an endpoint again, replay many, send it a test.
    SendAgain,
    /// Send messages to an endpoint that were never for it.
    SendMissing,
    /// Messages and attempts.
    ReadHistory,
    /// Background jobs.
    ReadJobs,
    /// Count the whole organisation's usage, with a background job.
    ReadUsage,
    /// Cancel such a job.
    CancelUsage,
    /// Delete the payloads of messages and the answers of attempts.
    Expunge,
    ReadTokens,
    /// Create and revoke.
    ChangeTokens,
    /// Change which endpoints a webhook user sees.
    ChangeGrants,
    /// Make links to the portal, and end their sessions.
    ChangeSessions,
    ReadMetrics,
    /// Read the state of the server and its current problems.
    ReadStatus,
    /// Hand the store over to another machine, which ends this server.
    HandOver,
    /// The organisation's own endpoints, without their secrets.
    ReadOwnEndpoints,
    /// Change them, and read their secrets.
    OwnEndpoints,
    /// List an application's own tokens, its API keys.
    ReadKeys,
    /// Create and revoke them.
    OwnKeys,
    /// Read the lanes and their waiting deliveries.
    ReadLanes,
    /// Read the profiles, how their requests look, and the addresses that requests come from.
    ReadProfiles,
}

impl Action {
    /// All actions, with the names by which pages know them.
    pub const ALL: [(Action, &str); 35] = [
        (Action::ListApplications, "listApplications"),
        (Action::CreateApplications, "createApplications"),
        (Action::ChangeApplications, "changeApplications"),
        (Action::ReadApplication, "readApplication"),
        (Action::ReadEventTypes, "readEventTypes"),
        (Action::ChangeEventTypes, "changeEventTypes"),
        (Action::Publish, "publish"),
        (Action::ReadEndpoints, "readEndpoints"),
        (Action::CreateEndpoints, "createEndpoints"),
        (Action::ChangeEndpoints, "changeEndpoints"),
        (Action::ChangeContact, "changeContact"),
        (Action::HoldEndpoints, "holdEndpoints"),
        (Action::HoldAll, "holdAll"),
        (Action::ReadSecrets, "readSecrets"),
        (Action::ChangeSecrets, "changeSecrets"),
        (Action::SendAgain, "sendAgain"),
        (Action::SendMissing, "sendMissing"),
        (Action::ReadHistory, "readHistory"),
        (Action::ReadJobs, "readJobs"),
        (Action::ReadUsage, "readUsage"),
        (Action::CancelUsage, "cancelUsage"),
        (Action::Expunge, "expunge"),
        (Action::ReadTokens, "readTokens"),
        (Action::ChangeTokens, "changeTokens"),
        (Action::ChangeGrants, "changeGrants"),
        (Action::ChangeSessions, "changeSessions"),
        (Action::ReadMetrics, "readMetrics"),
        (Action::ReadStatus, "readStatus"),
        (Action::HandOver, "handOver"),
        (Action::ReadOwnEndpoints, "readOwnEndpoints"),
        (Action::OwnEndpoints, "ownEndpoints"),
        (Action::ReadKeys, "readKeys"),
        (Action::OwnKeys, "ownKeys"),
        (Action::ReadLanes, "readLanes"),
        (Action::ReadProfiles, "readProfiles"),
    ];
}

/// How far a role's permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    Everywhere,
    /// Within the applications that the token is limited to.
    Listed,
    /// Within the caller's own application.
    Own,
    /// The endpoints that were granted to the caller, with their applications, and what was sent to
    /// them; new ones in applications that were granted.
    Granted,
    /// The tokens of webhook users.
    Users,
    Never,
}

/// The table of docs/credentials.md: a row for each action, a column for each role.
pub fn permit(role: Role, action: Action) -> Permit {
    use Permit::{Everywhere, Granted, Never, Own, Users};
    let column = match role {
        Role::Owner => 0,
        Role::Publisher => 1,
        Role::WebhookAdmin => 2,
        Role::WebhookUser => 3,
        Role::Application => 4,
        Role::Viewer => 5,
    };
    let row = match action {
        //                            owner       publisher   admin       user        application viewer
        Action::ListApplications => [Everywhere, Never, Everywhere, Never, Never, Everywhere],
        Action::CreateApplications => [Everywhere, Never, Never, Never, Never, Never],
        Action::ChangeApplications => [Everywhere, Never, Never, Never, Never, Never],
        Action::ReadApplication => [Everywhere, Everywhere, Everywhere, Granted, Own, Everywhere],
        Action::ReadEventTypes => [
            Everywhere, Everywhere, Everywhere, Everywhere, Everywhere, Everywhere,
        ],
        Action::ChangeEventTypes => [Everywhere, Never, Never, Never, Never, Never],
        Action::Publish => [Everywhere, Everywhere, Never, Never, Never, Never],
        Action::ReadEndpoints => [Everywhere, Never, Everywhere, Granted, Own, Everywhere],
        Action::CreateEndpoints => [Everywhere, Never, Everywhere, Granted, Own, Never],
        Action::ChangeEndpoints => [Everywhere, Never, Everywhere, Granted, Own, Never],
        Action::ChangeContact => [Everywhere, Never, Everywhere, Never, Own, Never],
        Action::HoldEndpoints => [Everywhere, Never, Everywhere, Never, Never, Never],
        Action::HoldAll => [Everywhere, Never, Never, Never, Never, Never],
        Action::ReadSecrets => [Everywhere, Never, Everywhere, Granted, Own, Never],
        Action::ChangeSecrets => [Everywhere, Never, Everywhere, Granted, Own, Never],
        Action::SendAgain => [Everywhere, Never, Everywhere, Granted, Own, Never],
        Action::SendMissing => [Everywhere, Never, Everywhere, Never, Own, Never],
        Action::ReadHistory => [Everywhere, Never, Everywhere, Granted, Own, Everywhere],
        Action::ReadJobs => [Everywhere, Never, Everywhere, Granted, Own, Everywhere],
        Action::ReadUsage => [Everywhere, Never, Never, Never, Never, Everywhere],
        Action::CancelUsage => [Everywhere, Never, Never, Never, Never, Never],
        Action::Expunge => [Everywhere, Never, Never, Never, Never, Never],
        Action::ReadTokens => [Everywhere, Never, Users, Never, Never, Everywhere],
        Action::ChangeTokens => [Everywhere, Never, Never, Never, Never, Never],
        Action::ChangeGrants => [Everywhere, Never, Users, Never, Never, Never],
        Action::ChangeSessions => [Everywhere, Never, Never, Never, Never, Never],
        Action::ReadMetrics => [Everywhere, Never, Never, Never, Never, Everywhere],
        Action::ReadStatus => [Everywhere, Never, Never, Never, Never, Everywhere],
        Action::HandOver => [Everywhere, Never, Never, Never, Never, Never],
        Action::ReadOwnEndpoints => [Everywhere, Never, Never, Never, Never, Everywhere],
        Action::OwnEndpoints => [Everywhere, Never, Never, Never, Never, Never],
        Action::ReadKeys => [Everywhere, Never, Never, Never, Own, Everywhere],
        Action::OwnKeys => [Everywhere, Never, Never, Never, Own, Never],
        Action::ReadLanes => [Everywhere, Never, Everywhere, Never, Never, Everywhere],
        Action::ReadProfiles => [
            Everywhere, Everywhere, Everywhere, Everywhere, Everywhere, Everywhere,
        ],
    };
    row[column]
}

/// Returns how far an action goes for a token that is limited to some applications, where its role
/// may do it. An action on all of the organisation is out of its reach.
pub fn within_applications(action: Action) -> Permit {
    match action {
        Action::ListApplications
        | Action::ChangeApplications
        | Action::ReadApplication
        | Action::Publish
        | Action::ReadEndpoints
        | Action::CreateEndpoints
        | Action::ChangeEndpoints
        | Action::ChangeContact
        | Action::HoldEndpoints
        | Action::ReadSecrets
        | Action::ChangeSecrets
        | Action::SendAgain
        | Action::SendMissing
        | Action::ReadHistory
        | Action::ReadJobs
        | Action::Expunge
        | Action::ChangeSessions
        | Action::ReadKeys
        | Action::OwnKeys
        | Action::ReadLanes => Permit::Listed,
        // The same for every caller of the organisation, a customer's included.
        Action::ReadEventTypes | Action::ReadProfiles => Permit::Everywhere,
        Action::CreateApplications
        | Action::HoldAll
        | Action::ChangeEventTypes
        | Action::ReadUsage
        | Action::CancelUsage
        | Action::ReadTokens
        | Action::ChangeTokens
        | Action::ChangeGrants
        | Action::ReadMetrics
        | Action::ReadStatus
        | Action::HandOver
        | Action::ReadOwnEndpoints
        | Action::OwnEndpoints => Permit::Never,
    }
}

/// Returns how far a token's role and its applications let it do this, whatever its scopes are.
pub fn token_reach(role: Role, is_limited: bool, action: Action) -> Permit {
    match permit(role, action) {
        // An application's people make keys in the portal; a key makes no others.
        _ if role == Role::Application && is_of_keys(action) => Permit::Never,
        Permit::Never => Permit::Never,
        _ if is_limited => within_applications(action),
        permit => permit,
    }
}

pub fn is_of_keys(action: Action) -> bool {
    matches!(action, Action::ReadKeys | Action::OwnKeys)
}

/// Returns the scopes that are of use to a token: each has an action that the token's role and
/// applications allow.
pub fn usable_scopes(role: Role, is_limited: bool) -> Scopes {
    let actions = Action::ALL.map(|(action, _)| action).into_iter();
    let usable = actions.filter(|action| token_reach(role, is_limited, *action) != Permit::Never);
    usable.map(scope_of).collect()
}

/// Whether a portal session with these capabilities may do this, if the role application may.
/// Reading anything but secrets needs no capability.
pub fn session_may(capabilities: Capabilities, action: Action) -> bool {
    use Capability::{CreateAttempts, ManageEndpoint, ManageEndpointSecret, ViewEndpointSecret};
    let has_one_of = |these: &[Capability]| these.iter().any(|one| capabilities.has(*one));
    match action {
        Action::ReadApplication
        | Action::ReadEventTypes
        | Action::ReadEndpoints
        | Action::ReadHistory
        | Action::ReadJobs
        | Action::ReadProfiles => true,
        Action::CreateEndpoints | Action::ChangeEndpoints | Action::ChangeContact => {
            has_one_of(&[ManageEndpoint])
        }
        Action::ReadSecrets => {
            has_one_of(&[ViewEndpointSecret, ManageEndpointSecret, ManageEndpoint])
        }
        Action::ChangeSecrets => has_one_of(&[ManageEndpointSecret, ManageEndpoint]),
        Action::SendAgain | Action::SendMissing => has_one_of(&[CreateAttempts]),
        // A key may do all that the role may, so only a session that may do all of it makes keys.
        Action::ReadKeys | Action::OwnKeys => {
            capabilities.has(ManageEndpoint) && capabilities.has(CreateAttempts)
        }
        Action::ListApplications
        | Action::CreateApplications
        | Action::ChangeApplications
        | Action::ChangeEventTypes
        | Action::Publish
        | Action::HoldEndpoints
        | Action::HoldAll
        | Action::ReadUsage
        | Action::CancelUsage
        | Action::Expunge
        | Action::ReadTokens
        | Action::ChangeTokens
        | Action::ChangeGrants
        | Action::ChangeSessions
        | Action::ReadMetrics
        | Action::ReadStatus
        | Action::HandOver
        | Action::ReadOwnEndpoints
        | Action::OwnEndpoints
        | Action::ReadLanes => false,
    }
}

/// Returns the scope without which a capability is of no use; none for one that allows nothing.
pub fn scope_of_capability(capability: Capability) -> Option<Scope> {
    match capability {
        Capability::ViewBase => Some(Scope::Read),
        Capability::ViewEndpointSecret | Capability::ManageEndpointSecret => Some(Scope::Secrets),
        Capability::CreateAttempts => Some(Scope::Replays),
        Capability::ManageEndpoint => Some(Scope::Endpoints),
        Capability::ManageTransformations => None,
    }
}

/// Returns the capabilities of a link that are of no use without this scope, and API keys, which
/// two capabilities allow together.
pub fn in_want_of(scope: Scope, capabilities: &BTreeSet<Capability>) -> Vec<&'static str> {
    let actions = || Action::ALL.into_iter().map(|(action, _)| action);
    let in_scope = |action: &Action| scope_of(*action) == scope;
    let nothing = Capabilities::from(&BTreeSet::new());
    let given_by = |set: &BTreeSet<Capability>| {
        let set = Capabilities::from(set);
        let mut given = actions().filter(in_scope);
        given.any(move |action| session_may(set, action) && !session_may(nothing, action))
    };
    let of_one = capabilities
        .iter()
        .filter(|one| given_by(&BTreeSet::from([**one])));
    let mut lacking: Vec<_> = of_one.copied().map(Capability::name).collect();
    if lacking.is_empty() && given_by(capabilities) {
        lacking.push("API keys");
    }
    lacking
}

/// A set of capabilities that is copied with its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(u8);

impl Capabilities {
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }
}

impl From<&BTreeSet<Capability>> for Capabilities {
    fn from(set: &BTreeSet<Capability>) -> Capabilities {
        Capabilities(set.iter().fold(0, |bits, one| bits | (1 << *one as u8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/credentials.md again, from the other side: what each role may do, and nothing else.
    #[test]
    fn each_role_may_do_what_the_design_says_and_nothing_else() {
        use Action::*;
        use Permit::{Everywhere, Granted, Own, Users};
        let actions = Action::ALL.map(|(action, _)| action);
        let allowed = |role| match role {
            Role::Owner => actions.map(|action| (action, Everywhere)).to_vec(),
            Role::Publisher => vec![
                (ReadApplication, Everywhere),
                (ReadEventTypes, Everywhere),
                (Publish, Everywhere),
                (ReadProfiles, Everywhere),
            ],
            Role::WebhookAdmin => vec![
                (ListApplications, Everywhere),
                (ReadApplication, Everywhere),
                (ReadEventTypes, Everywhere),
                (ReadEndpoints, Everywhere),
                (CreateEndpoints, Everywhere),
                (ChangeEndpoints, Everywhere),
                (ChangeContact, Everywhere),
                (HoldEndpoints, Everywhere),
                (ReadSecrets, Everywhere),
                (ChangeSecrets, Everywhere),
                (SendAgain, Everywhere),
                (SendMissing, Everywhere),
                (ReadHistory, Everywhere),
                (ReadJobs, Everywhere),
                (ReadTokens, Users),
                (ChangeGrants, Users),
                (ReadLanes, Everywhere),
                (ReadProfiles, Everywhere),
            ],
            Role::WebhookUser => vec![
                (ReadApplication, Granted),
                (ReadEventTypes, Everywhere),
                (ReadEndpoints, Granted),
                (CreateEndpoints, Granted),
                (ChangeEndpoints, Granted),
                (ReadSecrets, Granted),
                (ChangeSecrets, Granted),
                (SendAgain, Granted),
                (ReadHistory, Granted),
                (ReadJobs, Granted),
                (ReadProfiles, Everywhere),
            ],
            Role::Application => vec![
                (ReadApplication, Own),
                (ReadEventTypes, Everywhere),
                (ReadEndpoints, Own),
                (CreateEndpoints, Own),
                (ChangeEndpoints, Own),
                (ChangeContact, Own),
                (ReadSecrets, Own),
                (ChangeSecrets, Own),
                (SendAgain, Own),
                (SendMissing, Own),
                (ReadHistory, Own),
                (ReadJobs, Own),
                (ReadKeys, Own),
                (OwnKeys, Own),
                (ReadProfiles, Everywhere),
            ],
            Role::Viewer => vec![
                (ListApplications, Everywhere),
                (ReadApplication, Everywhere),
                (ReadEventTypes, Everywhere),
                (ReadEndpoints, Everywhere),
                (ReadHistory, Everywhere),
                (ReadJobs, Everywhere),
                (ReadUsage, Everywhere),
                (ReadTokens, Everywhere),
                (ReadMetrics, Everywhere),
                (ReadStatus, Everywhere),
                (ReadOwnEndpoints, Everywhere),
                (ReadKeys, Everywhere),
                (ReadLanes, Everywhere),
                (ReadProfiles, Everywhere),
            ],
        };
        for role in Role::ALL {
            let found = actions
                .map(|action| (action, permit(role, action)))
                .into_iter()
                .filter(|(_, permit)| *permit != Permit::Never);
            assert_eq!(found.collect::<Vec<_>>(), allowed(role), "{role:?}");
        }
    }

    #[test]
    fn what_a_link_lacks_for_want_of_a_scope_is_named() {
        let all: BTreeSet<_> = Capability::ALL.into_iter().collect();
        let secrets = [
            "ViewEndpointSecret",
            "ManageEndpointSecret",
            "ManageEndpoint",
        ];
        let expected = |scope| -> &[&str] {
            match scope {
                Scope::Secrets => &secrets,
                Scope::Replays => &["CreateAttempts"],
                Scope::Endpoints => &["ManageEndpoint"],
                Scope::Tokens => &["API keys"],
                _ => &[],
            }
        };
        for scope in Scope::ALL {
            assert_eq!(in_want_of(scope, &all), expected(scope), "{scope:?}");
            let looking = BTreeSet::from([Capability::ViewBase]);
            assert!(in_want_of(scope, &looking).is_empty(), "{scope:?}");
        }
        // A capability has some use where there is the scope that it goes by.
        for capability in Capability::ALL {
            let one = BTreeSet::from([capability]);
            if let Some(scope) = scope_of_capability(capability)
                && capability != Capability::ViewBase
            {
                assert!(!in_want_of(scope, &one).is_empty(), "{capability:?}");
            }
        }
    }

    #[test]
    fn a_scope_that_a_role_can_never_use_is_known() {
        for (role, is_limited, expected) in [
            (Role::Publisher, false, "publish, read"),
            (
                Role::Viewer,
                false,
                "read, tokens, status, operational_webhooks",
            ),
            (Role::Viewer, true, "read, tokens"),
            (
                Role::WebhookUser,
                false,
                "read, endpoints, secrets, replays",
            ),
            (
                Role::Application,
                false,
                "read, endpoints, secrets, replays",
            ),
            (
                Role::WebhookAdmin,
                false,
                "read, endpoints, secrets, replays, tokens",
            ),
            (
                Role::WebhookAdmin,
                true,
                "read, endpoints, secrets, replays",
            ),
            (
                Role::Owner,
                true,
                "publish, read, endpoints, secrets, replays, applications, expunge, tokens, portal",
            ),
        ] {
            let usable = usable_scopes(role, is_limited).names();
            assert_eq!(usable, expected, "{role:?} {is_limited}");
        }
        let all = usable_scopes(Role::Owner, false);
        assert!(all.iter().eq(Scope::ALL));
    }
}
