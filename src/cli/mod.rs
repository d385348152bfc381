//! The command line: arguments to command to one-line error and exit code.
//!
//! Only `main` calls this. `serve` runs the server; `check`, `token reset-owner`, `token jwt`,
//! `verify-store`, `rebuild` and `restore` work on the settings and on a data directory that no server uses;
//! `backup` copies one, used or not, and `verify-backup` reads the copy; `notify test` speaks with the mail relay;
//! the other `token` commands, `apply` and `import` are clients of a running server (`client`);
//! `sink` and `verify` help to test receivers. Exit codes: 0 done, 1 failed, 2 wrong usage.
//! Standard output carries the result, and standard error one line about the failure, or one for each
//! mistake in the settings, and lines about how far something has come that takes long.

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, Flags};
use crate::delivery::address::OwnAddresses;
use crate::notify::Post;
use crate::{delivery, server, store};

mod apply;
mod backup;
mod capture;
mod client;
mod follow;
mod import;
mod jwt;
mod notify;
mod owner;
mod pages;
mod progress;
mod sink;
mod verify;

#[derive(Parser)]
#[command(
    name = "postrider",
    version,
    about = "Sends webhooks: stores, signs, delivers, retries and logs"
)]
struct Arguments {
    /// The settings' file [default: ./config.toml, else /etc/postrider/config.toml, where present]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Allow receivers on this machine's loopback addresses; for trying things out only
    #[arg(long, global = true)]
    dev: bool,
    /// Run `migrate` before the server
    #[arg(long, global = true)]
    migrate: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default)
    Serve,
    /// Check the settings and print those that are not the defaults, with where each is from
    Check {
        /// Print the defaults, too
        #[arg(long)]
        all: bool,
    },
    /// Manage the credentials of API callers
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Give a running server the event types, applications and endpoints of a file, and the operator's own
    Apply(apply::Arguments),
    /// Copy applications, endpoints and event types from another server into a running one
    Import {
        #[command(subcommand)]
        source: import::Source,
    },
    /// Take over a data directory that an older version wrote, which cannot open it any more then; the
    /// server must be stopped
    Migrate,
    /// Check everything that is stored; the server must be stopped
    VerifyStore {
        /// Do not say on standard error, every few seconds, how far it has come
        #[arg(long)]
        quiet: bool,
    },
    /// Make the live database anew from the checkpoint file and the journal; the server must be stopped
    Rebuild,
    /// Copy a store, of a running server or not, to a folder or a bucket
    Backup(backup::BackupArguments),
    /// Make a new store from a backup, as it was at a moment, or from an export of the registrations
    Restore(backup::RestoreArguments),
    /// Check everything in a backup, as a restore would, and restore nothing
    VerifyBackup(backup::VerifyArguments),
    /// Try the mails about endpoints that fail
    Notify {
        #[command(subcommand)]
        command: NotifyCommand,
    },
    /// Run a test receiver that prints the requests it gets
    Sink(sink::Arguments),
    /// Check a captured request: its signature, or everything that a profile says
    Verify(verify::Arguments),
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token and print it; it is not shown again
    Create(client::Create),
    /// List the tokens, without their secret part
    List(client::Connection),
    /// Revoke a token
    Revoke(client::Revoke),
    /// Let a token of the role webhook_user see an endpoint, or make endpoints in an application
    Grant(client::Grant),
    /// Take an endpoint, or an application, from a token of the role webhook_user
    RevokeGrant(client::Grant),
    /// Sign a token (JWT) with auth.jwt_secret of the settings, and print it
    Jwt(jwt::Arguments),
    /// Replace a lost owner token; the server must be stopped
    ResetOwner,
}

#[derive(Subcommand)]
enum NotifyCommand {
    /// Send a test mail to the addresses in notify.to of the settings
    Test,
}

/// Why a command ends early.
enum Failure {
    /// A sentence for standard error; exit code 1.
    Failed(String),
    /// The problems of the settings, a line each; exit code 1.
    Settings(ConfigError),
    /// The arguments make no sense; exit code 2.
    Usage(String),
    /// Whoever read our output has seen enough.
    ReaderGone,
}

impl Failure {
    fn failed(reason: impl fmt::Display) -> Failure {
        Failure::Failed(reason.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Settings(error)
    }
}

impl From<Box<dyn Error>> for Failure {
    fn from(error: Box<dyn Error>) -> Failure {
        match error.downcast::<ConfigError>() {
            Ok(wrong) => Failure::Settings(*wrong),
            Err(other) => Failure::failed(other),
        }
    }
}

type Result<T = ()> = std::result::Result<T, Failure>;

pub fn main() -> ExitCode {
    // Files that we write hold secrets: nobody else may read them, in any directory.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    match run(arguments) {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(Failure::Failed(reason)) => {
            complain(&reason);
            ExitCode::from(1)
        }
        Err(Failure::Settings(wrong)) => {
            wrong.problems.iter().for_each(|problem| complain(problem));
            ExitCode::from(1)
        }
        Err(Failure::Usage(reason)) => {
            complain(&reason);
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result {
    let flags = Flags { dev: arguments.dev };
    let settings = || config::load(arguments.config.as_deref(), flags).map_err(Failure::from);
    let command = arguments.command.unwrap_or(Command::Serve);
    if arguments.migrate && !matches!(command, Command::Serve) {
        let reason = "--migrate is for the server alone; `postrider migrate` does it and ends";
        return Err(Failure::Usage(reason.to_owned()));
    }
    match command {
        Command::Serve => {
            if arguments.migrate {
                migrate(&settings()?)?;
            }
            server::serve(arguments.config, flags).map_err(Failure::from)
        }
        Command::Check { all } => check(arguments.config.as_deref(), flags, all),
        Command::Token { command } => match command {
            TokenCommand::Create(create) => create.run(&settings()?),
            TokenCommand::List(connection) => client::list(&connection, &settings()?),
            TokenCommand::Revoke(revoke) => revoke.run(&settings()?),
            TokenCommand::Grant(grant) => grant.give(&settings()?),
            TokenCommand::RevokeGrant(grant) => grant.take(&settings()?),
            TokenCommand::Jwt(arguments) => arguments.run(&settings()?),
            TokenCommand::ResetOwner => reset_owner(&settings()?),
        },
        Command::Apply(arguments) => arguments.run(&settings()?),
        Command::Import { source } => source.run(&settings()?),
        Command::Migrate => migrate(&settings()?),
        Command::VerifyStore { quiet } => verify_store(&settings()?, quiet),
        Command::Rebuild => rebuild(&settings()?),
        Command::Backup(arguments) => arguments.run(&settings()?),
        Command::Restore(arguments) => arguments.run(&settings()?),
        Command::VerifyBackup(arguments) => arguments.run(&settings()?),
        Command::Notify { command } => match command {
            NotifyCommand::Test => notify::test(&settings()?),
        },
        Command::Sink(arguments) => arguments.run(settings),
        Command::Verify(arguments) => arguments.run(settings),
    }
}

fn check(file: Option<&Path>, flags: Flags, all: bool) -> Result {
    let loaded = config::load_with_sources(file, flags)?;
    delivery::SendSettings::from_config(&loaded.config, &OwnAddresses::default())?;
    Post::from_config(&loaded.config)?;
    let of_files = server::file_limit_problem(&loaded.config);
    for warning in loaded.warnings().into_iter().chain(of_files) {
        complain(&warning);
    }
    say(loaded.to_toml(all).trim_end())
}

fn reset_owner(config: &Config) -> Result {
    owner::become_owner_of(&config.store.path)?;
    let path = store::reset_owner(&store::StoreSettings::from_config(config), &Clock::System)
        .map_err(Failure::failed)?;
    say(&format!("the new owner token is in {}", path.display()))
}

fn migrate(config: &Config) -> Result {
    owner::become_owner_of(&config.store.path)?;
    let settings = store::StoreSettings::from_config(config);
    let is_taken_over = store::migrate(&settings, &Clock::System).map_err(Failure::failed)?;
    let path = config.store.path.display();
    say(&match is_taken_over {
        true => format!("{path} is of this version from now on"),
        false => format!("{path} has nothing to migrate: --migrate can be left out"),
    })
}

fn verify_store(config: &Config, quiet: bool) -> Result {
    owner::become_owner_of(&config.store.path)?;
    let mut lines = progress::Lines::new();
    let mut tell = |progress: &store::VerifyProgress| {
        if !quiet {
            lines.show(progress);
        }
    };
    let settings = store::StoreSettings::from_config(config);
    let report = store::verify(&settings, &Clock::System, &mut tell).map_err(Failure::failed)?;
    say_counts(&report.counts)?;
    for problem in &report.problems {
        say(&format!("damaged: {problem}"))?;
    }
    match report.problems.len() {
        0 => Ok(()),
        1 => Err(Failure::failed("the store is damaged in 1 place")),
        many => Err(Failure::failed(format!(
            "the store is damaged in {many} places"
        ))),
    }
}

fn rebuild(config: &Config) -> Result {
    owner::become_owner_of(&config.store.path)?;
    let report = store::rebuild(&store::StoreSettings::from_config(config), &Clock::System)
        .map_err(Failure::failed)?;
    say_counts(&report.counts)?;
    for problem in &report.problems {
        say(&format!("damaged: {problem}"))?;
    }
    let written_at = report.written_at.map(|at| format!(" of {at}"));
    say(&format!(
        "the live database was made anew from the checkpoint file{} and the journal",
        written_at.unwrap_or_default()
    ))?;
    if let Some(kept_as) = &report.kept_as {
        let kept_as = kept_as.display();
        say(&format!(
            "the old one is kept as {kept_as}: remove it when all is well"
        ))?;
    }
    say("next: start the server, or run `postrider verify-store` first")
}

fn say_counts(counts: &[(String, u64)]) -> Result {
    let width = counts.iter().map(|(kind, _)| kind.len()).max();
    for (kind, count) in counts {
        say(&format!(
            "{kind:width$}  {count}",
            width = width.unwrap_or(0)
        ))?;
    }
    Ok(())
}

/// More than any token and the white space around it.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// A file's text. The error says why there is none.
fn read_text(path: &Path, bytes_max: u64) -> std::result::Result<String, String> {
    let mut text = String::new();
    let name = path.display();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {name}: {error}"))?;
    match text.len() as u64 > bytes_max {
        true => Err(format!("{name} has more than {bytes_max} bytes")),
        false => Ok(text),
    }
}

/// Prints a line. A reader that went away (`| head`) ends the command without a complaint.
fn say(line: &str) -> Result {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ReaderGone),
        Err(error) => Err(Failure::failed(format!("cannot print: {error}"))),
    }
}

/// Prints the failure on standard error; a closed one changes nothing.
fn complain(reason: &str) {
    let _ = writeln!(io::stderr(), "postrider: {}", one_line(reason));
}

/// Prints clap's answer to the arguments: help as it is, mistakes as one line.
fn explain(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = say(text.trim_end());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            complain("a command is missing; --help lists them");
            ExitCode::from(2)
        }
        _ => {
            // The first paragraph is the mistake, the rest is the usage.
            let mistake = text.split("\n\n").next().unwrap_or_default();
            let mistake = mistake.strip_prefix("error: ").unwrap_or(mistake);
            complain(&format!("{mistake} (see --help)"));
            ExitCode::from(2)
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text from outside made safe for a terminal: control characters are shown as escapes.
fn printable(text: &str) -> String {
    text.chars().fold(String::new(), |mut shown, character| {
        if character.is_control() && character != '\n' && character != '\t' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_flags_stand_before_or_after() {
        for line in [
            "postrider --dev --config a.toml",
            "postrider serve --dev --config a.toml",
            "postrider --dev serve --config a.toml",
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert!(arguments.dev, "{line}");
            assert_eq!(arguments.config, Some("a.toml".into()), "{line}");
            assert!(
                matches!(arguments.command, None | Some(Command::Serve)),
                "{line}"
            );
        }
        assert!(Arguments::try_parse_from(["postrider", "sevre"]).is_err());
    }

    #[test]
    fn a_file_without_an_end_is_not_read() {
        let problem = read_text(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(problem, "/dev/zero has more than 1000 bytes");
        assert!(read_text(Path::new("/nowhere"), 1000).is_err());
    }

    #[test]
    fn what_a_stranger_sends_cannot_steer_the_terminal() {
        assert_eq!(
            printable("a\x1b[2Jb\n\tc\u{9b}é"),
            "a\\u{1b}[2Jb\n\tc\\u{9b}é"
        );
    }
}
