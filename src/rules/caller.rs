//! Callers, and what each of them may do.
//!
//! Every command has a caller. A thing that the caller may not see is not found; a thing that it
//! may see and not change is forbidden. `permits` has the table of roles. Grants are looked up in
//! the catalog when the command is decided on, not when the request comes in: a grant that is
//! removed ends at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::permits::{Capabilities, Permit, permit, session_may, token_reach};
use super::scopes::{Scopes, scope_of};
use crate::catalog::{ApplicationEntry, Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::EventType;
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId, TokenId};
use crate::domain::job::Job;
use crate::domain::jwt::{Claims, Subject};
use crate::domain::scope::Scope;
use crate::domain::token::{GRANTS_MAX, Role, Token};
use crate::error::{Error, Result};

pub use super::permits::Action;

const FORBIDDEN: Error = Error::forbidden("this token may not do that");
const LIMITED: Error = Error::forbidden(
    "this token is limited to some applications, and that concerns the whole organisation",
);
const NOT_GRANTED: Error =
    Error::forbidden("this token was not granted the application, so it makes no endpoints there");

/// The proof of a credential.
#[derive(Clone)]
pub enum Proof {
    Token(Arc<Token>),
    /// The claims, with the SHA-256 of the token's text, by which it is revoked.
    Signed(Arc<Claims>, [u8; 32]),
}

impl Proof {
    /// The SHA-256 of the credential's text.
    pub fn hash(&self) -> [u8; 32] {
        match self {
            Proof::Token(token) => token.hash,
            Proof::Signed(_, hash) => *hash,
        }
    }
}

/// The credential of a caller, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Credential {
    /// A token that the API made.
    Token(TokenId),
    /// The token of a portal link, with the capabilities of its session.
    Session(TokenId, Capabilities),
    /// A signed token (JWT), which has no record: its times, and the SHA-256 of its text.
    Signed {
        issued_at: Option<Timestamp>,
        expires_at: Option<Timestamp>,
        hash: [u8; 32],
    },
}

/// The caller of a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    pub organisation: OrganisationId,
    credential: Credential,
    role: Role,
    /// The only application that the caller can see; all of the organisation where absent.
    application: Option<ApplicationId>,
    /// The caller sees only the applications in its record.
    is_limited: bool,
    /// Only these scopes; all that the role may where absent.
    scopes: Option<Scopes>,
    /// The key of the visit that stands for the credential, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    visit: Option<[u8; 32]>,
}

impl Caller {
    /// Returns the caller as one by way of a visit, who is a caller only for as long as the visit
    /// lasts.
    pub fn by_visit(self, key: [u8; 32]) -> Caller {
        Caller {
            visit: Some(key),
            ..self
        }
    }

    pub fn visit(&self) -> Option<[u8; 32]> {
        self.visit
    }

    pub fn credential(&self) -> Credential {
        self.credential
    }

    /// Whether the caller is a customer, not the platform itself.
    pub fn is_customer(&self) -> bool {
        match self.role {
            Role::Application | Role::WebhookUser => true,
            Role::Owner | Role::Publisher | Role::WebhookAdmin | Role::Viewer => false,
        }
    }

    /// Whether secrets stay with an endpoint that the caller gives another origin. They do for the
    /// platform's people, who may read them all (the action `reading`): a token without that scope
    /// would have them sent to a host of its own.
    pub fn keeps_secrets(&self, reading: Action) -> bool {
        let deals_with_all = matches!(self.role, Role::Owner | Role::WebhookAdmin);
        deals_with_all && self.lacks_scope(reading).is_none()
    }

    /// The caller's token, where its holder sees other things than others with the same role do.
    pub fn own_view(&self) -> Option<TokenId> {
        match self.credential {
            Credential::Session(id, _) => Some(id),
            Credential::Token(id) if self.role == Role::WebhookUser || self.is_limited => Some(id),
            Credential::Token(_) | Credential::Signed { .. } => None,
        }
    }

    /// The SHA-256 of the credential's text.
    pub fn credential_hash(&self, catalog: &Catalog) -> Result<[u8; 32]> {
        match self.credential {
            Credential::Signed { hash, .. } => Ok(hash),
            Credential::Token(_) | Credential::Session(..) => {
                let token = self.token(catalog).ok_or(Error::Unauthenticated)?;
                Ok(token.hash)
            }
        }
    }

    /// The record behind the caller; none for signed tokens. A token that was revoked a moment ago is an
    /// error.
    pub fn record<'a>(&self, catalog: &'a Catalog) -> Result<Option<&'a Token>> {
        match self.credential {
            Credential::Signed { .. } => Ok(None),
            Credential::Token(_) | Credential::Session(..) => match self.token(catalog) {
                Some(token) => Ok(Some(token)),
                None => Err(Error::Unauthenticated),
            },
        }
    }

    /// When a signed token ends.
    pub fn signed_end(&self) -> Option<Timestamp> {
        match self.credential {
            Credential::Signed { expires_at, .. } => expires_at,
            Credential::Token(_) | Credential::Session(..) => None,
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

    /// How far the caller may do this, whatever its scopes are. This decides what exists for the
    /// caller: a missing scope hides nothing.
    fn reach(&self, action: Action) -> Permit {
        match self.credential {
            Credential::Session(_, capabilities) if !session_may(capabilities, action) => {
                Permit::Never
            }
            Credential::Session(..) => permit(self.role, action),
            Credential::Token(_) | Credential::Signed { .. } => {
                token_reach(self.role, self.is_limited, action)
            }
        }
    }

    fn permit(&self, action: Action) -> Permit {
        match self.lacks_scope(action) {
            Some(_) => Permit::Never,
            None => self.reach(action),
        }
    }

    /// The scope without which the caller may not do what it could do otherwise.
    fn lacks_scope(&self, action: Action) -> Option<Scope> {
        let scope = scope_of(action);
        let lacks = self.scopes.is_some_and(|scopes| !scopes.has(scope));
        (lacks && self.reach(action) != Permit::Never).then_some(scope)
    }

    /// Why the caller may not do this.
    fn refusal(&self, action: Action) -> Error {
        let by_role = permit(self.role, action) != Permit::Never;
        match self.lacks_scope(action) {
            Some(scope) => Error::lacks_scope(scope.name()),
            None if self.is_limited && by_role => LIMITED,
            None => FORBIDDEN,
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

    /// The scopes that the caller's token is limited to; none for all that the role may.
    pub fn scopes(&self) -> Option<Scopes> {
        self.scopes
    }

    /// Whether the caller may do this in the organisation; with tokens, as far as it sees them.
    pub fn may(&self, action: Action) -> Result<()> {
        match self.permit(action) {
            Permit::Everywhere | Permit::Users => Ok(()),
            Permit::Listed | Permit::Own | Permit::Granted | Permit::Never => {
                Err(self.refusal(action))
            }
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
        // Before anything is looked up: a caller without the scope does not learn what exists.
        if let Some(scope) = self.lacks_scope(action) {
            return Err(Error::lacks_scope(scope.name()));
        }
        let entry = catalog
            .application(self.organisation, id_or_uid)
            .filter(|entry| self.sees_application(catalog, entry))
            .ok_or(Error::not_found("application"))?;
        match self.permit(action) {
            Permit::Never => Err(self.refusal(action)),
            Permit::Granted
                if action == Action::CreateEndpoints
                    && !self.is_granted(catalog, entry.application.id) =>
            {
                Err(NOT_GRANTED)
            }
            _ => Ok(entry),
        }
    }

    pub fn sees_application(&self, catalog: &Catalog, entry: &ApplicationEntry) -> bool {
        let id = entry.application.id;
        let is_user = self.role == Role::WebhookUser;
        match is_user && !self.is_granted(catalog, id) {
            true => {
                let mut endpoints = entry.endpoints.iter();
                endpoints.any(|endpoint| self.sees_endpoint(catalog, endpoint))
            }
            false => self.sees(catalog, id),
        }
    }

    /// Whether the application is one of those in the token's record: in which a webhook user may make
    /// endpoints, or to which another token is limited.
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
            .ok_or(Error::not_found("endpoint"))
    }

    /// Whether the endpoint, and what was sent to it, exists as far as the caller can tell.
    pub fn sees_endpoint(&self, catalog: &Catalog, endpoint: &Endpoint) -> bool {
        let within = endpoint.organisation == self.organisation;
        within
            && match self.reach(Action::ReadEndpoints) {
                Permit::Everywhere => true,
                Permit::Listed | Permit::Own => self.sees(catalog, endpoint.application),
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
        if self.reach(Action::ReadHistory) != Permit::Granted {
            return None;
        }
        let endpoints = entry.endpoints.iter();
        let seen = endpoints.filter(|endpoint| self.sees_endpoint(catalog, endpoint));
        Some(seen.cloned().collect())
    }

    /// Whether the caller may do this with something of the organisation, whatever that is.
    pub fn may_with_some(&self, action: Action) -> Result<()> {
        match self.permit(action) {
            Permit::Never => Err(self.refusal(action)),
            _ => Ok(()),
        }
    }

    /// The job with this id.
    pub fn job<'a>(&self, catalog: &'a Catalog, id: &str) -> Result<&'a Arc<Job>> {
        id.parse()
            .ok()
            .and_then(|id| catalog.job(self.organisation, id))
            .filter(|job| self.sees_job(catalog, job))
            .ok_or(Error::not_found("background job"))
    }

    /// Whether the job exists as far as the caller can tell.
    pub fn sees_job(&self, catalog: &Catalog, job: &Job) -> bool {
        let within = job.organisation == self.organisation;
        within
            && match self.reach(Action::ReadJobs) {
                Permit::Everywhere => true,
                Permit::Listed | Permit::Own => job
                    .replay()
                    .is_some_and(|replay| self.sees(catalog, replay.application)),
                Permit::Granted => job
                    .replay()
                    .and_then(|replay| catalog.endpoint(self.organisation, replay.endpoint))
                    .is_some_and(|endpoint| self.sees_endpoint(catalog, endpoint)),
                Permit::Users | Permit::Never => false,
            }
    }

    /// Whether the token exists as far as the caller can tell. Portal sessions are not shown as
    /// tokens: they end by themselves or by the application's `expire-all`.
    pub fn sees_token(&self, token: &Token) -> bool {
        let within = token.organisation == self.organisation && token.session.is_none();
        within
            && match self.reach(Action::ReadTokens) {
                Permit::Everywhere => true,
                Permit::Users => token.role == Role::WebhookUser,
                Permit::Listed | Permit::Own | Permit::Granted | Permit::Never => false,
            }
    }

    /// Returns the changes that make a new endpoint: the endpoint, and its grant to a caller that
    /// sees no others.
    pub fn creation(&self, catalog: &Catalog, endpoint: Endpoint) -> Result<Vec<Change>> {
        let grant = match self.reach(Action::CreateEndpoints) {
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

    fn sees(&self, catalog: &Catalog, application: ApplicationId) -> bool {
        match self.role {
            Role::Owner
            | Role::Publisher
            | Role::WebhookAdmin
            | Role::WebhookUser
            | Role::Viewer => !self.is_limited || self.is_granted(catalog, application),
            Role::Application => self.application == Some(application),
        }
    }

    pub fn of(proof: &Proof) -> Caller {
        match proof {
            Proof::Token(token) => Caller {
                organisation: token.organisation,
                credential: match &token.session {
                    Some(session) => Credential::Session(token.id, (&session.capabilities).into()),
                    None => Credential::Token(token.id),
                },
                role: token.role,
                application: token.application,
                is_limited: token.is_limited(),
                scopes: token
                    .scopes
                    .as_ref()
                    .map(|scopes| scopes.iter().copied().collect()),
                visit: None,
            },
            Proof::Signed(claims, hash) => Caller {
                organisation: claims.subject.organisation,
                credential: Credential::Signed {
                    issued_at: claims.issued_at,
                    expires_at: claims.expires_at,
                    hash: *hash,
                },
                role: match claims.subject.application {
                    Some(_) => Role::Application,
                    None => Role::Owner,
                },
                application: claims.subject.application,
                is_limited: false,
                scopes: None,
                visit: None,
            },
        }
    }

    /// Checks that the caller's credential is still valid.
    pub fn still_holds(&self, catalog: &Catalog, now: Timestamp) -> Result<()> {
        let is_there = |key| {
            let entry = catalog.visit(key);
            entry.is_some_and(|entry| !catalog.is_over(entry, now))
        };
        let holds = self.visit.as_ref().is_none_or(is_there)
            && match self.credential {
                // The same rule as at the start of the request.
                Credential::Signed {
                    issued_at,
                    expires_at,
                    hash,
                } => {
                    let claims = Claims {
                        subject: Subject {
                            organisation: self.organisation,
                            application: self.application,
                        },
                        issued_at,
                        expires_at,
                        feature_flags: BTreeSet::new(),
                    };
                    !claims.have_ended(now) && catalog.takes_signed(&claims, || hash, now)
                }
                Credential::Token(_) | Credential::Session(..) => self
                    .token(catalog)
                    .is_some_and(|token| token.expires_at.is_none_or(|end| end > now)),
            };
        match holds {
            true => Ok(()),
            false => Err(Error::Unauthenticated),
        }
    }
}

/// Returns the token with this grant. Grants of endpoints that were deleted are dropped: their ids
/// never come back.
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

/// The event types that a caller sees: those with feature flags only if it has one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeatureFlags {
    /// The platform's own people and machines see all of them.
    All,
    /// A customer's flags.
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

    pub fn of(proof: &Proof) -> FeatureFlags {
        match proof {
            Proof::Token(token) if token.role == Role::Application => {
                let session = token.session.as_ref();
                let flags = session.map(|session| session.feature_flags.clone());
                FeatureFlags::Only(flags.unwrap_or_default())
            }
            Proof::Signed(claims, _) if claims.subject.application.is_some() => {
                FeatureFlags::Only(claims.feature_flags.clone())
            }
            Proof::Token(_) | Proof::Signed(..) => FeatureFlags::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::Capability;

    fn caller(role: Role, is_limited: bool, scopes: Option<Scopes>) -> Caller {
        Caller {
            organisation: OrganisationId([1; 20]),
            credential: Credential::Token(TokenId([1; 20])),
            role,
            application: None,
            is_limited,
            scopes,
            visit: None,
        }
    }

    #[test]
    fn a_scope_lets_a_token_do_its_part_of_what_the_role_may_and_its_lack_is_named() {
        let actions = Action::ALL.map(|(action, _)| action);
        for (role, scope, action) in Role::ALL.into_iter().flat_map(|role| {
            let scopes = Scope::ALL.into_iter();
            scopes.flat_map(move |scope| actions.map(|action| (role, scope, action)))
        }) {
            let whole = caller(role, false, None);
            let scoped = caller(role, false, Some(Scopes::from_iter([scope])));
            let case = format!("{role:?} {scope:?} {action:?}");
            assert_eq!(scoped.reach(action), whole.permit(action), "{case}");
            let belongs = scope_of(action) == scope;
            let expected = match belongs {
                true => whole.permit(action),
                false => Permit::Never,
            };
            assert_eq!(scoped.permit(action), expected, "{case}");
            let lacks = scoped.lacks_scope(action).map(Scope::name);
            let is_lacking = !belongs && whole.permit(action) != Permit::Never;
            let expected = is_lacking.then_some(scope_of(action).name());
            assert_eq!(lacks, expected, "{case}");
            match (scoped.refusal(action), expected) {
                (Error::LacksScope(scope), Some(expected)) => assert_eq!(scope, expected),
                (Error::Forbidden(_), None) => {}
                (other, _) => panic!("{case}: {other}"),
            }
        }
    }

    #[test]
    fn a_token_that_is_limited_to_applications_has_nothing_of_the_whole_organisation() {
        use Action::*;
        use Permit::{Everywhere, Listed, Never};
        let beyond = [
            CreateApplications,
            HoldAll,
            ChangeEventTypes,
            ReadUsage,
            CancelUsage,
            ReadTokens,
            ChangeTokens,
            ChangeGrants,
            ReadMetrics,
            ReadStatus,
            HandOver,
            ReadOwnEndpoints,
            OwnEndpoints,
        ];
        for role in [
            Role::Owner,
            Role::Publisher,
            Role::WebhookAdmin,
            Role::Viewer,
        ] {
            let limited = caller(role, true, None);
            for (action, _) in Action::ALL {
                let expected = match permit(role, action) {
                    Never => Never,
                    _ if beyond.contains(&action) => Never,
                    _ if [ReadEventTypes, ReadProfiles].contains(&action) => Everywhere,
                    _ => Listed,
                };
                assert_eq!(limited.permit(action), expected, "{role:?} {action:?}");
                let says_why = permit(role, action) != Never && expected == Never;
                let refusal = limited.refusal(action).to_string();
                if expected == Never {
                    let found = refusal == LIMITED.to_string();
                    assert_eq!(found, says_why, "{role:?} {action:?}: {refusal}");
                }
                // No application is known here, so that none is one of its own.
                assert_eq!(limited.may(action).is_ok(), expected == Everywhere);
            }
        }
    }

    #[test]
    fn each_capability_lets_a_session_do_its_part_and_nothing_else() {
        use Action::*;
        use Capability::*;
        const LOOKING: [Action; 6] = [
            ReadApplication,
            ReadEventTypes,
            ReadEndpoints,
            ReadHistory,
            ReadJobs,
            ReadProfiles,
        ];
        const ROLE: [Action; 15] = [
            ReadApplication,
            ReadEventTypes,
            ReadEndpoints,
            ReadHistory,
            ReadJobs,
            CreateEndpoints,
            ChangeEndpoints,
            ChangeContact,
            ReadSecrets,
            ChangeSecrets,
            SendAgain,
            SendMissing,
            ReadKeys,
            OwnKeys,
            ReadProfiles,
        ];
        const NEVER: [Action; 20] = [
            ListApplications,
            CreateApplications,
            ChangeApplications,
            HoldEndpoints,
            HoldAll,
            ChangeEventTypes,
            Publish,
            ReadUsage,
            CancelUsage,
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
            ReadLanes,
        ];
        assert_eq!(ROLE.len() + NEVER.len(), Action::ALL.len());
        for (capabilities, beside_looking) in [
            (vec![], vec![]),
            (vec![ViewBase], vec![]),
            (vec![ViewEndpointSecret], vec![ReadSecrets]),
            (vec![ManageEndpointSecret], vec![ReadSecrets, ChangeSecrets]),
            (vec![ManageTransformations], vec![]),
            (vec![CreateAttempts], vec![SendAgain, SendMissing]),
            (
                vec![ManageEndpoint],
                vec![
                    CreateEndpoints,
                    ChangeEndpoints,
                    ChangeContact,
                    ReadSecrets,
                    ChangeSecrets,
                ],
            ),
            (
                vec![ManageEndpoint, CreateAttempts],
                vec![
                    CreateEndpoints,
                    ChangeEndpoints,
                    ChangeContact,
                    ReadSecrets,
                    ChangeSecrets,
                    SendAgain,
                    SendMissing,
                    ReadKeys,
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
                is_limited: false,
                scopes: None,
                visit: None,
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
