//! All commands in one type, for the way to another machine.
//!
//! A command travels as JSON in a [`Given`], which has a version and names the caller. A field that is
//! added with a default keeps the version; every other change of a command's or an answer's shape is a new
//! one. `commands.golden` has an example of each command as it is written.

use serde::{Deserialize, Serialize};

use super::applications::{
    ChangeApplication, CreateApplication, DeleteApplication, ReplaceApplication,
};
use super::caller::Caller;
use super::challenges::{KeepChallenge, ReleaseUnverified};
use super::endpoints::{
    AskForChallenge, ChangeEndpoint, ChangeHeaders, CreateEndpoint, DeleteEndpoint,
    ReplaceEndpoint, SetHeaders,
};
use super::event_types::{
    ChangeEventType, CreateEventType, DeleteEventType, ImportEventTypes, ReplaceEventType,
};
use super::jobs::{
    BeginReplay, CancelJob, CountApplications, CountEventTypes, EndJob, ForgetJobs, NoteProgress,
};
use super::keys::{CreateKey, DeleteKey};
use super::links::{CreateLink, ExpireSessions, LogOut};
use super::ocrolus::{ConfigureAccount, DeregisterAccount, RotateAccountSecret};
use super::ovation::{ChangeWebhook, CreateWebhook, DeleteWebhook};
use super::rotation::RotateSecret;
use super::tokens::{
    CreateToken, DeleteToken, GrantApplication, GrantEndpoint, RevokeApplication, RevokeEndpoint,
};
use super::upkeep::{ForgetEnded, ForgetVisits, KeepSeen, KeepUses};
use super::visits::{BeginVisit, EndVisit, EndVisits, SignOut};
use super::{Command, Decided, OwnCommand, View, decide};
use crate::clock::Timestamp;
use crate::store::catalog::Catalog;

/// The version of what is written now, and the only one that is read.
pub const VERSION: u16 = 1;

macro_rules! commands {
    (
        $any:ident, $answer:ident, $kind:ident($one:ident: $of_one:ty, $other:ident: $of_other:ty),
        [$($name:ident),* $(,)?]
    ) => {
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "command", content = "with")]
        #[allow(clippy::large_enum_variant, reason = "few exist at a time")]
        pub enum $any {
            $($name($name)),*
        }

        /// The answer to the command of the same name.
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "answer", content = "with")]
        #[allow(clippy::large_enum_variant, reason = "few exist at a time")]
        pub enum $answer {
            $($name(<$name as $kind>::Answer)),*
        }

        $(impl From<$name> for $any {
            fn from(command: $name) -> $any {
                $any::$name(command)
            }
        })*

        impl $any {
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];
        }

        impl $kind for $any {
            type Answer = $answer;

            fn decide(self, $one: $of_one, $other: $of_other) -> Decided<$answer> {
                match self {
                    $($any::$name(command) => command
                        .decide($one, $other)
                        .map(|(changes, answer)| (changes, $answer::$name(answer)))),*
                }
            }
        }
    };
}

commands! {
    AnyCommand, AnyAnswer, Command(caller: &Caller, view: &View<'_>), [
        CreateEventType,
        ReplaceEventType,
        ChangeEventType,
        DeleteEventType,
        ImportEventTypes,
        CreateApplication,
        ReplaceApplication,
        ChangeApplication,
        DeleteApplication,
        CreateEndpoint,
        ReplaceEndpoint,
        ChangeEndpoint,
        SetHeaders,
        ChangeHeaders,
        RotateSecret,
        DeleteEndpoint,
        AskForChallenge,
        CreateWebhook,
        ChangeWebhook,
        DeleteWebhook,
        ConfigureAccount,
        DeregisterAccount,
        RotateAccountSecret,
        CreateToken,
        DeleteToken,
        GrantEndpoint,
        RevokeEndpoint,
        GrantApplication,
        RevokeApplication,
        CreateKey,
        DeleteKey,
        CreateLink,
        ExpireSessions,
        LogOut,
        BeginReplay,
        CountApplications,
        CountEventTypes,
        CancelJob,
        BeginVisit,
        EndVisit,
        EndVisits,
    ]
}

commands! {
    AnyOwnCommand, AnyOwnAnswer, OwnCommand(catalog: &Catalog, now: Timestamp), [
        KeepChallenge,
        ReleaseUnverified,
        NoteProgress,
        EndJob,
        ForgetJobs,
        SignOut,
        ForgetEnded,
        ForgetVisits,
        KeepSeen,
        KeepUses,
    ]
}

/// A command with its giver, as one machine hands it to another.
#[derive(Serialize, Deserialize)]
pub struct Given {
    version: u16,
    caller: Caller,
    #[serde(flatten)]
    command: AnyCommand,
}

/// Why a text is not a command that this server can decide on.
#[derive(Debug, thiserror::Error)]
pub enum NotACommand {
    #[error("the command has version {0}, and this server reads version {VERSION}")]
    OtherVersion(u16),
    #[error("the command cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Given {
    pub fn new(caller: Caller, command: impl Into<AnyCommand>) -> Given {
        Given {
            version: VERSION,
            caller,
            command: command.into(),
        }
    }

    pub fn read(text: &str) -> Result<Given, NotACommand> {
        #[derive(Deserialize)]
        struct Version {
            version: u16,
        }
        // What else another version has may not be readable here.
        match serde_json::from_str::<Version>(text)?.version {
            VERSION => Ok(serde_json::from_str(text)?),
            other => Err(NotACommand::OtherVersion(other)),
        }
    }

    pub fn decide(self, view: &View<'_>) -> Decided<AnyAnswer> {
        decide(self.command, &self.caller, view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::Example;

    #[test]
    fn each_command_is_written_as_it_was_before() {
        let golden = include_str!("commands.golden");
        let mut names: Vec<&str> = Vec::new();
        for line in golden.lines() {
            let command: AnyCommand = serde_json::from_str(line).expect(line);
            assert_eq!(serde_json::to_string(&command).unwrap(), line);
            let start = r#"{"command":""#;
            names.push(line[start.len()..].split('"').next().unwrap());
        }
        names.dedup();
        assert_eq!(names, AnyCommand::NAMES);
    }

    #[test]
    fn a_command_arrives_as_it_was_given() {
        let example = Example::new();
        let line = include_str!("commands.golden").lines().next().unwrap();
        let command: AnyCommand = serde_json::from_str(line).unwrap();
        let given = Given::new(example.owner(), command);
        let text = serde_json::to_string(&given).unwrap();
        let (changes, answer) = Given::read(&text).unwrap().decide(&example.view()).unwrap();
        assert_eq!(changes.len(), 1);
        let AnyAnswer::CreateEventType(made) = answer else {
            panic!("the answer to another command");
        };
        assert_eq!(made.name, "invoice.paid");
        let newer = text.replace(r#""version":1"#, r#""version":2"#);
        let refused = Given::read(&newer).err().expect("it is another version");
        assert_eq!(
            refused.to_string(),
            "the command has version 2, and this server reads version 1"
        );
        assert!(Given::read("{}").is_err());
    }
}
