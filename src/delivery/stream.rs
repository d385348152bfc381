//! The connection as awc sees it: bytes in the clear, whatever is below.
//!
//! It stands between awc's HTTP/1 codec and the socket (or TLS) and does what the codec does not.
//! Unsolicited interim answers (100, 102, 103 …) are left out, which awc would take for the final
//! answer. A body without a stated length lasts until the connection ends, which awc knows for
//! HTTP/1.0 only. An answer given before the whole request was taken is read. And it notes in the
//! exchange's [`Trace`] whether the connection was reused and how far the answer came.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::connect::tls_problem;
use super::trace::{Phase, Trace, failure};
use crate::domain::attempt::FailureKind;

/// Heads before and including the final one: the limit of awc's own codec.
pub const HEAD_BYTES_MAX: usize = 128 * 1024;
/// One early hint or two are usual; a receiver that sends them without end is cut off.
pub const INTERIM_HEADS_MAX: usize = 16;

/// Counts the connections that are open, in use or idle.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Rc<Cell<usize>>);

impl OpenConnections {
    pub fn count(&self) -> usize {
        self.0.get()
    }
}

#[derive(Debug)]
pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub struct Stream {
    transport: Transport,
    /// The exchange that the connection serves, or served last.
    trace: Option<Rc<Trace>>,
    /// A request is being written; the first read after it ends this.
    writing: bool,
    /// Sending failed, or nothing that follows can be trusted: no further request goes here.
    broken: bool,
    /// The final head of the answer has not come yet.
    awaiting_head: bool,
    interim_heads: usize,
    interim_bytes: usize,
    /// What was read in search of the final head; what follows that head is handed on from here.
    held: Vec<u8>,
    /// How much of `held` holds no end of a head.
    searched: usize,
    open: OpenConnections,
}

impl Stream {
    pub fn new(transport: Transport, open: OpenConnections) -> Stream {
        open.0.set(open.0.get() + 1);
        Stream {
            transport,
            trace: None,
            writing: false,
            broken: false,
            awaiting_head: false,
            interim_heads: 0,
            interim_bytes: 0,
            held: Vec::new(),
            searched: 0,
            open,
        }
    }

    fn start_exchange(&mut self) {
        let reused = self.trace.is_some();
        // awc writes only for us; without a trace the connection would count as fresh.
        self.trace = Trace::current();
        if let Some(trace) = &self.trace {
            trace.sending_starts(reused);
        }
        self.writing = true;
        self.awaiting_head = true;
        self.interim_heads = 0;
        self.interim_bytes = 0;
        self.held.clear();
        self.searched = 0;
    }

    /// Whether this read is the pool's look at an idle connection, and finds it unfit for the
    /// exchange that wants one. Told that it has ended, the pool drops it and looks further.
    fn is_unfit_for_another(&self) -> bool {
        match (&self.trace, Trace::current()) {
            (Some(served), Some(wanting)) if !Rc::ptr_eq(served, &wanting) => {
                self.broken || wanting.fresh_only
            }
            _ => false,
        }
    }

    /// Reads from below; what comes is counted, and an end is noted.
    fn read_below(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = match &mut self.transport {
            Transport::Plain(tcp) => ready!(Pin::new(tcp).poll_read(cx, buf)),
            Transport::Tls(tls) => ready!(Pin::new(tls).poll_read(cx, buf)),
        };
        let result = match result {
            // The other end left TLS without saying goodbye, as many do. Where the length of the
            // body is known a cut is noticed all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            result => result,
        };
        if let Some(trace) = &self.trace {
            match buf.filled().len() - before {
                // Also where reading failed.
                0 => trace.ended.set(true),
                count => trace.answer_came(count),
            }
            if let Err(error) = &result
                && let Some(problem) = tls_problem(error)
            {
                // With TLS 1.3 a refusal by the receiver comes after the handshake.
                trace.fail(failure(FailureKind::Tls, problem));
            }
        }
        Poll::Ready(result)
    }

    /// Reads until the final head is there, and leaves the interim ones out.
    fn read_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.awaiting_head {
            let before = buf.filled().len();
            ready!(self.read_below(cx, buf))?;
            let new = &buf.filled()[before..];
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(new);
            buf.set_filled(before);
            while self.awaiting_head
                && let Some(end) = self.next_head()?
            {
                self.take_head(end)?;
            }
        }
        self.hand_on_held(buf);
        Poll::Ready(Ok(()))
    }

    /// Where the first head in `held` ends, once it is whole.
    fn next_head(&mut self) -> io::Result<Option<usize>> {
        let start = &self.held[..self.held.len().min(HTTP.len())];
        if start != &HTTP[..start.len()] {
            return Err(self.broken_answer("What came back is not HTTP."));
        }
        let end = end_of_head(&self.held, self.searched);
        self.searched = self.held.len();
        let size = self.interim_bytes + end.unwrap_or(self.held.len());
        if size > HEAD_BYTES_MAX {
            return Err(self.broken_answer("The head of the answer is too large."));
        }
        Ok(end)
    }

    /// Leaves an interim head out, or notes the final one.
    fn take_head(&mut self, end: usize) -> io::Result<()> {
        let head = Head::of(&self.held[..end]);
        if head.is_interim() {
            self.interim_heads += 1;
            self.interim_bytes += end;
            self.held.drain(..end);
            self.searched = 0;
            if self.interim_heads > INTERIM_HEADS_MAX {
                return Err(self.broken_answer("Too many interim answers came."));
            }
            return Ok(());
        }
        self.awaiting_head = false;
        if let Some(trace) = &self.trace {
            trace.phase.set(Phase::ReadingBody);
            trace
                .body_ends_with_connection
                .set(head.body_ends_with_connection());
            trace.head.borrow_mut().extend_from_slice(&self.held[..end]);
        }
        if head.body_ends_with_connection() {
            // RFC 9112, section 6.3. awc's codec knows this rule under HTTP/1.0 only, and would
            // use the connection again with the body still coming.
            self.held[HTTP_MINOR_AT] = b'0';
        }
        Ok(())
    }

    fn hand_on_held(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..count]);
        self.held.drain(..count);
        if self.held.is_empty() && self.held.capacity() > 4096 {
            // Thousands of connections may lie idle.
            self.held = Vec::new();
        }
    }

    fn broken_answer(&mut self, detail: &str) -> io::Error {
        self.broken = true;
        if let Some(trace) = &self.trace {
            trace.fail(failure(FailureKind::BrokenAnswer, detail));
        }
        io::Error::other("broken answer")
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_unfit_for_another() {
            return Poll::Ready(Ok(()));
        }
        this.writing = false;
        if this.awaiting_head {
            this.read_head(cx, buf)
        } else if !this.held.is_empty() {
            this.hand_on_held(buf);
            Poll::Ready(Ok(()))
        } else {
            this.read_below(cx, buf)
        }
    }
}

/// A failure to send is not reported, because the receiver may have answered before it closed:
/// reading tells, and finds the same end where there is no answer.
impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.writing {
            this.start_exchange();
        }
        if this.broken {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = match &mut this.transport {
            Transport::Plain(tcp) => ready!(Pin::new(tcp).poll_write(cx, buf)),
            Transport::Tls(tls) => ready!(Pin::new(tls).poll_write(cx, buf)),
        };
        Poll::Ready(Ok(written.unwrap_or_else(|_| {
            this.broken = true;
            buf.len()
        })))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.broken {
            let flushed = match &mut this.transport {
                Transport::Plain(tcp) => ready!(Pin::new(tcp).poll_flush(cx)),
                Transport::Tls(tls) => ready!(Pin::new(tls).poll_flush(cx)),
            };
            this.broken = flushed.is_err();
        }
        if let Some(trace) = &this.trace {
            trace.phase.set(Phase::AwaitingAnswer);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// awc asks for it in a bound, and does not call it.
impl ActixStream for Stream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.transport {
            Transport::Plain(tcp) => ActixStream::poll_read_ready(tcp, cx),
            Transport::Tls(tls) => ActixStream::poll_read_ready(tls.get_ref().0, cx),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.transport {
            Transport::Plain(tcp) => ActixStream::poll_write_ready(tcp, cx),
            Transport::Tls(tls) => ActixStream::poll_write_ready(tls.get_ref().0, cx),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.open.0.set(self.open.0.get() - 1);
    }
}

const HTTP: &[u8] = b"HTTP/1.";
/// Where a status line has the version's second digit …
const HTTP_MINOR_AT: usize = HTTP.len();
/// … and where its status begins.
const STATUS_AT: usize = HTTP.len() + 2;

/// The place after the empty line that ends a head. Nothing ends before `searched`.
fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(2);
    let at = bytes[from..].iter().enumerate().find_map(|(index, byte)| {
        let rest = &bytes[from + index + 1..];
        match byte {
            b'\n' if rest.starts_with(b"\n") => Some(index + 2),
            b'\n' if rest.starts_with(b"\r\n") => Some(index + 3),
            _ => None,
        }
    })?;
    Some(from + at)
}

/// The lines of a head after the status line, as names and values.
pub fn header_lines(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
        })
}

/// What has to be known of a head before awc's codec reads it.
struct Head {
    http_1_0: bool,
    /// The three bytes where the status is; the codec checks that they are one.
    status: [u8; 3],
    has_length: bool,
    has_encoding: bool,
}

impl Head {
    fn of(bytes: &[u8]) -> Head {
        let mut head = Head {
            http_1_0: bytes.get(HTTP_MINOR_AT) == Some(&b'0'),
            status: [0; 3],
            has_length: false,
            has_encoding: false,
        };
        if let Some(status) = bytes.get(STATUS_AT..STATUS_AT + 3) {
            head.status.copy_from_slice(status);
        }
        for (name, _) in header_lines(bytes) {
            head.has_length |= name.eq_ignore_ascii_case(b"content-length");
            head.has_encoding |= name.eq_ignore_ascii_case(b"transfer-encoding");
        }
        head
    }

    /// 101 is final: the receiver wants to speak another protocol.
    fn is_interim(&self) -> bool {
        self.status[0] == b'1'
            && self.status[1..].iter().all(u8::is_ascii_digit)
            && &self.status != b"101"
    }

    fn body_ends_with_connection(&self) -> bool {
        let may_have_body = self.status[0] != b'1' && !matches!(&self.status, b"204" | b"304");
        // HTTP/1.0 has no transfer encoding.
        let has_framing = self.has_length || (self.has_encoding && !self.http_1_0);
        (may_have_body || self.http_1_0) && !has_framing
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::trace::TRACE;
    use super::*;
    use crate::domain::id::ApplicationId;

    /// A connection that has carried a request, and its other end.
    async fn used_connection() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let mut stream = Stream::new(Transport::Plain(near), OpenConnections::default());
        TRACE
            .scope(
                Trace::new(ApplicationId([0; 20]), false),
                stream.write_all(b"request"),
            )
            .await
            .unwrap();
        (stream, far)
    }

    /// Whether a pool that looks at the idle connection for another exchange is told that it ended.
    async fn is_refused(stream: &mut Stream, fresh_only: bool) -> bool {
        let mut buffer = [0; 2];
        let look = TRACE.scope(
            Trace::new(ApplicationId([0; 20]), fresh_only),
            stream.read(&mut buffer),
        );
        tokio::select! {
            biased;
            read = look => read.unwrap() == 0,
            () = std::future::ready(()) => false,
        }
    }

    #[actix_web::test]
    async fn an_idle_connection_is_refused_where_it_does_not_fit() {
        let (mut stream, _far) = used_connection().await;
        stream.awaiting_head = false;
        assert!(!is_refused(&mut stream, false).await);
        assert!(is_refused(&mut stream, true).await);
        stream.broken = true;
        assert!(is_refused(&mut stream, false).await);
    }

    #[actix_web::test]
    async fn a_connection_that_fails_to_send_carries_no_further_request() {
        let (mut stream, far) = used_connection().await;
        // With the request unread, closing resets the connection.
        drop(far);
        let sending = async {
            while !stream.broken {
                stream.write_all(b"more").await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let noticed = tokio::time::timeout(Duration::from_secs(20), sending).await;
        assert!(noticed.is_ok());
    }

    #[test]
    fn the_end_of_a_head_is_found_in_both_spellings() {
        for (head, expected) in [
            (&b""[..], None),
            (b"HTTP/1.1 200 OK\r\n", None),
            (b"HTTP/1.1 200 OK\r\n\r", None),
            (b"HTTP/1.1 200 OK\r\n\r\n", Some(19)),
            (b"HTTP/1.1 200 OK\r\n\r\nbody\r\n\r\n", Some(19)),
            (b"HTTP/1.1 200 OK\n\n", Some(17)),
            (b"HTTP/1.1 200 OK\r\na: b\n\r\nbody", Some(24)),
        ] {
            assert_eq!(end_of_head(head, 0), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn what_ends_a_body_is_read_from_its_head() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 500 Oh\r\nX: content-length\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                false,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", false),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", false),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\n\r\n", true),
            (
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                true,
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", false),
        ] {
            let found = Head::of(head.as_bytes()).body_ends_with_connection();
            assert_eq!(found, expected, "{head}");
        }
    }

    #[test]
    fn only_interim_answers_are_left_out() {
        for (status, expected) in [
            ("100", true),
            ("102", true),
            ("103", true),
            ("199", true),
            ("101", false),
            ("200", false),
            ("1", false),
            ("", false),
        ] {
            let head = format!("HTTP/1.1 {status}\n\n");
            let found = Head::of(head.as_bytes()).is_interim();
            assert_eq!(found, expected, "{status}");
        }
    }

    proptest! {
        #[test]
        fn a_head_that_comes_in_pieces_ends_at_the_same_place(
            text in "[\r\nab]{0,30}",
            cut in 0_usize..30,
        ) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let whole = end_of_head(bytes, 0);
            let pieces = end_of_head(&bytes[..cut], 0).or_else(|| end_of_head(bytes, cut));
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn no_head_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let head = Head::of(&bytes);
            let _ = (head.is_interim(), head.body_ends_with_connection());
            let _ = header_lines(&bytes).count();
        }
    }
}
