//! The state of the mails to people, for status and metrics.

use crate::clock::Timestamp;

/// The state of the mails.
#[derive(Clone, Debug, Default)]
pub struct NotifyState {
    /// Since when mails do not reach somebody of the operator's, and why.
    pub failing: Option<(Timestamp, String)>,
}

/// What became of a mail, or of a recipient of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailOutcome {
    /// The relay has taken it.
    Sent,
    /// It will not take it for this recipient.
    Refused,
    /// It did not take it this time, or was not reached.
    Failed,
}

impl MailOutcome {
    pub const ALL: [MailOutcome; 3] =
        [MailOutcome::Sent, MailOutcome::Refused, MailOutcome::Failed];

    pub fn name(self) -> &'static str {
        match self {
            MailOutcome::Sent => "sent",
            MailOutcome::Refused => "refused",
            MailOutcome::Failed => "failed",
        }
    }
}
