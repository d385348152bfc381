//! The operator's mail relay: a conversation in SMTP (RFC 5321) with it.
//!
//! The commands and answers are lettre's. The connection and its encryption are ours, so that the same certificates
//! are trusted as everywhere, each recipient has an answer of its own, and everything has a limit of time and size.
//! The relay is the operator's own setting, so any address is allowed. Nothing of the login is in an error.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Rset, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension, ServerInfo};
use lettre::transport::smtp::response::{Response, Severity};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::letter::Letter;
use crate::config::{NotifySection, SmtpPassword, SmtpTls};
use crate::delivery::{self, tls_problem};
use crate::domain::email::EmailAddress;

/// The time to resolve the relay's name, and to connect to each of its addresses.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Addresses of the relay that are tried.
const ADDRESSES_MAX: usize = 4;
/// The time for an answer. Some relays let a client wait a while before they greet it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The time for the answer to a mail's content, which many relays examine first. A mail whose answer does not come
/// is sent again, so this is long.
const TAKEN_WITHIN: Duration = Duration::from_secs(120);
/// The time for a mail as a whole, whatever the pace of its answers.
const MAIL_WITHIN: Duration = Duration::from_secs(300);
/// A farewell is worth no more.
const QUIT_WITHIN: Duration = Duration::from_secs(2);
/// An answer has few lines, of 512 bytes at most.
const ANSWER_BYTES_MAX: u64 = 16 << 10;
/// Challenges of one login: LOGIN has two.
const CHALLENGES_MAX: usize = 4;
/// Characters of an answer that an error repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// The relay, and how to speak with it.
pub struct Relay {
    host: String,
    port: u16,
    tls: SmtpTls,
    login: Option<(String, SmtpPassword)>,
    connector: TlsConnector,
    name: ServerName<'static>,
    /// How this machine introduces itself.
    client: ClientId,
}

/// Why a mail did not reach the relay, in words that follow the relay's name.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Trouble {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("no answer within {} s to {after}", within.as_secs())]
    Silent {
        after: &'static str,
        within: Duration,
    },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the answer to {0} is not SMTP's")]
    NotSmtp(&'static str),
    #[error("{0}")]
    Tls(String),
    #[error("it does not offer STARTTLS: correct notify.smtp_tls")]
    NoStarttls,
    #[error("it sent something before encryption began")]
    Injected,
    #[error("it offers neither AUTH PLAIN nor AUTH LOGIN")]
    NoLogin,
    /// The answer's text is left out: some relays repeat what they were sent.
    #[error("the login is refused ({0}): correct notify.smtp_username and notify.smtp_password")]
    LoginRefused(u16),
    #[error("{step} is refused: {answer}")]
    Refused { step: &'static str, answer: String },
    /// A recipient is refused for now, so nobody has got the mail.
    #[error("mails to {to} are put off: {answer}")]
    PutOff { to: EmailAddress, answer: String },
}

/// The relay's decision about a mail.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Recipients for whom the relay has taken the mail.
    pub taken: Vec<EmailAddress>,
    /// Those for whom it will not take it, with its answers.
    pub refused: Vec<(EmailAddress, String)>,
}

/// A stream to the relay, encrypted or not.
trait Line: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Line for T {}

/// A connection on which mails can be sent, one after the other.
pub struct Session(Dialog<Box<dyn Line>>);

struct Dialog<S> {
    stream: BufReader<S>,
}

impl Relay {
    /// # Errors
    /// Where `notify.smtp_ca_file` cannot be used; a sentence with the setting's name.
    pub fn new(section: &NotifySection, from: &EmailAddress) -> Result<Relay, String> {
        let ca_file = section.smtp_ca_file.as_deref();
        let mut trust = delivery::tls::client_config("notify.smtp_ca_file", ca_file)?;
        // Those are protocols of the web.
        trust.alpn_protocols.clear();
        let name = ServerName::try_from(section.smtp_host.clone());
        let password = section.smtp_password.clone();
        Ok(Relay {
            host: section.smtp_host.clone(),
            port: section.smtp_port,
            tls: section.smtp_tls,
            login: password.map(|password| (section.smtp_username.clone(), password)),
            connector: TlsConnector::from(Arc::new(trust)),
            name: name.map_err(|_| "notify.smtp_host: must be a host name".to_owned())?,
            client: ClientId::Domain(from.domain().to_owned()),
        })
    }

    /// Connects, encrypts and logs in, as the settings say.
    pub async fn open(&self) -> Result<Session, Trouble> {
        let tcp = self.connect().await?;
        let mut dialog = match self.tls {
            SmtpTls::None => Dialog::greeted(boxed(tcp)).await?,
            SmtpTls::Tls => Dialog::greeted(boxed(self.encrypt(tcp).await?)).await?,
            SmtpTls::Starttls => {
                let mut plain = Dialog::greeted(tcp).await?;
                if !plain
                    .hello(&self.client)
                    .await?
                    .supports_feature(Extension::StartTls)
                {
                    return Err(Trouble::NoStarttls);
                }
                accepted("STARTTLS", &plain.say("STARTTLS", Starttls).await?)?;
                Dialog::new(boxed(self.encrypt(plain.into_stream()?).await?))
            }
        };
        // What was offered before encryption began does not count.
        let offered = dialog.hello(&self.client).await?;
        if let Some((name, password)) = &self.login {
            let credentials = Credentials::new(name.clone(), password.expose().to_owned());
            dialog.log_in(&credentials, &offered).await?;
        }
        Ok(Session(dialog))
    }

    async fn connect(&self) -> Result<TcpStream, Trouble> {
        let unreachable = |error: io::Error| Trouble::Unreachable(error.to_string());
        let late =
            || Trouble::Unreachable(format!("no answer within {} s", CONNECT_WITHIN.as_secs()));
        let found = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = timeout(CONNECT_WITHIN, found).await;
        let found = found.map_err(|_| late())?.map_err(unreachable)?;
        let mut last = Trouble::Unreachable("its name has no address".to_owned());
        for address in found.take(ADDRESSES_MAX) {
            match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = unreachable(error),
                Err(_) => last = late(),
            }
        }
        Err(last)
    }

    async fn encrypt(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Trouble> {
        let shaken = self.connector.connect(self.name.clone(), tcp);
        let shaken = timeout(ANSWER_WITHIN, shaken).await;
        let shaken = shaken.map_err(|_| silent("the TLS handshake", ANSWER_WITHIN))?;
        // The sentences are about receivers, and a relay is one of mails.
        shaken.map_err(|error| match tls_problem(&error) {
            Some(sentence) => {
                let sentence = sentence.trim_end_matches('.').replace("receiver", "relay");
                Trouble::Tls(sentence)
            }
            None => Trouble::Broken(error.to_string()),
        })
    }
}

impl Display for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Session {
    /// Sends a mail to all its recipients. Where one of them is refused for now, nobody gets it, unless `takes_part`
    /// and somebody can: then those get it who can. An error leaves open whether it was taken only where the answer to its content
    /// did not come.
    pub async fn send(&mut self, letter: &Letter, takes_part: bool) -> Result<Outcome, Trouble> {
        let sent = timeout(MAIL_WITHIN, self.0.send(letter, takes_part)).await;
        sent.unwrap_or(Err(silent("a mail", MAIL_WITHIN)))
    }

    /// Takes leave. The connection closes whatever the relay says to that.
    pub async fn quit(mut self) {
        let _ = timeout(QUIT_WITHIN, self.0.say("QUIT", Quit)).await;
    }
}

fn boxed(stream: impl Line + 'static) -> Box<dyn Line> {
    Box::new(stream)
}

impl<S: Line> Dialog<S> {
    fn new(stream: S) -> Dialog<S> {
        Dialog {
            stream: BufReader::new(stream),
        }
    }

    /// With the relay's greeting.
    async fn greeted(stream: S) -> Result<Dialog<S>, Trouble> {
        const STEP: &str = "the connection";
        let mut dialog = Dialog::new(stream);
        let greeting = timeout(ANSWER_WITHIN, dialog.answer(STEP)).await;
        accepted(STEP, &greeting.unwrap_or(Err(silent(STEP, ANSWER_WITHIN)))?)?;
        Ok(dialog)
    }

    /// The stream, of which everything was read. Whoever is on the way could have put words before the encryption.
    fn into_stream(self) -> Result<S, Trouble> {
        match self.stream.buffer().is_empty() {
            true => Ok(self.stream.into_inner()),
            false => Err(Trouble::Injected),
        }
    }

    async fn hello(&mut self, client: &ClientId) -> Result<ServerInfo, Trouble> {
        let answer = self.say("EHLO", Ehlo::new(client.clone())).await?;
        accepted("EHLO", &answer)?;
        ServerInfo::from_response(&answer).map_err(|_| Trouble::NotSmtp("EHLO"))
    }

    async fn log_in(
        &mut self,
        credentials: &Credentials,
        offered: &ServerInfo,
    ) -> Result<(), Trouble> {
        const STEP: &str = "AUTH";
        let mechanism = offered
            .get_auth_mechanism(&[Mechanism::Plain, Mechanism::Login])
            .ok_or(Trouble::NoLogin)?;
        let strange = |_| Trouble::NotSmtp(STEP);
        let begin = Auth::new(mechanism, credentials.clone(), None).map_err(strange)?;
        let mut answer = self.say(STEP, begin).await?;
        for _ in 0..CHALLENGES_MAX {
            if !answer.has_code(334) {
                break;
            }
            let next = Auth::new_from_response(mechanism, credentials.clone(), &answer);
            answer = self.say(STEP, next.map_err(strange)?).await?;
        }
        match answer.code().severity {
            Severity::PositiveCompletion => Ok(()),
            _ => Err(Trouble::LoginRefused(answer.code().into())),
        }
    }

    async fn send(&mut self, letter: &Letter, takes_part: bool) -> Result<Outcome, Trouble> {
        let from = Mail::new(Some(address(&letter.from)), Vec::new());
        accepted("the sender", &self.say("MAIL", from).await?)?;
        let mut outcome = Outcome::default();
        let mut put_off = Vec::new();
        for to in &letter.to {
            let answer = self.say("RCPT", Rcpt::new(address(to), Vec::new())).await?;
            match answer.code().severity {
                _ if answer.is_positive() => outcome.taken.push(to.clone()),
                Severity::PermanentNegativeCompletion => {
                    outcome.refused.push((to.clone(), shown(&answer)))
                }
                // The relay ends the conversation (RFC 5321, 3.8).
                _ if answer.has_code(421) => return refused("a recipient", &answer),
                _ => put_off.push((to.clone(), shown(&answer))),
            }
        }
        if takes_part && !outcome.taken.is_empty() {
            outcome.refused.append(&mut put_off);
        }
        let put_off = put_off.pop();
        if put_off.is_some() || outcome.taken.is_empty() {
            accepted("RSET", &self.say("RSET", Rset).await?)?;
            return match put_off {
                Some((to, answer)) => Err(Trouble::PutOff { to, answer }),
                None => Ok(outcome),
            };
        }
        accepted("DATA", &self.say("DATA", Data).await?)?;
        let answer = self.content(&letter.content).await?;
        if answer.code().severity == Severity::PermanentNegativeCompletion {
            let nobody = std::mem::take(&mut outcome.taken).into_iter();
            outcome
                .refused
                .extend(nobody.map(|to| (to, shown(&answer))));
            return Ok(outcome);
        }
        if let ([to], false) = (&letter.to[..], answer.is_positive() || answer.has_code(421)) {
            // Many relays put a mail off only here, and others' mails may go all the same.
            return Err(Trouble::PutOff {
                to: to.clone(),
                answer: shown(&answer),
            });
        }
        accepted("the mail", &answer)?;
        Ok(outcome)
    }

    /// Sends a mail's content, and its end.
    async fn content(&mut self, content: &[u8]) -> Result<Response, Trouble> {
        const STEP: &str = "the mail";
        let content = stuffed(content);
        let exchange = async {
            self.stream.write_all(&content).await.map_err(broken)?;
            self.stream.flush().await.map_err(broken)?;
            self.answer(STEP).await
        };
        let answer = timeout(TAKEN_WITHIN, exchange).await;
        answer.unwrap_or(Err(silent(STEP, TAKEN_WITHIN)))
    }

    /// Sends a command and reads the answer, whatever it says.
    async fn say(
        &mut self,
        step: &'static str,
        command: impl Display,
    ) -> Result<Response, Trouble> {
        let exchange = async {
            let line = zeroize::Zeroizing::new(command.to_string());
            self.stream
                .write_all(line.as_bytes())
                .await
                .map_err(broken)?;
            self.stream.flush().await.map_err(broken)?;
            self.answer(step).await
        };
        let answer = timeout(ANSWER_WITHIN, exchange).await;
        answer.unwrap_or(Err(silent(step, ANSWER_WITHIN)))
    }

    /// Reads an answer: lines with its code, of which the last has no `-` behind it.
    async fn answer(&mut self, step: &'static str) -> Result<Response, Trouble> {
        let mut answer = Vec::new();
        let mut limited = (&mut self.stream).take(ANSWER_BYTES_MAX);
        loop {
            let start = answer.len();
            limited
                .read_until(b'\n', &mut answer)
                .await
                .map_err(broken)?;
            let line = &answer[start..];
            if line.is_empty() {
                return Err(Trouble::Broken("the relay closed it".to_owned()));
            }
            if !line.ends_with(b"\n") {
                return Err(Trouble::NotSmtp(step));
            }
            if line.get(3) != Some(&b'-') {
                break;
            }
        }
        let text = String::from_utf8_lossy(&answer);
        text.parse().map_err(|_| Trouble::NotSmtp(step))
    }
}

/// The mail as it goes over the line: a line that begins with a dot gets another one (RFC 5321, 4.5.2), and one alone
/// is the end. The content's own lines all end in CRLF.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + 64);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !stuffed.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

fn address(of: &EmailAddress) -> lettre::Address {
    of.as_str().parse().expect("it was checked as one of these")
}

fn accepted(step: &'static str, answer: &Response) -> Result<(), Trouble> {
    match answer.is_positive() {
        true => Ok(()),
        false => refused(step, answer),
    }
}

fn refused<T>(step: &'static str, answer: &Response) -> Result<T, Trouble> {
    Err(Trouble::Refused {
        step,
        answer: shown(answer),
    })
}

/// An answer as an error shows it: the code, and the beginning of its text on one line.
fn shown(answer: &Response) -> String {
    let text: Vec<&str> = answer.message().map(str::trim).collect();
    let text = text.join(" ");
    let safe = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    let safe: String = safe.take(SHOWN_CHARS_MAX).collect();
    format!("{} {safe}", answer.code()).trim_end().to_owned()
}

fn silent(after: &'static str, within: Duration) -> Trouble {
    Trouble::Silent { after, within }
}

fn broken(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Trouble::Broken("the relay closed it".to_owned()),
        _ => Trouble::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_at_the_beginning_of_a_line_does_not_end_a_mail() {
        for (content, expected) in [
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("", "\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r\n..b.\r\n", "a\r\n...b.\r\n.\r\n"),
        ] {
            assert_eq!(
                stuffed(content.as_bytes()),
                expected.as_bytes(),
                "{content}"
            );
        }
    }
}
