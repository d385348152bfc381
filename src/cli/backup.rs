//! `backup`, `restore` and `verify-backup`: copies of a store, made and used by hand.
//!
//! `backup` reads the files of a store, whether a server uses it or not. `restore` from a backup makes a store in an
//! empty directory; from an export it makes one with the registrations alone. `verify-backup` restores into a
//! directory that it removes again.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::progress::Lines;
use super::{Failure, Result, complain, follow, owner, say, say_counts};
use crate::backup::{
    self, BackupError, Choice, Copied, Copier, Follow, Progress, Source, Target, TargetSettings,
};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config};
use crate::journal::{Disk, Reader};
use crate::store::{self, StoreSettings};

#[derive(clap::Args)]
pub struct BackupArguments {
    /// A folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX [default: backup.to of the settings]
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// A file with the key that encrypts the copy [default: backup.key or backup.key_file of the settings]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct RestoreArguments {
    /// A backup (a folder, or s3://…, gs://… or az://…), or a store's export of its registrations
    #[arg(long, value_name = "TARGET")]
    from: String,
    /// The moment, as 2026-11-27T10:00:00Z [default: the end of the backup]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The directory of the new store [default: store.path of the settings]
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
    /// Which store, where the backup has several: the name of its folder [default: the newest that goes back so far]
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// A file with the key of an encrypted backup [default: backup.key or backup.key_file of the settings]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Hold every endpoint, so that the new server sends nothing until somebody has looked and releases them
    #[arg(long, conflicts_with = "dry_run")]
    hold: bool,
    /// Check everything and restore nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on with what the server copies, until it hands the store over
    #[arg(long, conflicts_with_all = ["at", "dry_run"])]
    follow: bool,
}

#[derive(clap::Args)]
pub struct VerifyArguments {
    /// The backup [default: backup.to of the settings]
    #[arg(long, value_name = "TARGET")]
    from: Option<String>,
    /// A file with the key of an encrypted backup [default: backup.key or backup.key_file of the settings]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl BackupArguments {
    pub fn run(&self, config: &Config) -> Result {
        owner::become_owner_of(&config.store.path)?;
        let is_within = |to: &str| {
            let absolute = |path: &Path| std::path::absolute(path).ok();
            let both = absolute(Path::new(to)).zip(absolute(&config.store.path));
            both.is_some_and(|(to, store)| to.starts_with(store))
        };
        if self.to.as_deref().is_some_and(is_within) {
            let reason =
                "--to must be outside store.path: with that disk the copy would be lost, too";
            return Err(Failure::Usage(reason.to_owned()));
        }
        let target = open_target(self.to.as_deref(), self.key_file.as_deref(), config)?;
        let (copied, is_restorable) = copy(config, &target)?;
        let mebibytes = copied.bytes >> 20;
        say(&format!(
            "copied {} objects, {mebibytes} MiB, to {target}",
            copied.objects
        ))?;
        say(&format!(
            "the copy has everything up to {} (record {} of the journal)",
            Timestamp(copied.time_ms),
            copied.position
        ))?;
        if !is_restorable {
            complain(
                "the store has no checkpoint file yet, which its server writes in its first seconds: run this again \
                 then; before that nothing can be restored",
            );
        }
        if copied.still_to_erase > 0 {
            let parts = copied.still_to_erase;
            complain(&format!(
                "{parts} erased parts are still in the copy: run this again"
            ));
        }
        if target.keeps_versions() {
            complain(&format!(
                "{target} keeps older versions of objects: what was erased or deleted stays there until the bucket's own \
                 rules remove it, which is not in postrider's hands"
            ));
        }
        for damage in &copied.damage {
            say(&format!("damaged: {damage}"))?;
        }
        match copied.damage.is_empty() {
            true => Ok(()),
            false => Err(Failure::failed(
                "the store is damaged, and the copy has it as it is",
            )),
        }
    }
}

/// Copies the store to the target. Answers with what both runs did, and whether a store can be made of the copy.
fn copy(config: &Config, target: &Target) -> Result<(Copied, bool)> {
    let path = &config.store.path;
    let failed = |error: BackupError| Failure::failed(error.at(target));
    let no_store = || Failure::failed(format!("there is no store at {}", path.display()));
    if !path.join("journal").is_dir() {
        return Err(no_store());
    }
    let settings = StoreSettings::from_config(config);
    store::refuse_unfinished(&settings).map_err(Failure::failed)?;
    store::refuse_handed_over(&settings).map_err(Failure::failed)?;
    let source = || -> Result<Source> {
        let files = Arc::new(Disk::new(path.join("journal")));
        let journal = Reader::beside(files).map_err(|error| failed(error.into()))?;
        let directory = path.clone();
        Ok(Source { directory, journal })
    };
    let first = source()?;
    let stream = first.journal.segments().pop().ok_or_else(no_store)?.stream;
    let keep = Duration::from_secs(u64::from(config.backup.keep_days) * 24 * 3600);
    let folder = target.folder(&backup::folder_of(stream));
    let mut copier = Copier::open(folder, stream, keep).map_err(failed)?;
    let mut bar = Bar::new("copied");
    let mut run = |source: &Source| {
        copier.run(source, Clock::System.now(), &mut |progress| {
            bar.show(progress)
        })
    };
    let copied = run(&first).map_err(failed)?;
    // Parts that a server erased while this read are known from the records that it has appended by now.
    let rest = run(&source()?).map_err(failed)?;
    bar.finish();
    let is_restorable = copier.manifest().is_restorable();
    let all = Copied {
        bytes: copied.bytes + rest.bytes,
        objects: copied.objects + rest.objects,
        damage: [copied.damage, rest.damage].concat(),
        ..rest
    };
    Ok((all, is_restorable))
}

impl RestoreArguments {
    pub fn run(&self, config: &Config) -> Result {
        let mut settings = StoreSettings::from_config(config);
        if let Some(to) = &self.to {
            settings.path.clone_from(to);
        }
        if Path::new(&self.from).is_file() {
            return self.restore_export(&settings);
        }
        let target = open_target(Some(&self.from), self.key_file.as_deref(), config)?;
        let choice = Choice {
            stream: self.stream.as_deref().map(read_stream).transpose()?,
            at: self.at,
        };
        if self.dry_run {
            return verify(&target, choice, &settings);
        }
        owner::become_owner_of(&settings.path)?;
        let report = match self.follow || Follow::is_followed(&settings.path) {
            true => self.follow(&target, choice, &settings)?,
            false => {
                store::prepare_restore(&settings).map_err(Failure::failed)?;
                restore_into(&target, choice, &settings, false)?
            }
        };
        let held = match self.hold {
            true => Some(store::hold_restored(&settings, &Clock::System).map_err(Failure::failed)?),
            false => None,
        };
        store::finish_restore(&settings).map_err(Failure::failed)?;
        report.say()?;
        report.say_ages()?;
        let path = settings.path.display();
        if let Some(endpoints) = held {
            say(&format!(
                "next: start the server with store.path = \"{path}\""
            ))?;
            return say_held(endpoints);
        }
        say(&format!(
            "next: start the server with store.path = \"{path}\"; it goes on delivering"
        ))
    }

    /// Until the other server hands over; where that is lost, only with what is copied now.
    fn follow(&self, target: &Target, choice: Choice, settings: &StoreSettings) -> Result<Report> {
        if self.at.is_some() {
            return Err(Failure::failed(format!(
                "{} follows the copy (--follow), and cannot go back: restore into another directory",
                settings.path.display()
            )));
        }
        let until = match self.follow {
            true => follow::Until::HandedOver,
            false => follow::Until::Now,
        };
        follow::follow(target, choice.stream, settings, until)
    }

    /// The registrations alone.
    fn restore_export(&self, settings: &StoreSettings) -> Result {
        if self.at.is_some() || self.dry_run || self.stream.is_some() || self.follow {
            let reason = "--at, --stream, --dry-run and --follow are for backups; an export is of one moment";
            return Err(Failure::Usage(reason.to_owned()));
        }
        owner::become_owner_of(&settings.path)?;
        let report = store::restore(settings, Path::new(&self.from), &Clock::System, self.hold);
        let report = report.map_err(Failure::failed)?;
        say_counts(&report.counts)?;
        match self.hold {
            true => say_held(report.endpoints()),
            false => Ok(()),
        }
    }
}

/// What a restore with `--hold` leaves to do.
fn say_held(endpoints: usize) -> Result {
    say(&format!(
        "all endpoints are held ({endpoints}): the server takes messages and sends nothing until they are released"
    ))?;
    say(
        "look first; then release an endpoint, an application or all, in the console or with POST /api/v1/release",
    )
}

impl VerifyArguments {
    pub fn run(&self, config: &Config) -> Result {
        let target = open_target(self.from.as_deref(), self.key_file.as_deref(), config)?;
        verify(
            &target,
            Choice::default(),
            &StoreSettings::from_config(config),
        )
    }
}

/// What a restore tells.
pub(super) struct Report {
    pub(super) fetched: backup::Fetched,
    pub(super) restored: store::Restored,
    pub(super) target: String,
}

impl Report {
    fn say(&self) -> Result {
        let backup::Fetched {
            stream,
            position,
            moment,
            bytes,
            segments,
            ..
        } = &self.fetched;
        say_counts(&self.restored.counts)?;
        let mebibytes = bytes >> 20;
        say(&format!(
            "from {} segments, {mebibytes} MiB, of {}",
            segments, self.target
        ))?;
        say(&format!(
            "the store is as it was at {moment} (record {position} of stream {})",
            backup::folder_of(*stream)
        ))?;
        let damage = self.fetched.damage.iter().chain(&self.restored.problems);
        for problem in damage {
            say(&format!("damaged: {problem}"))?;
        }
        Ok(())
    }

    /// How old that is, and what follows from it.
    fn say_ages(&self) -> Result {
        if let Some(at) = self.fetched.handed_over_at {
            return say(&format!(
                "it was handed over at {at}: nothing happened in it since, and its server does not start on it again"
            ));
        }
        let age = Clock::System.now().since(self.fetched.moment).as_secs();
        say(&format!(
            "that was {age} s ago. What happened since is not known here:"
        ))?;
        say(
            "- attempts that were made since are made again: receivers may get a message twice, with the same id",
        )?;
        say(
            "- messages that were accepted since are lost; event ids and idempotency keys used since can be used again",
        )?;
        say("- what was erased, rotated, revoked or deleted since is back: do that again")
    }
}

fn restore_into(
    target: &Target,
    choice: Choice,
    settings: &StoreSettings,
    only_behind: bool,
) -> Result<Report> {
    let failed = |error: BackupError| Failure::failed(error.at(target));
    let mut bar = Bar::new("restored");
    let fetched = backup::fetch(
        target,
        choice,
        &settings.path,
        only_behind,
        &mut |progress| bar.show(progress),
    );
    bar.finish();
    let fetched = fetched.map_err(failed)?;
    let restored = store::begin_restored(settings, &Clock::System).map_err(Failure::failed)?;
    Ok(Report {
        fetched,
        restored,
        target: target.to_string(),
    })
}

/// Restores into a directory that is removed again.
fn verify(target: &Target, choice: Choice, settings: &StoreSettings) -> Result {
    let name = format!("postrider-verify-{}", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    let settings = StoreSettings {
        path: scratch.0.clone(),
        ..settings.clone()
    };
    store::prepare_restore(&settings).map_err(Failure::failed)?;
    let report = restore_into(target, choice, &settings, true)?;
    report.say()?;
    let problems = report.fetched.damage.len() + report.restored.problems.len();
    match problems {
        0 => say("everything in it was read and is whole; nothing was restored"),
        _ => Err(Failure::failed("the backup is not whole: see above")),
    }
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open_target(to: Option<&str>, key_file: Option<&Path>, config: &Config) -> Result<Target> {
    let Some(to) = to.or(config.backup.to.as_deref()) else {
        let reason = "name the backup, with --to or --from, or as backup.to of the settings";
        return Err(Failure::Usage(reason.to_owned()));
    };
    let key = match key_file {
        Some(path) => Some(config::read_backup_key(path).map_err(Failure::failed)?),
        None => config.backup.key.clone(),
    };
    let settings = TargetSettings {
        to: to.to_owned(),
        key,
    };
    Target::open(&settings).map_err(Failure::failed)
}

fn read_stream(text: &str) -> Result<u64> {
    backup::stream_of(text).ok_or_else(|| {
        Failure::Usage(format!(
            "--stream: {text} is no stream's name, which has 16 hex digits"
        ))
    })
}

/// A bar on a terminal, else a line now and then.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    lines: Lines,
    doing: &'static str,
}

impl Bar {
    pub(super) fn new(doing: &'static str) -> Bar {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::no_length);
        if let Some(bar) = &bar {
            let style = ProgressStyle::with_template("{bar:30} {msg}, {eta} left");
            bar.set_style(style.expect("the template is a constant that is tested"));
        }
        Bar {
            bar,
            lines: Lines::new(),
            doing,
        }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let Progress {
            bytes_done,
            bytes_in_all,
        } = progress;
        let line = || {
            format!(
                "{} {} of {} MiB",
                self.doing,
                bytes_done >> 20,
                bytes_in_all >> 20
            )
        };
        match &self.bar {
            Some(bar) => {
                bar.set_length(bytes_in_all);
                bar.set_position(bytes_done);
                bar.set_message(line());
            }
            None => self.lines.show_line(line),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
