//! `import svix`: copies the registrations of a running Svix-compatible server into a running
//! postrider, as a client of both.
//!
//! Event types first, then each application with its endpoints, their secrets and headers. A
//! [`journal`] lists the things that have come over, so an import that was interrupted goes on where it
//! was, and one that ended brings over the source's current state again, onto the same things. Nothing
//! is ever deleted. Values that a source does not show, such as sensitive headers, are named at the end.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use awc::http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use self::journal::{Journal, Kind};
use self::remote::{Answered, Remote};
use self::thing::{Fields, application, endpoint, event_type, shown_name};
use super::client::{Connection, server_url};
use super::pages::{Pages, in_path};
use super::{Failure, Result, TOKEN_BYTES_MAX, complain, printable, read_text, say};
use crate::config::Config;

mod journal;
mod remote;
mod thing;

/// As much as the contract allows.
const PAGE: usize = 250;

/// Event types come with their schemas, which may be long.
const PAGE_WITH_CONTENT: usize = 25;

/// Notices that are printed one by one; further ones are counted.
const NOTICES_MAX: usize = 1_000;

#[derive(clap::Subcommand)]
pub enum Source {
    /// From a Svix server, or one with the same API
    Svix(Arguments),
}

#[derive(clap::Args)]
pub struct Arguments {
    /// The server to copy from, such as https://api.eu.svix.com
    #[arg(long, value_name = "URL")]
    from: String,
    /// A token that reads everything to be copied
    #[arg(
        long,
        value_name = "TOKEN",
        env = "POSTRIDER_FROM_TOKEN",
        hide_env_values = true,
        conflicts_with = "from_token_file"
    )]
    from_token: Option<String>,
    /// The same in a file
    #[arg(long, value_name = "FILE")]
    from_token_file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    /// The file that notes the copied things, for going on after an interruption
    #[arg(long, value_name = "FILE", default_value = "postrider-import.state")]
    state: PathBuf,
    /// Only list what would be copied, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How long all of it may take, in seconds; run again, it goes on where it was
    #[arg(long, value_name = "N", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..))]
    time_limit_seconds: u64,
}

impl Source {
    pub fn run(&self, config: &Config) -> Result {
        let Source::Svix(arguments) = self;
        actix_rt::System::new().block_on(arguments.import(config))
    }
}

impl Arguments {
    async fn import(&self, config: &Config) -> Result {
        let tls = self.connection.tls(config)?;
        let progress = Progress::new();
        let teller = || {
            let progress = progress.clone();
            move |line: &str| progress.waits(line)
        };
        let source = Remote::new(
            "source",
            &self.source()?,
            &self.source_token()?,
            tls.clone(),
            self.connection.timeout(),
            teller(),
        );
        let (url, token) = self.connection.server(config)?;
        let timeout = self.connection.timeout();
        let target = Remote::new("target", &url, &token, tls, timeout, teller());
        let journal = match self.dry_run {
            true => None,
            false => Some(Journal::open(&self.state, &source.base, &target.base)?),
        };
        let mut import = Import {
            source,
            target,
            journal,
            progress,
            report: Report::default(),
        };
        // Each request and each list has limits of its own; many of them together may still be
        // without an end.
        let limit = Duration::from_secs(self.time_limit_seconds);
        let ended = tokio::time::timeout(limit, import.all()).await;
        let ended = ended.unwrap_or_else(|_| Err(self.out_of_time()));
        import.progress.finish();
        import.report.tell(self.dry_run)?;
        ended?;
        match import.report.refused.count {
            0 => Ok(()),
            count => Err(Failure::failed(format!(
                "{count} of these could not be imported; what is said above has the reasons"
            ))),
        }
    }

    fn out_of_time(&self) -> Failure {
        let limit = self.time_limit_seconds;
        Failure::failed(format!(
            "the import did not end within {limit} s: run it again to go on where it was, or give it \
             longer with --time-limit-seconds"
        ))
    }

    fn source(&self) -> Result<String> {
        let url = server_url("--from", &self.from)?;
        Ok(url.strip_suffix("/api/v1").unwrap_or(&url).to_owned())
    }

    fn source_token(&self) -> Result<String> {
        let token = match (&self.from_token, &self.from_token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => read_text(file, TOKEN_BYTES_MAX).map_err(Failure::failed)?,
            (None, None) => {
                return Err(Failure::Usage(
                    "--from-token, --from-token-file or POSTRIDER_FROM_TOKEN is missing".to_owned(),
                ));
            }
        };
        Ok(token.trim().to_owned())
    }
}

struct Import {
    source: Remote,
    target: Remote,
    /// None in a dry run.
    journal: Option<Journal>,
    progress: Progress,
    report: Report,
}

/// The result of sending a body.
enum Came {
    /// The target's id.
    Over(String),
    Refused,
}

impl Import {
    async fn all(&mut self) -> Result {
        self.event_types().await?;
        let applications = self.count_applications().await?;
        self.progress.begin(applications);
        let mut list = Pages::of("/api/v1/app?".to_owned(), PAGE);
        while let Some(page) = self.source.next_page(&mut list).await? {
            for found in &page {
                self.application(found).await?;
            }
        }
        match &mut self.journal {
            Some(journal) => journal.ended(),
            None => Ok(()),
        }
    }

    async fn count_applications(&self) -> Result<u64> {
        let mut count = 0;
        let mut list = Pages::of("/api/v1/app?".to_owned(), PAGE);
        while let Some(page) = self.source.next_page(&mut list).await? {
            count += page.len() as u64;
        }
        Ok(count)
    }

    async fn event_types(&mut self) -> Result {
        let list = "/api/v1/event-type?include_archived=true&with_content=true&";
        let mut list = Pages::of(list.to_owned(), PAGE_WITH_CONTENT);
        while let Some(page) = self.source.next_page(&mut list).await? {
            for found in &page {
                self.event_type(found).await?;
            }
        }
        Ok(())
    }

    async fn event_type(&mut self, found: &Fields) -> Result {
        let name = thing::text(found, "name")?;
        if self.is_done(Kind::EventType, &name) {
            self.report.earlier += 1;
            return Ok(());
        }
        self.report.event_types += 1;
        if self.journal.is_none() {
            return Ok(());
        }
        let title = format!("event type {name}");
        let path = format!("/api/v1/event-type/{}", in_path(&name));
        let answer = self
            .target
            .send(Method::PUT, &path, Some(&event_type(found)), None)
            .await?;
        if answer.refused() {
            self.report.refused.add(&title, &answer.reason());
            return Ok(());
        }
        answer.succeeded()?;
        self.done(Kind::EventType, &name)
    }

    async fn application(&mut self, found: &Fields) -> Result {
        let id = thing::text(found, "id")?;
        let title = format!("application {}", shown_name(found));
        self.report.applications += 1;
        self.progress.at(&title);
        if self.is_done(Kind::Application, &id) {
            self.report.earlier += 1;
            return Ok(());
        }
        let body = application(found);
        let target = match self.journal {
            None => None,
            Some(_) => match self
                .bring(Kind::Application, "/api/v1/app", found, body, None)
                .await?
            {
                Came::Over(target) => Some(target),
                Came::Refused => return Ok(()),
            },
        };
        let refused_before = self.report.refused.count;
        let list = format!("/api/v1/app/{}/endpoint?", in_path(&id));
        let mut list = Pages::of(list, PAGE);
        while let Some(page) = self.source.next_page(&mut list).await? {
            for found in &page {
                self.endpoint(&id, &title, target.as_deref(), found).await?;
            }
        }
        // One that is not whole is looked at again.
        match self.report.refused.count == refused_before {
            true => self.done(Kind::Application, &id),
            false => Ok(()),
        }
    }

    /// An endpoint of the source's application, for the target's; none in a dry run.
    async fn endpoint(
        &mut self,
        application: &str,
        of: &str,
        target: Option<&str>,
        found: &Fields,
    ) -> Result {
        let id = thing::text(found, "id")?;
        let title = format!("endpoint {} of {of}", shown_name(found));
        if self.is_done(Kind::Endpoint, &id) {
            self.report.earlier += 1;
            return Ok(());
        }
        let path = format!(
            "/api/v1/app/{}/endpoint/{}",
            in_path(application),
            in_path(&id)
        );
        let mut body = endpoint(found);
        let headers = self.headers(&path, &title).await?;
        let secret = self.secret(&path, &title).await?;
        self.report.endpoints += 1;
        let Some(target) = target else {
            return Ok(());
        };
        if headers != Value::Null {
            body.insert("headers".to_owned(), thing::raw(&headers));
        }
        if let Some(secret) = &secret {
            body.insert("secret".to_owned(), thing::raw(&Value::from(&secret[..])));
        }
        let collection = format!("/api/v1/app/{target}/endpoint");
        let came = self.bring(Kind::Endpoint, &collection, found, body, Some(&title));
        match came.await? {
            Came::Over(_) => self.done(Kind::Endpoint, &id),
            Came::Refused => Ok(()),
        }
    }

    /// The headers that the source shows; null where there are none.
    async fn headers(&mut self, path: &str, title: &str) -> Result<Value> {
        let path = format!("{path}/headers");
        let answer = self.source.send(Method::GET, &path, None, None).await?;
        if answer.refused() {
            let notice = format!("its headers could not be read: {}", answer.reason());
            self.report.notices.add(title, &notice);
            return Ok(Value::Null);
        }
        let shown: Value = answer.succeeded()?.json()?;
        let hidden: Vec<&str> = shown["sensitive"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !hidden.is_empty() {
            let notice = format!(
                "the source does not show these headers, set them by hand: {}",
                hidden.join(", ")
            );
            self.report.notices.add(title, &notice);
        }
        match shown["headers"].as_object() {
            Some(all) if !all.is_empty() => Ok(shown["headers"].clone()),
            _ => Ok(Value::Null),
        }
    }

    async fn secret(&mut self, path: &str, title: &str) -> Result<Option<String>> {
        let path = format!("{path}/secret");
        let answer = self.source.send(Method::GET, &path, None, None).await?;
        if answer.refused() {
            let notice = format!(
                "its secret could not be read, it gets a new one: {}",
                answer.reason()
            );
            self.report.notices.add(title, &notice);
            return Ok(None);
        }
        let shown: Value = answer.succeeded()?.json()?;
        Ok(shown["key"].as_str().map(str::to_owned))
    }

    /// Brings the thing to the target: onto the one that came over before or has the same uid, or as a new
    /// one. `endpoint` is its title where it is one.
    async fn bring(
        &mut self,
        kind: Kind,
        collection: &str,
        found: &Fields,
        mut body: Fields,
        endpoint: Option<&str>,
    ) -> Result<Came> {
        let id = thing::text(found, "id")?;
        let title = match endpoint {
            Some(title) => title.to_owned(),
            None => format!("application {}", shown_name(found)),
        };
        let existing = self.existing(&id, collection, found).await?;
        self.report.again += u64::from(existing.is_some());
        let (method, path) = match &existing {
            Some(existing) => (Method::PUT, format!("{collection}/{existing}")),
            None => (Method::POST, collection.to_owned()),
        };
        // Those of something that exists are brought over by calls of their own.
        let aside = existing.as_ref().map(|_| {
            let secret = body.remove("secret");
            (body.remove("headers"), secret)
        });
        let answer = loop {
            // A thing that was deleted since it came over would come back by its key as it was then.
            let journal = self.journal.as_ref().filter(|_| existing.is_none());
            let journal = journal.filter(|journal| journal.target(&id).is_none());
            let key = journal.map(|journal| journal.key(&id, &body));
            let answer = self
                .target
                .send(method.clone(), &path, Some(&body), key.as_deref())
                .await?;
            if !answer.refused() {
                break answer.succeeded()?;
            }
            // The rest may come over without the part that the target refuses.
            let part = ["secret", "headers"]
                .into_iter()
                .find(|part| body.contains_key(*part) && answer.is_about(part));
            let Some(part) = part else {
                self.report.refused.add(&title, &answer.reason());
                return Ok(Came::Refused);
            };
            body.remove(part);
            self.report.notices.add(&title, &not_taken(part, &answer));
        };
        let answered: Value = answer.json()?;
        let target = answered["id"].as_str().map(str::to_owned);
        let target = target.ok_or_else(|| Failure::failed("target: an answer without an id"))?;
        if let Some(journal) = &mut self.journal {
            journal.became(kind, &id, &target)?;
        }
        if let Some((headers, secret)) = aside {
            let path = format!("{collection}/{target}");
            if let Some(headers) = headers {
                self.merge_headers(&path, &title, headers).await?;
            }
            if let Some(secret) = secret {
                self.change_secret(&path, &title, secret).await?;
            }
        }
        Ok(Came::Over(target))
    }

    /// The target's id of the thing that came over before or has the same uid, if it is still there.
    async fn existing(
        &mut self,
        id: &str,
        collection: &str,
        found: &Fields,
    ) -> Result<Option<String>> {
        let known = self.journal.as_ref().and_then(|journal| journal.target(id));
        let uid = thing::text(found, "uid").ok();
        for name in [known.map(str::to_owned), uid].into_iter().flatten() {
            let path = format!("{collection}/{}", in_path(&name));
            let answer = self.target.send(Method::GET, &path, None, None).await?;
            if !answer.is_missing() {
                let shown: Value = answer.succeeded()?.json()?;
                return Ok(shown["id"].as_str().map(str::to_owned));
            }
        }
        Ok(None)
    }

    /// Leaves those alone that the source does not show: they may have been set by hand.
    async fn merge_headers(&mut self, path: &str, title: &str, headers: thing::Raw) -> Result {
        let body = Fields::from([("headers".to_owned(), headers)]);
        let path = format!("{path}/headers");
        let answer = self
            .target
            .send(Method::PATCH, &path, Some(&body), None)
            .await?;
        if answer.refused() {
            let notices = &mut self.report.notices;
            notices.add(title, &not_taken("headers", &answer));
            return Ok(());
        }
        answer.succeeded().map(|_| ())
    }

    /// Another secret takes the place of the target's, which stays valid for a while.
    async fn change_secret(&mut self, path: &str, title: &str, secret: thing::Raw) -> Result {
        let path = format!("{path}/secret");
        let answer = self.target.send(Method::GET, &path, None, None).await?;
        let shown: Value = answer.succeeded()?.json()?;
        if thing::is_same_secret(&shown["key"], &secret) {
            return Ok(());
        }
        let body = Fields::from([("key".to_owned(), secret)]);
        let path = format!("{path}/rotate");
        let answer = self
            .target
            .send(Method::POST, &path, Some(&body), None)
            .await?;
        if answer.refused() {
            let notices = &mut self.report.notices;
            notices.add(title, &not_taken("secret", &answer));
            return Ok(());
        }
        answer.succeeded().map(|_| ())
    }

    fn is_done(&self, kind: Kind, id: &str) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| journal.is_done(kind, id))
    }

    fn done(&mut self, kind: Kind, id: &str) -> Result {
        match &mut self.journal {
            Some(journal) => journal.done(kind, id),
            None => Ok(()),
        }
    }
}

fn not_taken(part: &str, answer: &Answered) -> String {
    let reason = answer.reason();
    match part {
        "secret" => format!("its secret is not the source's, which was not taken: {reason}"),
        _ => format!("its headers were not taken: {reason}"),
    }
}

/// A bar on a terminal, else a line now and then.
#[derive(Clone)]
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::no_length);
        Progress { bar }
    }

    fn begin(&self, applications: u64) {
        let Some(bar) = &self.bar else { return };
        let style =
            ProgressStyle::with_template("{bar:30} {pos} of {len} applications, {eta} left: {msg}");
        bar.set_length(applications);
        bar.set_style(style.expect("the template is a constant that is tested"));
    }

    fn at(&self, title: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(printable(title));
                bar.inc(1);
            }
            // That nobody reads it does not end the work in its middle.
            None => drop(say(&printable(title))),
        }
    }

    /// Says, at once and beside the bar, that something is waited for.
    fn waits(&self, line: &str) {
        let say = || complain(&printable(line));
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[derive(Default)]
struct Report {
    event_types: u64,
    applications: u64,
    endpoints: u64,
    /// Things that an interrupted import had brought over, and which were left as they are.
    earlier: u64,
    /// Applications and endpoints that the target had already, and which were brought up to date.
    again: u64,
    /// Came over, and not quite as it is.
    notices: Notices,
    /// Did not come over.
    refused: Notices,
}

#[derive(Default)]
struct Notices {
    told: Vec<String>,
    count: usize,
}

impl Notices {
    fn add(&mut self, title: &str, notice: &str) {
        self.count += 1;
        if self.told.len() < NOTICES_MAX {
            self.told.push(format!("{title}: {notice}"));
        }
    }

    fn tell(&self, kind: &str) {
        for line in &self.told {
            complain(&printable(&format!("{kind}: {line}")));
        }
        if self.count > self.told.len() {
            let more = self.count - self.told.len();
            complain(&format!("{kind}: and {more} more of this kind"));
        }
    }
}

impl Report {
    fn tell(&self, dry_run: bool) -> Result {
        self.notices.tell("WARNING");
        self.refused.tell("NOT IMPORTED");
        if self.notices.count > 0 {
            let count = self.notices.count;
            complain(&format!("{count} warnings: see above what to do by hand"));
        }
        let what = match dry_run {
            true => "would import",
            false => "went through",
        };
        let mut line = format!(
            "{what} {} event types, {} applications, {} endpoints",
            self.event_types, self.applications, self.endpoints
        );
        if self.again > 0 {
            line += &format!(
                "; {} of the applications and endpoints were there already and were brought up to \
                 date",
                self.again
            );
        }
        if self.earlier > 0 {
            line += &format!(
                "; {} things were left as the interrupted import had brought them over",
                self.earlier
            );
        }
        say(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_a_template_and_notices_are_bounded() {
        let progress = Progress {
            bar: Some(ProgressBar::hidden()),
        };
        progress.begin(3);
        progress.at("application one");
        let mut notices = Notices::default();
        (0..NOTICES_MAX + 5).for_each(|_| notices.add("one", "two"));
        assert_eq!((notices.told.len(), notices.count), (1_000, 1_005));
    }
}
