//! All commands in one type, for the way to another machine, and their answers.
//!
//! A command travels as JSON in a [`Given`], which has a version and names the caller, and is answered by a
//! [`CommandReply`]: the answer, or the error for which nothing changed. A field that a command does not have is
//! refused wherever it stands: a machine that did not know it would do without a limit or a condition that
//! the caller was promised. So every new field of a command is a new version, and so is every other change
//! of a shape, but for a field that is added to an answer. `commands.golden` has an example of each command,
//! each answer and each refusal as it is written.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::applications::{
    ChangeApplication, CreateApplication, DeleteApplication, ReplaceApplication,
};
use super::caller::Caller;
use super::challenges::{KeepChallenge, ReleaseUnverified};
use super::contacts::{ContactCodeMailed, DeleteContact, SetContact, VerifyContact};
use super::endpoints::{
    AskForChallenge, ChangeEndpoint, ChangeHeaders, CreateEndpoint, DeleteEndpoint, EnableEndpoint,
    ReplaceEndpoint, SetHeaders,
};
use super::event_types::{
    ChangeEventType, CreateEventType, DeleteEventType, ImportEventTypes, ReplaceEventType,
};
use super::holds::{HoldEndpoint, HoldEndpoints, ReleaseEndpoint, ReleaseEndpoints};
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
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::error::Error;

/// The version of what is written now, and the only one that is read.
pub const VERSION: u16 = 1;

macro_rules! commands {
    (
        $any:ident, $answer:ident, $kind:ident($one:ident: $of_one:ty, $other:ident: $of_other:ty),
        [$($name:ident),* $(,)?]
    ) => {
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "command", content = "with", deny_unknown_fields)]
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
        SetContact,
        VerifyContact,
        DeleteContact,
        CreateEndpoint,
        ReplaceEndpoint,
        ChangeEndpoint,
        SetHeaders,
        ChangeHeaders,
        RotateSecret,
        DeleteEndpoint,
        AskForChallenge,
        EnableEndpoint,
        HoldEndpoint,
        ReleaseEndpoint,
        HoldEndpoints,
        ReleaseEndpoints,
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
        ContactCodeMailed,
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
#[serde(deny_unknown_fields)]
pub struct Given {
    version: u16,
    caller: Caller,
    given: AnyCommand,
}

/// The reply to a command, as it is handed back.
#[derive(Serialize, Deserialize)]
pub struct CommandReply {
    version: u16,
    reply: Result<AnyAnswer, Error>,
}

/// Why a text cannot be read as a command or a reply.
#[derive(Debug, thiserror::Error)]
pub enum NotReadable {
    #[error("it has version {0}, and this server reads version {VERSION}")]
    OtherVersion(u16),
    #[error("it cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Reads a text of the version that this server knows. The version is checked first, because
/// another one may have fields that cannot be read here.
fn read<T: DeserializeOwned>(text: &str) -> Result<T, NotReadable> {
    #[derive(Deserialize)]
    struct Version {
        version: u16,
    }
    match serde_json::from_str::<Version>(text)?.version {
        VERSION => Ok(serde_json::from_str(text)?),
        other => Err(NotReadable::OtherVersion(other)),
    }
}

impl Given {
    pub fn new(caller: Caller, command: impl Into<AnyCommand>) -> Given {
        Given {
            version: VERSION,
            caller,
            given: command.into(),
        }
    }

    pub fn read(text: &str) -> Result<Given, NotReadable> {
        read(text)
    }

    /// The changes to commit, and what to reply once they are on disk.
    pub fn decide(self, view: &View<'_>) -> (Vec<Change>, CommandReply) {
        let (changes, reply) = match decide(self.given, &self.caller, view) {
            Ok((changes, answer)) => (changes, Ok(answer)),
            Err(error) => (Vec::new(), Err(error)),
        };
        let version = VERSION;
        (changes, CommandReply { version, reply })
    }
}

impl CommandReply {
    pub fn read(text: &str) -> Result<CommandReply, NotReadable> {
        read(text)
    }

    pub fn into_result(self) -> Result<AnyAnswer, Error> {
        self.reply
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::rules::tests::Example;

    const GOLDEN: &str = include_str!("commands.golden");

    /// The lines that begin so, and the names that follow.
    fn golden(start: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
        GOLDEN.lines().filter_map(move |line| {
            let name = line.strip_prefix(start)?.split('"').next()?;
            Some((line, name))
        })
    }

    fn is_written_as_before<T: Serialize + DeserializeOwned>(line: &str) {
        let read: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(serde_json::to_string(&read).unwrap(), line);
    }

    #[test]
    fn each_command_and_each_answer_is_written_as_it_was_before() {
        for (start, read, known) in [
            (
                r#"{"command":""#,
                is_written_as_before::<AnyCommand> as fn(&str),
                AnyCommand::NAMES,
            ),
            (
                r#"{"own":{"command":""#,
                is_written_as_before::<Own>,
                AnyOwnCommand::NAMES,
            ),
            (
                r#"{"version":1,"reply":{"Ok":{"answer":""#,
                is_written_as_before::<CommandReply>,
                AnyCommand::NAMES,
            ),
            (
                r#"{"version":1,"reply":{"Err":{""#,
                is_written_as_before::<CommandReply>,
                &REFUSALS,
            ),
            (
                r#"{"version":1,"reply":{"Err":""#,
                is_written_as_before::<CommandReply>,
                &["Unauthenticated", "SecretForToken", "Defect"],
            ),
            (
                r#"{"version":1,"caller":{"organisation":"org_08scxQNHVpFTZAuVqZq347lZyZV","credential":{""#,
                is_written_as_before::<Given>,
                &["Token", "Session", "Signed"],
            ),
        ] {
            let mut names: Vec<&str> = Vec::new();
            for (line, name) in golden(start) {
                read(line);
                names.push(name);
            }
            names.dedup();
            assert_eq!(names, known, "{start}");
        }
    }

    /// Marks a command of the server itself in the list of examples.
    #[derive(Serialize, Deserialize)]
    struct Own {
        own: AnyOwnCommand,
    }

    /// Those with a text or more in them.
    const REFUSALS: [&str; 11] = [
        "NotFound",
        "Conflict",
        "Invalid",
        "LimitReached",
        "InvalidRange",
        "Forbidden",
        "LacksScope",
        "ForbiddenAddress",
        "TooMany",
        "TooManyNow",
        "Unavailable",
    ];

    /// The texts of a caller's that have names of their own as keys.
    const MAPS: [&str; 5] = [
        "metadata",
        "headers",
        "auth_headers",
        "request_headers",
        "authentication_headers",
    ];

    /// The same with one more field, once for each object in it.
    fn with_another_field(value: &Value) -> Vec<Value> {
        match value {
            Value::Object(fields) => {
                let mut more = fields.clone();
                more.insert("unexpected".to_owned(), Value::Null);
                let mut all = vec![Value::Object(more)];
                let inner = fields
                    .iter()
                    .filter(|(name, _)| !MAPS.contains(&name.as_str()));
                for (name, inner) in inner {
                    all.extend(with_another_field(inner).into_iter().map(|inner| {
                        let replaced = [(name.clone(), inner)];
                        let fields = fields.clone().into_iter().chain(replaced);
                        Value::Object(Map::from_iter(fields))
                    }));
                }
                all
            }
            Value::Array(items) => {
                let mut all = Vec::new();
                for (place, inner) in items.iter().enumerate() {
                    all.extend(with_another_field(inner).into_iter().map(|inner| {
                        let mut items = items.clone();
                        items[place] = inner;
                        Value::Array(items)
                    }));
                }
                all
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_command_with_a_field_that_is_not_known_is_refused_wherever_that_stands() {
        let caller = serde_json::to_value(Example::new().owner()).unwrap();
        let mut count = 0;
        for (line, _) in golden(r#"{"command":""#) {
            let command: Value = serde_json::from_str(line).unwrap();
            let given = serde_json::json!({ "version": 1, "caller": caller, "given": command });
            assert!(Given::read(&given.to_string()).is_ok(), "{line}");
            for more in with_another_field(&given) {
                let more = more.to_string();
                let refused = matches!(Given::read(&more), Err(NotReadable::Malformed(_)));
                assert!(refused, "{more}");
                count += 1;
            }
        }
        assert!(count > 150, "{count}");
    }

    #[test]
    fn a_command_arrives_as_it_was_given_and_so_does_its_answer() {
        let example = Example::new();
        let (line, _) = golden(r#"{"command":""#).next().unwrap();
        let decided = |caller: Caller| {
            let command: AnyCommand = serde_json::from_str(line).unwrap();
            let text = serde_json::to_string(&Given::new(caller, command)).unwrap();
            let (changes, reply) = Given::read(&text).unwrap().decide(&example.view());
            let reply = serde_json::to_string(&reply).unwrap();
            let reply = CommandReply::read(&reply).unwrap().into_result();
            (changes.len(), reply, text)
        };
        let (count, reply, text) = decided(example.owner());
        let Ok(AnyAnswer::CreateEventType(made)) = reply else {
            panic!("the answer to another command");
        };
        assert_eq!((count, made.name.as_str()), (1, "invoice.paid"));
        let (count, reply, _) = decided(example.publisher());
        let refused = reply.err().expect("a publisher may not").to_string();
        assert_eq!((count, refused.as_str()), (0, "this token may not do that"));
        let newer = text.replace(r#""version":1"#, r#""version":2"#);
        let refused = Given::read(&newer).err().expect("it is another version");
        assert_eq!(
            refused.to_string(),
            "it has version 2, and this server reads version 1"
        );
        assert!(Given::read("{}").is_err());
    }
}
