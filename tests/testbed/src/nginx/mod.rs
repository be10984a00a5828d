//! A throw-away HTTP server: nginx, in one process, without its master.

mod responder;

use std::fmt::Write as _;
use std::iter;
use std::net::{Ipv4Addr, TcpStream};

use rustix::process::Signal;

use crate::ca::{Ca, Identity};
use crate::error::Error;
use crate::folder::Folder;
use crate::locate;
use crate::ports::{Port, on_free_port};
use crate::process::{Daemon, Launch, lifecycle, shared};
use crate::secret;
use responder::Responder;

/// An nginx with routes made for testing clients.
///
/// | path | reply |
/// |---|---|
/// | `/` | `ok` |
/// | `/json` | `{"ok":true}` as `application/json` |
/// | `/status/503` | 503 with `Retry-After: 1` |
/// | `/status/N` | that status |
/// | `/redirect/N` | 302 to `/redirect/N-1`, and `ok` from `/redirect/0` |
/// | `/bytes/N` | that many bytes of `x` |
/// | `/slow/N` | `slow`, N milliseconds later |
/// | `/echo` | the request, head and body |
/// | `/authorization`, `/x-api-key`, `/user-agent` | that header of the request |
/// | `/basic` | `ok`, or 401 without the user `test` and the password [`PASSWORD`](Self::PASSWORD) |
/// | `/bearer` | `ok`, or 401 without [`TOKEN`](Self::TOKEN) as bearer token |
///
/// Connections are kept alive for a million requests and 75 idle seconds. On drop
/// it is killed and its folder removed.
pub struct Nginx {
    daemon: Daemon,
    port: Port,
    tls: bool,
    _responder: Responder,
    // Last, so that the server is gone before its folder.
    _folder: Folder,
}

lifecycle!(Nginx);
shared!(Nginx);

impl Nginx {
    /// Of the user `test` on `/basic`.
    pub const PASSWORD: &str = secret!("basic");
    /// The bearer token of `/bearer`.
    pub const TOKEN: &str = secret!("bearer");

    /// Starts a server without TLS.
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// A server to be configured first.
    pub fn builder() -> NginxBuilder {
        NginxBuilder::default()
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The base URL, without a slash at the end: `http://` or `https://`.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        iter::once(&self.daemon)
    }
}

/// What to start an [`Nginx`] with.
#[derive(Clone, Debug, Default)]
pub struct NginxBuilder {
    tls: Option<(Identity, String)>,
    client_certificates: bool,
    directives: String,
}

impl NginxBuilder {
    /// Speaks TLS, and only TLS, with a certificate for `localhost` and
    /// `127.0.0.1`.
    #[must_use]
    pub fn tls(self, ca: &Ca) -> Self {
        self.tls_identity(ca, &ca.server(&["localhost", "127.0.0.1"]))
    }

    /// Speaks TLS with a certificate of your choice, such as an expired one.
    #[must_use]
    pub fn tls_identity(mut self, ca: &Ca, server: &Identity) -> Self {
        self.tls = Some((server.clone(), ca.cert_pem().to_owned()));
        self
    }

    /// Whether clients must show a certificate; without one nginx replies 400.
    /// Needs [`tls`](Self::tls).
    #[must_use]
    pub fn client_certificates(mut self, on: bool) -> Self {
        self.client_certificates = on;
        self
    }

    /// One more directive of the server, such as `keepalive_timeout 1s` or a
    /// whole `location`. It overrides the testbed's own of the same name. With
    /// `limit_conn busy 4` it replies 503 to what comes while it works on four requests.
    #[must_use]
    pub fn directive(mut self, text: &str) -> Self {
        self.directives.push_str(text.trim_end_matches(';'));
        let end = if text.ends_with('}') { "\n" } else { ";\n" };
        self.directives.push_str(end);
        self
    }

    /// Starts the server.
    pub fn start(self) -> Result<Nginx, Error> {
        on_free_port(|port| {
            let folder = Folder::new("nginx", None)?;
            let responder = Responder::start()?;
            let config = self.config(&folder, &port, &responder)?;
            let config = folder.write("nginx.conf", &config, None)?;
            let number = port.number();
            let daemon = Daemon::start(Launch {
                name: "nginx",
                program: locate::nginx()?,
                args: vec![
                    "-p".into(),
                    folder.path().into(),
                    "-e".into(),
                    "stderr".into(),
                    "-c".into(),
                    config.into(),
                ],
                folder: folder.path().to_owned(),
                user: None,
                stop: Signal::TERM,
                quit: Signal::KILL,
                ready: Box::new(move || {
                    TcpStream::connect((Ipv4Addr::LOCALHOST, number))
                        .map(drop)
                        .map_err(|error| error.to_string())
                }),
            })?;
            Ok(Nginx {
                daemon,
                port,
                tls: self.tls.is_some(),
                _responder: responder,
                _folder: folder,
            })
        })
    }

    fn config(&self, folder: &Folder, port: &Port, responder: &Responder) -> Result<String, Error> {
        let folder_path = folder.path().display();
        let mut tls = String::new();
        if let Some((identity, ca_pem)) = &self.tls {
            folder.write("server.pem", identity.cert_pem(), None)?;
            folder.write("server.key", identity.key_pem(), None)?;
            folder.write("ca.pem", ca_pem, None)?;
            tls = format!(
                "ssl_certificate {folder_path}/server.pem;\n\
                 ssl_certificate_key {folder_path}/server.key;\n"
            );
            if self.client_certificates {
                // Writing to a string does not fail.
                let _ = writeln!(
                    tls,
                    "ssl_verify_client on;\nssl_client_certificate {folder_path}/ca.pem;"
                );
            }
        }
        let users = format!("test:{{PLAIN}}{}\n", Nginx::PASSWORD);
        folder.write("users", &users, None)?;
        Ok(CONFIG
            .replace("FOLDER", &folder_path.to_string())
            .replace("RESPONDER", &responder.port().to_string())
            .replace("TOKEN", Nginx::TOKEN)
            .replace("PORT", &port.number().to_string())
            .replace("LISTEN_TLS", if self.tls.is_some() { " ssl" } else { "" })
            .replace("TLS", &tls)
            .replace("DIRECTIVES", &self.directives))
    }
}

const CONFIG: &str = r#"
daemon off;
master_process off;
pid FOLDER/pid;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    default_type text/plain;
    keepalive_requests 1000000;
    keepalive_timeout 75s;
    limit_conn_zone $server_port zone=busy:1m;
    limit_conn_log_level info;
    map $http_authorization $bearer { default 0; "Bearer TOKEN" 1; }
    server {
        listen 127.0.0.1:PORTLISTEN_TLS backlog=4096;
        TLS
        DIRECTIVES
        location = / { return 200 ok; }
        location = /json { default_type application/json; return 200 '{"ok":true}'; }
        location = /status/503 { add_header Retry-After 1 always; return 503 busy; }
        location = /authorization { return 200 $http_authorization; }
        location = /x-api-key { return 200 $http_x_api_key; }
        location = /user-agent { return 200 $http_user_agent; }
        location = /basic {
            auth_basic testbed;
            auth_basic_user_file FOLDER/users;
            try_files /none @ok;
        }
        location @ok { return 200 ok; }
        location = /bearer {
            if ($bearer = 0) { return 401 unauthorized; }
            return 200 ok;
        }
        location / {
            proxy_pass http://127.0.0.1:RESPONDER;
            proxy_set_header Host $http_host;
            proxy_read_timeout 10m;
            client_max_body_size 0;
        }
    }
}
"#;
