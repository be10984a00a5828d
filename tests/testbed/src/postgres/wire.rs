//! As much of PostgreSQL's protocol as a test needs for its errands: trusted
//! login over the Unix socket and simple queries.
//!
//! It takes 1 ms where starting `psql` takes 30, and works without a driver, so
//! that the testbed does not depend on what it helps to test.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The superuser of every server of the testbed.
pub(super) const USER: &str = "test";
/// Protocol version 3.0.
const VERSION: i32 = 3 << 16;

/// A session; ends on drop.
pub(crate) struct Session {
    stream: UnixStream,
}

impl Session {
    /// Logs in. An error says what the server said, or what the socket did.
    pub(crate) fn open(socket: &Path, database: &str) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let stream = UnixStream::connect(socket).map_err(text)?;
        let timeout = Some(Duration::from_secs(30));
        stream.set_read_timeout(timeout).map_err(text)?;
        stream.set_write_timeout(timeout).map_err(text)?;
        let mut session = Self { stream };
        let parameters = format!("user\0{USER}\0database\0{database}\0\0");
        let mut hello = VERSION.to_be_bytes().to_vec();
        hello.extend_from_slice(parameters.as_bytes());
        session.send(None, &hello).map_err(text)?;
        session.receive()?;
        Ok(session)
    }

    /// Runs SQL; the rows as text, columns joined by `|`, rows by line feeds.
    pub(crate) fn query(&mut self, sql: &str) -> Result<String, String> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body)
            .map_err(|error| error.to_string())?;
        self.receive()
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
        let length = i32::try_from(body.len() + 4).map_err(io::Error::other)?;
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message)
    }

    /// Reads up to the server's being ready for the next query.
    fn receive(&mut self) -> Result<String, String> {
        let mut rows: Vec<String> = Vec::new();
        let mut failure = None;
        loop {
            let (kind, body) = self.message().map_err(|error| {
                // After a fatal error the server hangs up instead of getting ready.
                failure.take().unwrap_or_else(|| error.to_string())
            })?;
            match kind {
                b'D' => rows.push(row(&body).unwrap_or_default()),
                b'E' => failure = Some(error_text(&body)),
                b'R' if body != [0; 4] => return Err("the server wants a password".into()),
                b'Z' => return failure.map_or_else(|| Ok(rows.join("\n")), Err),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length).saturating_sub(4);
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body)?;
        Ok((kind, body))
    }
}

/// A `DataRow`: a count, then each column's length (-1 for NULL) and bytes.
fn row(body: &[u8]) -> Option<String> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let (value, after) = after.split_at_checked(length)?;
        columns.push(String::from_utf8_lossy(value).into_owned());
        rest = after;
    }
    Some(columns.join("|"))
}

/// An `ErrorResponse`: fields of a letter and a string each; `C` is the SQLSTATE,
/// `M` the message.
fn error_text(body: &[u8]) -> String {
    let field = |letter: u8| {
        body.split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&letter))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
            .unwrap_or_default()
    };
    format!("{} ({})", field(b'M'), field(b'C'))
}
