//! Who calls, and what they may do.
//!
//! [`Caller`] is an extractor: a request without a valid credential ends with 401 before its body
//! is read. What a caller may not see answers 404, what it may see and not do 403; [`permit`] is
//! the whole table, which a portal session's capabilities narrow ([`session_may`]). Grants are
//! looked up in the catalog that a decision is made on, and not when the request comes in: one that
//! is taken away counts at once.

use std::collections::BTreeSet;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use super::Context;
use super::credential::{Proof, context_of, with_proof};
use super::error::Failure;
use super::fair::{Holder, Payer};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::EventType;
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId, TokenId};
use crate::domain::job::Job;
use crate::domain::token::{Capability, GRANTS_MAX, Role, Token};
use crate::error::{Error, Result};
use crate::store::catalog::ApplicationEntry;
use crate::store::{Catalog, Change};

const FORBIDDEN: Error = Error::Forbidden("this token may not do that");
const NOT_GRANTED: Error =
    Error::Forbidden("this token was not granted the application, so it makes no endpoints there");

/// What a request wants to do, as far as permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    ListApplications,
    /// Create, update, delete.
    ChangeApplications,
    ReadApplication,
    ReadEventTypes,
    ChangeEventTypes,
    Publish,
    ReadEndpoints,
    CreateEndpoints,
    /// Update, delete.
    ChangeEndpoints,
    ReadSecrets,
    /// Rotate.
    ChangeSecrets,
    /// Send a message to an endpoint again, replay many, send it a test.
    SendAgain,
    /// Send to an endpoint what was never for it.
    SendMissing,
    /// Messages and attempts.
    ReadHistory,
    /// Background jobs.
    ReadJobs,
    /// What all of the organisation used.
    ReadUsage,
    /// Delete what messages say and what was answered to attempts.
    Expunge,
    ReadTokens,
    /// Create and revoke.
    ChangeTokens,
    /// Which endpoints a webhook user sees.
    ChangeGrants,
    /// Make links to the portal, and end what they gave.
    ChangeSessions,
    ReadMetrics,
    /// How the server is, and what is wrong right now.
    ReadStatus,
    /// The organisation's own endpoints, and everything about them.
    OwnEndpoints,
    /// An application's own tokens, its API keys: list, create, revoke.
    OwnKeys,
    /// What waits for whom.
    ReadLanes,
}

impl Action {
    /// All of them, with the names by which pages are told what to show.
    pub const ALL: [(Action, &str); 26] = [
        (Action::ListApplications, "listApplications"),
        (Action::ChangeApplications, "changeApplications"),
        (Action::ReadApplication, "readApplication"),
        (Action::ReadEventTypes, "readEventTypes"),
        (Action::ChangeEventTypes, "changeEventTypes"),
        (Action::Publish, "publish"),
        (Action::ReadEndpoints, "readEndpoints"),
        (Action::CreateEndpoints, "createEndpoints"),
        (Action::ChangeEndpoints, "changeEndpoints"),
        (Action::ReadSecrets, "readSecrets"),
        (Action::ChangeSecrets, "changeSecrets"),
        (Action::SendAgain, "sendAgain"),
        (Action::SendMissing, "sendMissing"),
        (Action::ReadHistory, "readHistory"),
        (Action::ReadJobs, "readJobs"),
        (Action::ReadUsage, "readUsage"),
        (Action::Expunge, "expunge"),
        (Action::ReadTokens, "readTokens"),
        (Action::ChangeTokens, "changeTokens"),
        (Action::ChangeGrants, "changeGrants"),
        (Action::ChangeSessions, "changeSessions"),
        (Action::ReadMetrics, "readMetrics"),
        (Action::ReadStatus, "readStatus"),
        (Action::OwnEndpoints, "ownEndpoints"),
        (Action::OwnKeys, "ownKeys"),
        (Action::ReadLanes, "readLanes"),
    ];
}

/// How far a role's permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    Everywhere,
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
fn permit(role: Role, action: Action) -> Permit {
    use Permit::{Everywhere, Granted, Never, Own, Users};
    let column = match role {
        Role::Owner => 0,
        Role::Publisher => 1,
        Role::WebhookAdmin => 2,
        Role::WebhookUser => 3,
        Role::Application => 4,
    };
    let row = match action {
        //                            owner       publisher   admin       user        application
        Action::ListApplications => [Everywhere, Never, Everywhere, Never, Never],
        Action::ChangeApplications => [Everywhere, Never, Never, Never, Never],
        Action::ReadApplication => [Everywhere, Everywhere, Everywhere, Granted, Own],
        Action::ReadEventTypes => [Everywhere, Everywhere, Everywhere, Everywhere, Everywhere],
        Action::ChangeEventTypes => [Everywhere, Never, Never, Never, Never],
        Action::Publish => [Everywhere, Everywhere, Never, Never, Never],
        Action::ReadEndpoints => [Everywhere, Never, Everywhere, Granted, Own],
        Action::CreateEndpoints => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ChangeEndpoints => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ReadSecrets => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ChangeSecrets => [Everywhere, Never, Everywhere, Granted, Own],
        Action::SendAgain => [Everywhere, Never, Everywhere, Granted, Own],
        Action::SendMissing => [Everywhere, Never, Everywhere, Never, Own],
        Action::ReadHistory => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ReadJobs => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ReadUsage => [Everywhere, Never, Never, Never, Never],
        Action::Expunge => [Everywhere, Never, Never, Never, Never],
        Action::ReadTokens => [Everywhere, Never, Users, Never, Never],
        Action::ChangeTokens => [Everywhere, Never, Never, Never, Never],
        Action::ChangeGrants => [Everywhere, Never, Users, Never, Never],
        Action::ChangeSessions => [Everywhere, Never, Never, Never, Never],
        Action::ReadMetrics => [Everywhere, Never, Never, Never, Never],
        Action::ReadStatus => [Everywhere, Never, Never, Never, Never],
        Action::OwnEndpoints => [Everywhere, Never, Never, Never, Never],
        Action::OwnKeys => [Everywhere, Never, Never, Never, Own],
        Action::ReadLanes => [Everywhere, Never, Everywhere, Never, Never],
    };
    row[column]
}

/// Whether a portal session with these capabilities may do what the role application may. Looking
/// at what is no secret is always in.
fn session_may(capabilities: Capabilities, action: Action) -> bool {
    use Capability::{CreateAttempts, ManageEndpoint, ManageEndpointSecret, ViewEndpointSecret};
    let has_one_of = |these: &[Capability]| these.iter().any(|one| capabilities.has(*one));
    match action {
        Action::ReadApplication
        | Action::ReadEventTypes
        | Action::ReadEndpoints
        | Action::ReadHistory
        | Action::ReadJobs => true,
        Action::CreateEndpoints | Action::ChangeEndpoints => has_one_of(&[ManageEndpoint]),
        Action::ReadSecrets => {
            has_one_of(&[ViewEndpointSecret, ManageEndpointSecret, ManageEndpoint])
        }
        Action::ChangeSecrets => has_one_of(&[ManageEndpointSecret, ManageEndpoint]),
        Action::SendAgain | Action::SendMissing => has_one_of(&[CreateAttempts]),
        // A key may do all that the role may, so it is made by those only who may do so, too.
        Action::OwnKeys => capabilities.has(ManageEndpoint) && capabilities.has(CreateAttempts),
        Action::ListApplications
        | Action::ChangeApplications
        | Action::ChangeEventTypes
        | Action::Publish
        | Action::ReadUsage
        | Action::Expunge
        | Action::ReadTokens
        | Action::ChangeTokens
        | Action::ChangeGrants
        | Action::ChangeSessions
        | Action::ReadMetrics
        | Action::ReadStatus
        | Action::OwnEndpoints
        | Action::ReadLanes => false,
    }
}

/// A set of capabilities that is copied with its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u8);

impl Capabilities {
    fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }
}

impl From<&BTreeSet<Capability>> for Capabilities {
    fn from(set: &BTreeSet<Capability>) -> Capabilities {
        Capabilities(set.iter().fold(0, |bits, one| bits | (1 << *one as u8)))
    }
}

/// What a caller showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token that the API made.
    Token(TokenId),
    /// What a portal link gave.
    Session(TokenId, Capabilities),
    /// A signed token (JWT), of which there is no record.
    Signed { expires_at: Option<Timestamp> },
}

/// Whose request this is.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub organisation: OrganisationId,
    credential: Credential,
    role: Role,
    /// The only application that the caller can see; all of the organisation where absent.
    application: Option<ApplicationId>,
}

impl Caller {
    pub fn credential(&self) -> Credential {
        self.credential
    }

    /// Whose share of what all use this request takes from.
    pub fn payer(&self) -> Payer {
        match (self.application, self.credential) {
            (Some(application), _) => Payer::Application(application),
            (None, Credential::Token(id) | Credential::Session(id, _)) => Payer::Token(id),
            (None, Credential::Signed { .. }) => Payer::Organisation(self.organisation),
        }
    }

    /// Counts the request that the caller was found in; an error where there were too many.
    pub fn admitted(self, context: &Context) -> Result<Caller> {
        let holder = match self.role {
            Role::Application | Role::WebhookUser => Holder::Customer,
            Role::Owner | Role::Publisher | Role::WebhookAdmin => Holder::Platform,
        };
        let now = context.store.clock().now();
        context.shares.admit(self.payer(), holder, now)?;
        Ok(self)
    }

    /// Whether secrets stay with an endpoint that the caller gives another origin: those of the
    /// platform's people do, who deal with everybody's.
    pub fn keeps_secrets(&self) -> bool {
        matches!(self.role, Role::Owner | Role::WebhookAdmin)
    }

    /// The token whose holder sees other things than others with the same role do.
    pub fn own_view(&self) -> Option<TokenId> {
        match self.credential {
            Credential::Session(id, _) => Some(id),
            Credential::Token(id) if self.role == Role::WebhookUser => Some(id),
            Credential::Token(_) | Credential::Signed { .. } => None,
        }
    }

    /// The record behind the caller, as the catalog has it now; none where a token was revoked a
    /// moment ago, and for signed tokens.
    fn token<'a>(&self, catalog: &'a Catalog) -> Option<&'a Arc<Token>> {
        match self.credential {
            Credential::Token(id) | Credential::Session(id, _) => catalog.token(id),
            Credential::Signed { .. } => None,
        }
    }

    /// Whether what the caller showed is still good. A request is let in when its head arrives, and
    /// the body may take a while: what makes a credential asks again where nothing races with it, or
    /// a link that is ended meanwhile would leave something behind.
    pub fn still_holds(&self, catalog: &Catalog, now: Timestamp) -> Result<()> {
        let expires_at = match self.credential {
            Credential::Signed { expires_at } => expires_at,
            Credential::Token(_) | Credential::Session(..) => {
                self.token(catalog)
                    .ok_or(Error::Unauthenticated)?
                    .expires_at
            }
        };
        match expires_at.is_none_or(|end| end > now) {
            true => Ok(()),
            false => Err(Error::Unauthenticated),
        }
    }

    fn permit(&self, action: Action) -> Permit {
        match self.credential {
            Credential::Session(_, capabilities) if !session_may(capabilities, action) => {
                Permit::Never
            }
            // An application's people make keys in the portal; a key makes no others.
            Credential::Token(_) | Credential::Signed { .. }
                if self.role == Role::Application && action == Action::OwnKeys =>
            {
                Permit::Never
            }
            _ => permit(self.role, action),
        }
    }

    /// The names of all that the caller may do, wherever that is.
    pub fn may_do(&self) -> Vec<&'static str> {
        let all = Action::ALL.into_iter();
        let allowed = all.filter(|(action, _)| self.permit(*action) != Permit::Never);
        allowed.map(|(_, name)| name).collect()
    }

    /// The only application that the caller can see.
    pub fn own_application(&self) -> Option<ApplicationId> {
        self.application
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the caller may do this in the organisation; with tokens, as far as it sees them.
    pub fn may(&self, action: Action) -> Result<()> {
        match self.permit(action) {
            Permit::Everywhere | Permit::Users => Ok(()),
            Permit::Own | Permit::Granted | Permit::Never => Err(FORBIDDEN),
        }
    }

    /// Whether the caller may do this in the application, should it exist.
    pub fn may_in(&self, catalog: &Catalog, application: &str, action: Action) -> Result<()> {
        match self.may(action) {
            Ok(()) => Ok(()),
            Err(_) => self.application(catalog, application, action).map(|_| ()),
        }
    }

    /// The application to do this in, by its id or uid.
    pub fn application<'a>(
        &self,
        catalog: &'a Catalog,
        id_or_uid: &str,
        action: Action,
    ) -> Result<&'a Arc<ApplicationEntry>> {
        let entry = catalog
            .application(self.organisation, id_or_uid)
            .filter(|entry| self.sees_application(catalog, entry))
            .ok_or(Error::NotFound("application"))?;
        match self.permit(action) {
            Permit::Never => Err(FORBIDDEN),
            Permit::Granted
                if action == Action::CreateEndpoints
                    && !self.is_granted(catalog, entry.application.id) =>
            {
                Err(NOT_GRANTED)
            }
            _ => Ok(entry),
        }
    }

    fn sees_application(&self, catalog: &Catalog, entry: &ApplicationEntry) -> bool {
        let id = entry.application.id;
        let is_user = self.role == Role::WebhookUser;
        match is_user && !self.is_granted(catalog, id) {
            true => {
                let mut endpoints = entry.endpoints.iter();
                endpoints.any(|endpoint| self.sees_endpoint(catalog, endpoint))
            }
            false => self.sees(id),
        }
    }

    /// Whether a webhook user may make endpoints in the application.
    pub fn is_granted(&self, catalog: &Catalog, application: ApplicationId) -> bool {
        let token = self.token(catalog);
        let granted = token.and_then(|token| token.applications.as_ref());
        granted.is_some_and(|granted| granted.contains(&application))
    }

    /// The endpoint to do this with: both by id or uid.
    pub fn endpoint<'a>(
        &self,
        catalog: &'a Catalog,
        application: &str,
        id_or_uid: &str,
        action: Action,
    ) -> Result<&'a Arc<Endpoint>> {
        let entry = self.application(catalog, application, action)?;
        entry
            .endpoint(id_or_uid)
            .filter(|endpoint| self.sees_endpoint(catalog, endpoint))
            .ok_or(Error::NotFound("endpoint"))
    }

    /// Whether the endpoint, and what was sent to it, exists as far as the caller can tell.
    pub fn sees_endpoint(&self, catalog: &Catalog, endpoint: &Endpoint) -> bool {
        let within = endpoint.organisation == self.organisation;
        within
            && match self.permit(Action::ReadEndpoints) {
                Permit::Everywhere => true,
                Permit::Own => self.sees(endpoint.application),
                Permit::Granted => self
                    .token(catalog)
                    .is_some_and(|token| token.grants.contains(&endpoint.id)),
                Permit::Users | Permit::Never => false,
            }
    }

    /// The endpoints of the application whose messages and attempts the caller may read, for one
    /// that may not read everything there.
    pub fn limited_to(
        &self,
        catalog: &Catalog,
        entry: &ApplicationEntry,
    ) -> Option<Vec<Arc<Endpoint>>> {
        if self.permit(Action::ReadHistory) != Permit::Granted {
            return None;
        }
        let endpoints = entry.endpoints.iter();
        let seen = endpoints.filter(|endpoint| self.sees_endpoint(catalog, endpoint));
        Some(seen.cloned().collect())
    }

    /// Whether the caller may do this with something of the organisation, whatever that is.
    pub fn may_with_some(&self, action: Action) -> Result<()> {
        match self.permit(action) {
            Permit::Never => Err(FORBIDDEN),
            _ => Ok(()),
        }
    }

    /// The job with this id.
    pub fn job<'a>(&self, catalog: &'a Catalog, id: &str) -> Result<&'a Arc<Job>> {
        self.may_with_some(Action::ReadJobs)?;
        id.parse()
            .ok()
            .and_then(|id| catalog.job(self.organisation, id))
            .filter(|job| self.sees_job(catalog, job))
            .ok_or(Error::NotFound("background task"))
    }

    /// Whether the job exists as far as the caller can tell.
    pub fn sees_job(&self, catalog: &Catalog, job: &Job) -> bool {
        let within = job.organisation == self.organisation;
        within
            && match self.permit(Action::ReadJobs) {
                Permit::Everywhere => true,
                Permit::Own => job
                    .replay()
                    .is_some_and(|replay| self.sees(replay.application)),
                Permit::Granted => job
                    .replay()
                    .and_then(|replay| catalog.endpoint(self.organisation, replay.endpoint))
                    .is_some_and(|endpoint| self.sees_endpoint(catalog, endpoint)),
                Permit::Users | Permit::Never => false,
            }
    }

    /// Whether the token exists as far as the caller can tell. A portal session is none that one
    /// keeps: it ends by itself or by the application's `expire-all`.
    pub fn sees_token(&self, token: &Token) -> bool {
        let within = token.organisation == self.organisation && token.session.is_none();
        within
            && match self.permit(Action::ReadTokens) {
                Permit::Everywhere => true,
                Permit::Users => token.role == Role::WebhookUser,
                Permit::Own | Permit::Granted | Permit::Never => false,
            }
    }

    /// What makes a new endpoint: the endpoint, and its grant to a caller that sees no others.
    pub fn creation(&self, catalog: &Catalog, endpoint: Endpoint) -> Result<Vec<Change>> {
        let grant = match self.permit(Action::CreateEndpoints) {
            Permit::Granted => {
                // A token that was revoked a moment ago must not come back.
                let token = self.token(catalog).ok_or(Error::Unauthenticated)?;
                Some(Change::PutToken(granted(catalog, token, endpoint.id)?))
            }
            _ => None,
        };
        let made = [Change::PutEndpoint(endpoint)].into_iter();
        Ok(made.chain(grant).collect())
    }

    fn sees(&self, application: ApplicationId) -> bool {
        match self.role {
            Role::Owner | Role::Publisher | Role::WebhookAdmin | Role::WebhookUser => true,
            Role::Application => self.application == Some(application),
        }
    }

    pub fn of(proof: &Proof<'_>) -> Caller {
        match proof {
            Proof::Token(token) => Caller {
                organisation: token.organisation,
                credential: match &token.session {
                    Some(session) => Credential::Session(token.id, (&session.capabilities).into()),
                    None => Credential::Token(token.id),
                },
                role: token.role,
                application: token.application,
            },
            Proof::Signed(claims) => Caller {
                organisation: claims.subject.organisation,
                credential: Credential::Signed {
                    expires_at: claims.expires_at,
                },
                role: match claims.subject.application {
                    Some(_) => Role::Application,
                    None => Role::Owner,
                },
                application: claims.subject.application,
            },
        }
    }
}

/// The token with this grant. Those whose endpoint is gone make room: their ids never come back.
pub fn granted(catalog: &Catalog, token: &Token, endpoint: EndpointId) -> Result<Token> {
    let mut token = token.clone();
    let organisation = token.organisation;
    token
        .grants
        .retain(|grant| catalog.endpoint(organisation, *grant).is_some());
    token.grants.insert(endpoint);
    match token.grants.len() <= GRANTS_MAX {
        true => Ok(token),
        false => Err(Error::TooMany(format!(
            "a webhook user has at most {GRANTS_MAX} endpoints"
        ))),
    }
}

/// Which event types a caller sees: those with feature flags only by having one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureFlags {
    /// The platform's own people and machines.
    All,
    /// A customer's.
    Only(BTreeSet<String>),
}

impl FeatureFlags {
    pub fn show(&self, event_type: &EventType) -> bool {
        let flags = &event_type.feature_flags;
        match self {
            FeatureFlags::All => true,
            FeatureFlags::Only(own) => {
                flags.is_empty() || flags.iter().any(|flag| own.contains(flag))
            }
        }
    }

    fn of(proof: Proof<'_>) -> FeatureFlags {
        match proof {
            Proof::Token(token) if token.role == Role::Application => {
                let session = token.session.as_ref();
                let flags = session.map(|session| session.feature_flags.clone());
                FeatureFlags::Only(flags.unwrap_or_default())
            }
            Proof::Signed(claims) if claims.subject.application.is_some() => {
                FeatureFlags::Only(claims.feature_flags)
            }
            Proof::Token(_) | Proof::Signed(_) => FeatureFlags::All,
        }
    }
}

impl FromRequest for Caller {
    type Error = Failure;
    type Future = Ready<Result<Caller, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = with_proof(request, |proof| Caller::of(&proof));
        // A handler takes its caller once, so that each request counts once.
        let admitted = caller.and_then(|caller| caller.admitted(context_of(request)));
        ready(admitted.map_err(Failure::Of))
    }
}

impl FromRequest for FeatureFlags {
    type Error = Failure;
    type Future = Ready<Result<FeatureFlags, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(with_proof(request, FeatureFlags::of).map_err(Failure::Of))
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
            ],
            Role::WebhookAdmin => vec![
                (ListApplications, Everywhere),
                (ReadApplication, Everywhere),
                (ReadEventTypes, Everywhere),
                (ReadEndpoints, Everywhere),
                (CreateEndpoints, Everywhere),
                (ChangeEndpoints, Everywhere),
                (ReadSecrets, Everywhere),
                (ChangeSecrets, Everywhere),
                (SendAgain, Everywhere),
                (SendMissing, Everywhere),
                (ReadHistory, Everywhere),
                (ReadJobs, Everywhere),
                (ReadTokens, Users),
                (ChangeGrants, Users),
                (ReadLanes, Everywhere),
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
            ],
            Role::Application => vec![
                (ReadApplication, Own),
                (ReadEventTypes, Everywhere),
                (ReadEndpoints, Own),
                (CreateEndpoints, Own),
                (ChangeEndpoints, Own),
                (ReadSecrets, Own),
                (ChangeSecrets, Own),
                (SendAgain, Own),
                (SendMissing, Own),
                (ReadHistory, Own),
                (ReadJobs, Own),
                (OwnKeys, Own),
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
    fn each_capability_lets_a_session_do_its_part_and_nothing_else() {
        use Action::*;
        use Capability::*;
        const LOOKING: [Action; 5] = [
            ReadApplication,
            ReadEventTypes,
            ReadEndpoints,
            ReadHistory,
            ReadJobs,
        ];
        const ROLE: [Action; 12] = [
            ReadApplication,
            ReadEventTypes,
            ReadEndpoints,
            ReadHistory,
            ReadJobs,
            CreateEndpoints,
            ChangeEndpoints,
            ReadSecrets,
            ChangeSecrets,
            SendAgain,
            SendMissing,
            OwnKeys,
        ];
        const NEVER: [Action; 11] = [
            ListApplications,
            ChangeApplications,
            ChangeEventTypes,
            Publish,
            ReadUsage,
            ReadTokens,
            ChangeTokens,
            ChangeGrants,
            ChangeSessions,
            ReadMetrics,
            ReadStatus,
        ];
        for (capabilities, beside_looking) in [
            (vec![], vec![]),
            (vec![ViewBase], vec![]),
            (vec![ViewEndpointSecret], vec![ReadSecrets]),
            (vec![ManageEndpointSecret], vec![ReadSecrets, ChangeSecrets]),
            (vec![ManageTransformations], vec![]),
            (vec![CreateAttempts], vec![SendAgain, SendMissing]),
            (
                vec![ManageEndpoint],
                vec![CreateEndpoints, ChangeEndpoints, ReadSecrets, ChangeSecrets],
            ),
            (
                vec![ManageEndpoint, CreateAttempts],
                vec![
                    CreateEndpoints,
                    ChangeEndpoints,
                    ReadSecrets,
                    ChangeSecrets,
                    SendAgain,
                    SendMissing,
                    OwnKeys,
                ],
            ),
        ] {
            let set: BTreeSet<Capability> = capabilities.into_iter().collect();
            let caller = Caller {
                organisation: OrganisationId([1; 20]),
                credential: Credential::Session(TokenId([1; 20]), (&set).into()),
                role: Role::Application,
                application: Some(ApplicationId([1; 20])),
            };
            for action in ROLE.into_iter().chain(NEVER) {
                let may = LOOKING.contains(&action) || beside_looking.contains(&action);
                let expected = match may {
                    true => permit(Role::Application, action),
                    false => Permit::Never,
                };
                assert_eq!(caller.permit(action), expected, "{set:?} {action:?}");
            }
        }
    }
}
