//! What a check found, as data and for people.

use std::fmt::Write as _;

use millpond::backend::{Encryption, Role, Service};
use millpond::config::Mistake;
use millpond::health::{CertificateOf, Concern, HealthReport, PoolHealth};
use millpond::{Config, Error, Health};
use serde::Serialize;

use crate::hints::{Hint, Settings};
use crate::paint::{BAD, BOLD, DIM, of, painted, wrapped};
use crate::table::{Table, plain};
use crate::{Exit, journal};

/// What a check found. Its JSON is what `--json` prints.
#[derive(Serialize)]
pub(crate) struct Report {
    verdict: &'static str,
    exit_code: u8,
    /// What is wrong with the configuration; then nothing was connected to.
    mistakes: Vec<MistakeReport>,
    warnings: Vec<String>,
    pools: Vec<PoolReport>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Serialize)]
struct MistakeReport {
    setting: String,
    value: String,
    accepted: String,
    text: String,
}

#[derive(Serialize)]
struct PoolReport {
    #[serde(flatten)]
    health: PoolHealth,
    /// The settings that have to do with the reasons.
    settings: Vec<Hint>,
}

impl From<&Mistake> for MistakeReport {
    fn from(mistake: &Mistake) -> Self {
        Self {
            setting: mistake.setting.clone(),
            value: mistake.value.clone(),
            accepted: mistake.accepted.clone(),
            text: mistake.to_string(),
        }
    }
}

impl MistakeReport {
    /// What has no setting: a file that cannot be read, nothing at all.
    fn free(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            setting: String::new(),
            value: String::new(),
            accepted: text.clone(),
            text,
        }
    }
}

fn exit_of(health: Health) -> Exit {
    match health {
        Health::Up => Exit::Well,
        Health::Degraded => Exit::Degraded,
        Health::Down => Exit::Failed,
    }
}

impl Report {
    fn new(exit: Exit, mistakes: Vec<MistakeReport>, pools: Vec<PoolReport>) -> Self {
        Self {
            verdict: exit.as_str(),
            exit_code: exit as u8,
            mistakes,
            warnings: journal::take(),
            pools,
            exit,
        }
    }

    /// The configuration could not even be read.
    pub(crate) fn unreadable(error: &Error) -> Self {
        let mistake = MistakeReport::free(error.message());
        Self::new(Exit::Misconfigured, vec![mistake], Vec::new())
    }

    /// The configuration is wrong.
    pub(crate) fn mistaken(config: &Config) -> Self {
        let mistakes = config.mistakes();
        let mistakes = mistakes.iter().map(MistakeReport::from).collect();
        Self::new(Exit::Misconfigured, mistakes, Vec::new()).with_warnings(config)
    }

    pub(crate) fn checked(config: &Config, found: HealthReport) -> Self {
        if found.pools.is_empty() {
            let mistake = MistakeReport::free(NOTHING);
            return Self::new(Exit::Misconfigured, vec![mistake], Vec::new()).with_warnings(config);
        }
        let all = config.settings();
        let exit = exit_of(found.health);
        let pools = found.pools.into_iter().map(|health| {
            let own = Settings::of(&all, &health.pool);
            let texts: Vec<_> = health.reasons.iter().map(|one| &*one.text).collect();
            let settings = own.named_in(&texts.join("\n"));
            PoolReport { health, settings }
        });
        Self::new(exit, Vec::new(), pools.collect()).with_warnings(config)
    }

    fn with_warnings(mut self, config: &Config) -> Self {
        self.warnings.splice(..0, config.warnings());
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// For people, in colour.
    pub(crate) fn print(&self) -> String {
        let mut text = String::new();
        if !self.pools.is_empty() {
            text.push_str(&self.table());
        }
        for pool in &self.pools {
            text.push_str(&pool.advice());
        }
        let mistakes = self.mistakes.iter().map(|mistake| &*mistake.text);
        text.push_str(&listed("wrong", mistakes, BAD));
        let warnings = self.warnings.iter().map(|warning| &**warning);
        text.push_str(&listed("warning", warnings, of(Exit::Degraded)));
        if self.mistakes.iter().any(|mistake| mistake.text == NOTHING) {
            text.push_str(EXAMPLE);
        } else {
            text.push('\n');
            text.push_str(&self.summary());
        }
        text.trim_start().to_owned()
    }

    fn table(&self) -> String {
        let mut table = Table::new(&[
            ("pool", 18),
            ("server", 0),
            ("tls", 17),
            ("version", 14),
            ("role", 10),
            ("latency", 9),
            ("verdict", 22),
        ]);
        for PoolReport { health, .. } in &self.pools {
            let service = health.service.as_ref();
            let version = service.and_then(|service| service.version.as_deref());
            let version = version.and_then(|version| version.split(' ').next());
            let latency = service.map(|service| service.latency.as_secs_f64() * 1e3);
            let or_dash = |text: Option<String>| plain(text.unwrap_or_else(|| "-".to_owned()));
            table.row(vec![
                plain(&*health.pool),
                plain(&*health.endpoint),
                or_dash(service.map(tls)),
                or_dash(version.map(str::to_owned)),
                or_dash(
                    service
                        .and_then(|service| role(service.role))
                        .map(str::to_owned),
                ),
                or_dash(latency.map(|latency| format!("{latency:.1} ms"))),
                (verdict(health), of(exit_of(health.health))),
            ]);
        }
        table.print("")
    }

    fn summary(&self) -> String {
        let count = |health| {
            let pools = self.pools.iter();
            pools.filter(|pool| pool.health.health == health).count()
        };
        let all = self.pools.len();
        let (down, degraded) = (count(Health::Down), count(Health::Degraded));
        let text = match (self.exit, all) {
            (Exit::Misconfigured, _) => {
                "The configuration is wrong; nothing was connected to.".to_owned()
            }
            (Exit::Well, 1) => "The server can be used.".to_owned(),
            (Exit::Well, all) => format!("All {all} servers can be used."),
            (Exit::Failed, 1) => "The server cannot be used.".to_owned(),
            (Exit::Degraded, 1) => "The server can be used, but not as it should be.".to_owned(),
            _ => {
                let mut parts = Vec::new();
                if down > 0 {
                    parts.push(format!("{down} cannot be used"));
                }
                if degraded > 0 {
                    parts.push(format!("{degraded} is not as it should be"));
                }
                format!("Of {all} servers, {}.", parts.join(" and "))
            }
        };
        format!("{}\n", painted(&text, of(self.exit)))
    }

    /// A line for each pool, for a log.
    pub(crate) fn lines(&self, time: &str) -> String {
        let mut text = String::new();
        for mistake in &self.mistakes {
            let _ = writeln!(text, "{time}  misconfigured  {}", mistake.text);
        }
        for PoolReport { health, .. } in &self.pools {
            let verdict = exit_of(health.health).as_str();
            let _ = write!(
                text,
                "{time}  {verdict:<8}  {}  {}",
                health.pool, health.endpoint
            );
            if let Some(service) = &health.service {
                let _ = write!(text, "  {:.1} ms", service.latency.as_secs_f64() * 1e3);
            }
            for reason in &health.reasons {
                let _ = write!(text, "  {reason}");
            }
            text.push('\n');
        }
        text
    }
}

impl PoolReport {
    /// What is wrong, and which settings that has to do with.
    fn advice(&self) -> String {
        let mut text = String::new();
        for reason in &self.health.reasons {
            let (name, server) = (&self.health.pool, &self.health.endpoint);
            let style = of(exit_of(reason.health)).bold();
            let said = wrapped(
                &format!("({server}): {reason}"),
                name.chars().count() + 1,
                4,
            );
            let _ = write!(text, "\n{} {said}\n", painted(name, style));
        }
        if self.settings.is_empty() {
            return text;
        }
        let mut table = Table::new(&[("setting", 34), ("value", 0), ("from", 60)]);
        for hint in &self.settings {
            let value = hint.value.as_deref().unwrap_or("-");
            table.row(vec![
                (hint.variable.to_owned(), BOLD),
                plain(value),
                (hint.source.clone(), DIM),
            ]);
        }
        text.push_str(&table.print("    "));
        text
    }
}

/// How the connection is encrypted, and until when the server's certificate is good.
fn tls(service: &Service) -> String {
    let mut text = match service.encryption {
        Encryption::None => "none",
        Encryption::Tls => "yes",
        Encryption::Tls12 => "1.2",
        Encryption::Tls13 => "1.3",
        _ => "unknown",
    }
    .to_owned();
    let mut certificates = service.certificates.iter();
    let of_server = certificates.find(|certificate| certificate.of == CertificateOf::Server);
    let expires = of_server.and_then(|certificate| certificate.expires_at.try_into().ok());
    if let Some(expires) = expires {
        let expires: jiff::Timestamp = expires;
        // The day of `2026-11-30T12:00:00Z`.
        let _ = write!(text, " to {:.10}", expires.to_string());
    }
    text
}

/// In a word or two.
fn verdict(health: &PoolHealth) -> String {
    let Some(worst) = health.reasons.iter().max_by_key(|reason| reason.health) else {
        return "ok".to_owned();
    };
    match (worst.concern, worst.error) {
        (Concern::ReadOnly, _) => "read-only".to_owned(),
        (Concern::Certificate, _) => "certificate expires".to_owned(),
        (_, Some(kind)) => kind.to_string(),
        (_, None) => health.health.to_string(),
    }
}

fn role(role: Role) -> Option<&'static str> {
    match role {
        Role::Primary => Some("primary"),
        Role::Replica => Some("replica"),
        Role::Router => Some("router"),
        Role::Standalone => Some("standalone"),
        _ => None,
    }
}

fn listed<'a>(head: &str, texts: impl Iterator<Item = &'a str>, style: anstyle::Style) -> String {
    let mut text = String::new();
    for one in texts {
        let head = format!("{}: ", painted(head, style));
        let _ = write!(text, "\n{head}{}\n", wrapped(one, 9, 4));
    }
    text
}

/// Nobody named a server.
const NOTHING: &str = "nothing is configured: no variable and no file names a server";

const EXAMPLE: &str = r#"
Set one of these, for example in the shell:

  export DATABASE_URL=postgres://app:secret@localhost/shop
  export REDIS_URL=redis://localhost
  export MONGODB_URI=mongodb://localhost/shop
  export HTTP_ENABLED=true HTTP_BASE_URL=https://api.internal

or write them to a file, and name it with --config FILE or MILLPOND_CONFIG=FILE:

  [pools.shop]
  backend = "postgres"
  host = "db.internal"
  name = "shop"
  user = "app"
  password_file = "/run/secrets/shop"
  ssl_mode = "verify-full"

Then `millpond check` tries them out, and `millpond config` shows what counts.
"#;
