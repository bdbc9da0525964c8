//! A lean caller over HTTP/1.1: one connection, one request at a time.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Turn, median_us,
    message::{Call, INITIALIZED, Revision, Tool, find, initialize},
    repeated, within,
};

/// A caller of one tool at one URL, with a connection that is kept.
pub struct HttpCaller {
    connection: Connection,
    call: Call,
}

impl HttpCaller {
    /// Connects to `url` on loopback and begins a session if the revision has sessions.
    pub async fn connect(url: &str, tool: &Tool, revision: Revision) -> Self {
        let mut connection = Connection::open(url).await;
        let headers = within(Duration::ZERO, connection.begin(tool, revision)).await;
        let call =
            Call::new(tool, revision).after(|length| connection.target.head(&headers, length));
        Self { connection, call }
    }

    /// Begins sessions of its own, one after another on one connection, with a call in each.
    pub async fn sessions(url: &str, tool: &Tool, revision: Revision, count: usize) {
        let mut connection = Connection::open(url).await;
        for _ in 0..count {
            let headers = within(Duration::ZERO, connection.begin(tool, revision)).await;
            let call =
                Call::new(tool, revision).after(|length| connection.target.head(&headers, length));
            let mut caller = Self { connection, call };
            within(Duration::ZERO, caller.call()).await;
            connection = caller.connection;
        }
    }

    /// Calls the tool once.
    pub async fn call(&mut self) {
        self.connection.exchange(self.call.next()).await;
        let answer = self.connection.body();
        assert_eq!(self.call.answered(answer), self.call.id());
    }

    /// Calls one after the other for `time`. Returns the median time of a call in microseconds.
    pub async fn alone(&mut self, time: Duration) -> f64 {
        let calls = repeated(time, async || self.call().await);
        median_us(&mut within(time, calls).await)
    }
}

/// All callers call at once, each one call after the other, for `time`.
pub async fn together(callers: &mut [HttpCaller], time: Duration) -> Turn {
    let started = Instant::now();
    let calls = callers
        .iter_mut()
        .map(|caller| repeated(time, async || caller.call().await));
    let calls = within(time, join_all(calls)).await;
    Turn {
        calls: calls.iter().map(Vec::len).sum(),
        time: started.elapsed(),
    }
}

/// A URL on loopback.
struct Target {
    host: String,
    path: String,
}

impl Target {
    fn head(&self, headers: &str, length: usize) -> String {
        format!(
            "POST /{} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{headers}Content-Length: {length}\r\n\r\n",
            self.path, self.host
        )
    }
}

struct Connection {
    target: Target,
    tcp: TcpStream,
    /// The bytes of the last response.
    input: Vec<u8>,
    /// The length of its head, with the empty line.
    head: usize,
    /// The payload of its chunks, if it has chunks.
    chunks: Vec<u8>,
    /// Where its payload is in `input`, if it has no chunks.
    plain: Option<Range<usize>>,
}

impl Connection {
    async fn open(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("an http URL");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        assert!(host.starts_with("127.0.0.1:"), "{url} is not on loopback");
        let tcp = TcpStream::connect(host).await.expect("a connection");
        tcp.set_nodelay(true).expect("an open connection");
        Self {
            target: Target {
                host: host.to_owned(),
                path: path.to_owned(),
            },
            tcp,
            input: Vec::with_capacity(16 * 1024),
            head: 0,
            chunks: Vec::new(),
            plain: None,
        }
    }

    /// Begins a session if the revision has sessions. Returns the headers of a call.
    async fn begin(&mut self, tool: &Tool, revision: Revision) -> String {
        let version = format!("MCP-Protocol-Version: {}\r\n", revision.version());
        if !revision.has_handshake() {
            let name = tool.name;
            return format!("{version}Mcp-Method: tools/call\r\nMcp-Name: {name}\r\n");
        }
        self.post("", &initialize(revision)).await;
        let session = self.header("mcp-session-id").expect("a session");
        let headers = format!("Mcp-Session-Id: {session}\r\n{version}");
        self.post(&headers, INITIALIZED).await;
        headers
    }

    async fn post(&mut self, headers: &str, body: &str) {
        let request = self.target.head(headers, body.len()) + body;
        self.exchange(request.as_bytes()).await;
    }

    /// Sends a request and reads the whole response, which must be a success.
    async fn exchange(&mut self, request: &[u8]) {
        self.tcp.write_all(request).await.expect("the request");
        self.input.clear();
        self.chunks.clear();
        self.plain = None;
        self.head = loop {
            if let Some(end) = find(&self.input, b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await;
        };
        let end = match self.header("content-length") {
            Some(length) => {
                let end = self.head + length.parse::<usize>().expect("a length");
                self.read_to(end).await;
                self.plain = Some(self.head..end);
                end
            }
            None => self.read_chunks().await,
        };
        assert_eq!(self.input.len(), end, "bytes after the response");
        let status = self.input.get(9..12);
        if !matches!(status, Some(b"200" | b"202")) {
            panic!("refused: {}", String::from_utf8_lossy(&self.input));
        }
    }

    /// Reads all chunks, and returns where the response ends.
    async fn read_chunks(&mut self) -> usize {
        let chunked = self.header("transfer-encoding");
        assert_eq!(chunked, Some("chunked"), "a body of unknown length");
        let mut at = self.head;
        loop {
            let line = loop {
                if let Some(length) = find(&self.input[at..], b"\r\n") {
                    break at..at + length;
                }
                self.read().await;
            };
            let size = std::str::from_utf8(&self.input[line.clone()]).ok();
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let start = line.end + 2;
            let end = start + size.expect("the size of a chunk");
            at = end + 2;
            self.read_to(at).await;
            if start == end {
                return at;
            }
            self.chunks.extend_from_slice(&self.input[start..end]);
        }
    }

    async fn read_to(&mut self, length: usize) {
        while self.input.len() < length {
            self.input.reserve(length - self.input.len());
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let read = self.tcp.read_buf(&mut self.input).await;
        assert_ne!(read.expect("the response"), 0, "the connection ended");
    }

    fn body(&self) -> &[u8] {
        match &self.plain {
            Some(place) => &self.input[place.clone()],
            None => &self.chunks,
        }
    }

    /// Returns the value of a header of the last response.
    fn header(&self, name: &str) -> Option<&str> {
        let head = &self.input[..self.head];
        let mut lines = head.split(|byte| *byte == b'\n');
        lines.find_map(|line| {
            let (before, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            let value = std::str::from_utf8(value).ok()?.trim();
            before
                .eq_ignore_ascii_case(name.as_bytes())
                .then_some(value)
        })
    }
}
