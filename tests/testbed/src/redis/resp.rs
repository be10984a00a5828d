//! As much of Redis's protocol as a test needs for its errands, over the Unix
//! socket, where there is no TLS to get in the way.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Logs in if there is a password, runs one command, and gives its reply as
/// `redis-cli` prints it: an element a line. An error reply is an `Err`.
pub(super) fn ask(socket: &Path, password: Option<&str>, args: &[&str]) -> Result<String, String> {
    let text = |error: io::Error| error.to_string();
    let mut stream = UnixStream::connect(socket).map_err(text)?;
    let timeout = Some(Duration::from_secs(30));
    stream.set_read_timeout(timeout).map_err(text)?;
    stream.set_write_timeout(timeout).map_err(text)?;
    let mut reader = BufReader::new(stream.try_clone().map_err(text)?);
    if let Some(password) = password {
        stream
            .write_all(&encode(&["AUTH", password]))
            .map_err(text)?;
        reply(&mut reader).map_err(text)??;
    }
    stream.write_all(&encode(args)).map_err(text)?;
    reply(&mut reader).map_err(text)?
}

fn encode(args: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n{arg}\r\n", arg.len()).as_bytes());
    }
    bytes
}

fn reply(reader: &mut impl BufRead) -> io::Result<Result<String, String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).unwrap_or((line, ""));
    let length = || rest.parse::<i64>().map_err(io::Error::other);
    Ok(match kind {
        "-" => Err(rest.to_owned()),
        "$" => match usize::try_from(length()?) {
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                reader.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Err(_) => Ok(String::new()),
        },
        "*" => {
            let mut elements = Vec::new();
            for _ in 0..length()?.max(0) {
                elements.push(reply(reader)?.unwrap_or_else(|error| error));
            }
            Ok(elements.join("\n"))
        }
        _ => Ok(rest.to_owned()),
    })
}
