//! A throw-away Prometheus, and `promtool`.

use std::io::{Read as _, Write as _};
use std::iter;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;

use rustix::process::Signal;

use crate::error::{Context as _, Error};
use crate::folder::Folder;
use crate::locate;
use crate::ports::{Port, on_free_port};
use crate::process::{Daemon, Launch, lifecycle};
use crate::user::unprivileged;

/// A Prometheus that scrapes one address each second.
pub struct Prometheus {
    daemon: Daemon,
    port: Port,
    // Last, so that the program is gone before its folder.
    _folder: Folder,
}

lifecycle!(Prometheus);

impl Prometheus {
    /// Starts one that scrapes `/metrics` of this port of 127.0.0.1, with this bearer token
    /// if there is one.
    pub fn start(target: u16, token: Option<&str>) -> Result<Self, Error> {
        let program = locate::prometheus()?;
        let user = unprivileged()?;
        on_free_port(|port| {
            let folder = Folder::new("prometheus", user)?;
            let number = port.number();
            let authorization = token.map_or(String::new(), |token| {
                format!("    authorization:\n      credentials: {token}\n")
            });
            let config = format!(
                "global:\n  scrape_interval: 1s\n\
                 scrape_configs:\n  - job_name: millpond\n{authorization}    \
                 static_configs:\n      - targets: ['127.0.0.1:{target}']\n"
            );
            let config = folder.write("prometheus.yml", &config, user)?;
            let daemon = Daemon::start(Launch {
                name: "Prometheus",
                program: program.clone(),
                args: vec![
                    format!("--config.file={}", config.display()).into(),
                    format!("--storage.tsdb.path={}", folder.join("data").display()).into(),
                    format!("--web.listen-address=127.0.0.1:{number}").into(),
                ],
                folder: folder.path().to_owned(),
                user,
                stop: Signal::TERM,
                quit: Signal::KILL,
                ready: Box::new(move || ask(number, "/-/ready").map(drop)),
            })?;
            Ok(Self {
                daemon,
                port,
                _folder: folder,
            })
        })
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// What its HTTP interface answers to this path, such as `/api/v1/targets`: JSON.
    pub fn get(&self, path: &str) -> Result<String, Error> {
        ask(self.port(), path).map_err(Error::new)
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        iter::once(&self.daemon)
    }
}

/// What `promtool check metrics` says of this text; nothing, if all is well.
pub fn promtool(metrics: &str) -> Result<String, Error> {
    let program = locate::prometheus()?.sibling("promtool");
    let mut command = program.command();
    command.args(["check", "metrics"]);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context(|| "start promtool".into())?;
    if let Some(mut input) = child.stdin.take() {
        let sent = input.write_all(metrics.as_bytes());
        sent.context(|| "write to promtool".into())?;
    }
    let output = child.wait_with_output().context(|| "run promtool".into())?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    match (output.status.success(), said.is_empty()) {
        (false, true) => Ok(format!("promtool ended with {}", output.status)),
        _ => Ok(said),
    }
}

/// The body of the answer to a GET, if it is a good one.
fn ask(port: u16, path: &str) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(text)?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    )
    .map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(answer),
    }
}
