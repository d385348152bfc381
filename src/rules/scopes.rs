//! Scopes: which operations belong to which group.
//!
//! Each action belongs to exactly one scope. A token with scopes may do those of its role's actions
//! that are in its scopes; a refusal names the scope that is missing. docs/credentials.md lists the
//! names.

use serde::{Deserialize, Serialize};

use super::permits::Action;
use crate::domain::scope::Scope;

/// The scope that an action belongs to.
pub fn scope_of(action: Action) -> Scope {
    match action {
        Action::Publish => Scope::Publish,
        Action::ListApplications
        | Action::ReadApplication
        | Action::ReadEventTypes
        | Action::ReadEndpoints
        | Action::ReadHistory
        | Action::ReadJobs
        | Action::ReadUsage
        | Action::ReadLanes
        | Action::ReadProfiles => Scope::Read,
        Action::CreateEndpoints
        | Action::ChangeEndpoints
        | Action::ChangeContact
        | Action::HoldEndpoints
        | Action::HoldAll => Scope::Endpoints,
        Action::ReadSecrets | Action::ChangeSecrets => Scope::Secrets,
        Action::SendAgain | Action::SendMissing | Action::CancelUsage => Scope::Replays,
        Action::CreateApplications | Action::ChangeApplications => Scope::Applications,
        Action::ChangeEventTypes => Scope::EventTypes,
        Action::Expunge => Scope::Expunge,
        // Whoever has it can make a credential for everything, so this adds nothing.
        Action::HandOver => Scope::Tokens,
        Action::ReadTokens
        | Action::ChangeTokens
        | Action::ChangeGrants
        | Action::ReadKeys
        | Action::OwnKeys => Scope::Tokens,
        Action::ChangeSessions => Scope::Portal,
        Action::ReadMetrics | Action::ReadStatus => Scope::Status,
        Action::ReadOwnEndpoints | Action::OwnEndpoints => Scope::OperationalWebhooks,
    }
}

/// A set of scopes that is copied with its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes(u16);

impl Scopes {
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u16) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// For people: `publish, read`.
    pub fn names(self) -> String {
        self.iter().map(Scope::name).collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Scopes {
        let bits = scopes.into_iter();
        Scopes(bits.fold(0, |bits, scope| bits | (1 << scope as u16)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/credentials.md, from the other side.
    #[test]
    fn each_action_belongs_to_one_scope_and_each_scope_has_one() {
        use Action::*;
        for scope in Scope::ALL {
            let expected: &[Action] = match scope {
                Scope::Publish => &[Publish],
                Scope::Read => &[
                    ListApplications,
                    ReadApplication,
                    ReadEventTypes,
                    ReadEndpoints,
                    ReadHistory,
                    ReadJobs,
                    ReadUsage,
                    ReadLanes,
                    ReadProfiles,
                ],
                Scope::Endpoints => &[
                    CreateEndpoints,
                    ChangeEndpoints,
                    ChangeContact,
                    HoldEndpoints,
                    HoldAll,
                ],
                Scope::Secrets => &[ReadSecrets, ChangeSecrets],
                Scope::Replays => &[SendAgain, SendMissing, CancelUsage],
                Scope::Applications => &[CreateApplications, ChangeApplications],
                Scope::EventTypes => &[ChangeEventTypes],
                Scope::Expunge => &[Expunge],
                Scope::Tokens => &[
                    HandOver,
                    ReadTokens,
                    ChangeTokens,
                    ChangeGrants,
                    ReadKeys,
                    OwnKeys,
                ],
                Scope::Portal => &[ChangeSessions],
                Scope::Status => &[ReadMetrics, ReadStatus],
                Scope::OperationalWebhooks => &[ReadOwnEndpoints, OwnEndpoints],
            };
            let found = Action::ALL.into_iter().map(|(action, _)| action);
            let found: Vec<Action> = found.filter(|one| scope_of(*one) == scope).collect();
            let missing = expected.iter().filter(|one| !found.contains(one)).count();
            assert_eq!((found.len(), missing), (expected.len(), 0), "{scope:?}");
        }
    }

    #[test]
    fn a_set_holds_what_went_in() {
        let set: Scopes = [Scope::Publish, Scope::OperationalWebhooks]
            .into_iter()
            .collect();
        for scope in Scope::ALL {
            let expected = [Scope::Publish, Scope::OperationalWebhooks].contains(&scope);
            assert_eq!(set.has(scope), expected, "{scope:?}");
        }
        assert_eq!(set.names(), "publish, operational_webhooks");
    }
}
