//! The connection as awc sees it: bytes in the clear, also where TLS is below.
//!
//! It stands between awc's HTTP/1 codec and the socket (or TLS) and makes up for the codec's gaps.
//! Unsolicited interim answers (100, 102, 103 …) are left out, which awc would take for the final
//! answer. A body without a stated length lasts until the connection ends, which awc knows for
//! HTTP/1.0 only. Folded headers are unfolded, and an unsound head fails with the place that is
//! unsound. An answer given before the whole request was taken is read. The bytes behind the head are
//! counted as they come, because the frames of a body (sizes and extensions of chunks, trailers) have
//! no limit in the codec. And it notes in the exchange's [`Trace`] whether the connection was reused
//! and how far the answer came.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::head::{self, HTTP, HTTP_MINOR_AT, Head, end_of_head};
use super::tls_problem::tls_problem;
use super::trace::{Phase, Trace, failure};
use crate::domain::attempt::FailureKind;

/// Heads before and including the final one: the limit of awc's own codec.
pub const HEAD_BYTES_MAX: usize = 128 * 1024;
/// One early hint or two are usual; a receiver that sends them without end is cut off.
pub const INTERIM_HEADS_MAX: usize = 16;

/// Sizes of chunks, their extensions and trailers, beyond the bytes of a body that are read. A body
/// in chunks of a kilobyte needs a hundredth of its size.
pub const FRAMES_BYTES_MAX: usize = 64 * 1024;

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
    /// The beginning of the request's head as it is sent, until it is.
    first_lines: Vec<u8>,
    /// A request is being written; the first read after it ends this.
    writing: bool,
    /// Sending failed, or nothing that follows can be trusted: no further request goes here.
    broken: bool,
    /// The final head of the answer has not come yet.
    awaiting_head: bool,
    interim_heads: usize,
    interim_bytes: usize,
    /// The bytes read in search of the final head; those behind the head are handed on from here.
    held: Vec<u8>,
    /// How much of `held` holds no end of a head.
    searched: usize,
    /// The bytes that came after the final head, frames included, and the most that are read of them.
    after_head: usize,
    after_head_max: usize,
    open: OpenConnections,
}

impl Stream {
    /// Of an answer, `after_head_max` bytes are read beyond its head, and as many as one more read brings.
    pub fn new(transport: Transport, open: OpenConnections, after_head_max: usize) -> Stream {
        open.0.set(open.0.get() + 1);
        Stream {
            transport,
            trace: None,
            first_lines: Vec::new(),
            writing: false,
            broken: false,
            awaiting_head: false,
            interim_heads: 0,
            interim_bytes: 0,
            held: Vec::new(),
            searched: 0,
            after_head: 0,
            after_head_max,
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
        self.after_head = 0;
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

    /// Writes the request, with the rearranged beginning of its head in place of the same number of
    /// bytes.
    fn write_below(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let rest = buf.get(self.first_lines.len()..).unwrap_or_default();
        let slices = [IoSlice::new(&self.first_lines), IoSlice::new(rest)];
        let written = ready!(match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, &slices),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, &slices),
        })?;
        let from_first = written.min(self.first_lines.len());
        self.first_lines.drain(..from_first);
        Poll::Ready(Ok(written))
    }

    /// Reads from below, counts the bytes, and notes an end.
    fn read_below(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.after_head > self.after_head_max {
            self.broken = true;
            if let Some(trace) = &self.trace {
                trace.cut.set(true);
            }
            return Poll::Ready(Err(io::Error::other("the rest of the answer is not read")));
        }
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
        let count = buf.filled().len() - before;
        if !self.awaiting_head {
            self.after_head += count;
        }
        if let Some(trace) = &self.trace {
            match count {
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
                self.note_head(self.held.len());
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
            self.note_head(end.unwrap_or(self.held.len()));
            return Err(self.broken_answer("The head of the answer is larger than 128 KiB."));
        }
        Ok(end)
    }

    /// Leaves an interim head out, or notes the final one.
    fn take_head(&mut self, end: usize) -> io::Result<()> {
        head::unfold(&mut self.held[..end]);
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
        self.after_head = self.held.len() - end;
        self.note_head(end);
        if let Some(fault) = head::fault(&self.held[..end]) {
            return Err(self.broken_answer(&fault));
        }
        if let Some(trace) = &self.trace {
            trace.phase.set(Phase::ReadingBody);
            trace
                .body_ends_with_connection
                .set(head.body_ends_with_connection());
        }
        if head.body_ends_with_connection() {
            // RFC 9112, section 6.3. awc's codec knows this rule under HTTP/1.0 only, and would
            // use the connection again with the body still coming.
            self.held[HTTP_MINOR_AT] = b'0';
        }
        Ok(())
    }

    /// Shows the head to the exchange, as far as it came: its status is known even where the answer
    /// is broken.
    fn note_head(&self, end: usize) {
        if let Some(trace) = &self.trace {
            trace.head.borrow_mut().extend_from_slice(&self.held[..end]);
        }
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

/// A failure to send is not reported, because the receiver may have answered before it closed. Reading
/// finds the answer, or else the same end of the connection.
impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.writing {
            this.start_exchange();
            put_host_first(buf, &mut this.first_lines);
        }
        if this.broken {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(this.write_below(cx, buf));
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

/// Writes to `first_lines` the head of a request up to its `host`, with that as the first header
/// (RFC 9110, section 7.2): awc writes headers in the order of its hash map. It is as long as the bytes
/// that it replaces, and empty where nothing is to be replaced.
fn put_host_first(head: &[u8], first_lines: &mut Vec<u8>) {
    const HOST: &[u8] = b"host:";
    first_lines.clear();
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default().len();
    let mut at = first;
    for line in lines.take_while(|line| *line != b"\r\n") {
        if line.len() >= HOST.len() && line[..HOST.len()].eq_ignore_ascii_case(HOST) {
            first_lines.extend_from_slice(&head[..first]);
            first_lines.extend_from_slice(line);
            first_lines.extend_from_slice(&head[first..at]);
            return;
        }
        at += line.len();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let mut stream = Stream::new(Transport::Plain(near), OpenConnections::default(), 0);
        TRACE
            .scope(
                Trace::new(ApplicationId([0; 20]), false),
                stream.write_all(b"request"),
            )
            .await
            .unwrap();
        (stream, far)
    }

    /// Whether a pool that checks the idle connection for another exchange learns that it ended.
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
    fn the_host_comes_first_and_no_byte_is_lost() {
        for (head, expected) in [
            (
                "POST / HTTP/1.1\r\ncontent-length: 1\r\na: b\r\nhost: c\r\nd: e\r\n\r\nhost: x",
                "POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 1\r\na: b\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: c\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: c\r\n",
            ),
            ("GET / HTTP/1.1\r\na: b\r\n\r\nhost: c\r\n", ""),
            ("", ""),
        ] {
            let mut first_lines = b"of the exchange before".to_vec();
            put_host_first(head.as_bytes(), &mut first_lines);
            assert_eq!(String::from_utf8(first_lines).unwrap(), expected);
        }
    }

    /// Of a transport that takes few bytes at a time, nothing is lost or repeated.
    #[actix_web::test]
    async fn a_request_that_goes_out_in_pieces_has_its_host_first() {
        let head = "POST / HTTP/1.1\r\ncontent-length: 4\r\nhost: c\r\n\r\n";
        let body = "x".repeat(8 << 20);
        let (mut stream, mut far) = used_connection().await;
        far.read_exact(&mut [0; 7]).await.unwrap();
        stream.writing = false;
        let request = format!("{head}{body}");
        let sending = TRACE.scope(
            Trace::new(ApplicationId([0; 20]), false),
            stream.write_all(request.as_bytes()),
        );
        let mut received = vec![0; request.len()];
        let (sent, read) = tokio::join!(sending, far.read_exact(&mut received));
        sent.unwrap();
        read.unwrap();
        let expected = format!("POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 4\r\n\r\n{body}");
        assert!(received == expected.as_bytes());
    }
}
