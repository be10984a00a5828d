//! A logger for programs that have none.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::sync::Arc;

use env_logger::fmt::Formatter;
use env_logger::{Builder, Target};
use log::{LevelFilter, Record};
use serde_json::{Map, Value};

use super::Switches;
use crate::config::Vars;
use crate::error::{Error, ErrorKind, Phase};

/// Drivers whose records below `info` can bear values, at which they are cut off whatever the
/// level: `tokio_postgres` prints statements and parameters at `debug` (`src/query.rs`,
/// `src/simple_query.rs`), `ureq` addresses with their queries (`src/run.rs`), `ureq_proto` heads
/// of requests (`src/client/mod.rs`) and `rustls` what was said in a handshake; the others for
/// what they may print some day.
const DRIVERS: [&str; 9] = [
    "bson",
    "mongodb",
    "postgres",
    "r2d2",
    "redis",
    "rustls",
    "tokio_postgres",
    "ureq",
    "ureq_proto",
];

/// Installs a logger for the whole program, set up by the environment, and applies the
/// [`Switches`] that the environment sets:
///
/// | variable | default | |
/// |---|---|---|
/// | `CONNECTION_POOL_LOG_LEVEL` | `INFO` | `OFF`, `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE` |
/// | `CONNECTION_POOL_STRUCTURED_LOGGING` | `true` | a JSON object per line, else text |
/// | `CONNECTION_POOL_LOG_FILE` | standard error | a file to append to; a new one is the owner's to write and the group's to read |
/// | `CONNECTION_POOL_LOG_CONNECTIONS` | `false` | see [`Switches::connections`] |
/// | `CONNECTION_POOL_LOG_OPERATIONS` | `false` | see [`Switches::operations`] |
/// | `CONNECTION_POOL_INCLUDE_METRICS` | `true` | see [`Switches::metrics`] |
///
/// Of the drivers, which print statements, parameters and headers, nothing below `info` is
/// written whatever the level. A line that cannot be written is lost, and nothing else happens.
///
/// ```
/// # fn main() -> Result<(), millpond::Error> {
/// millpond::logging::init_from_env()?;
/// log::info!(shop = 7; "open");
/// // {"time":"2031-05-06T07:08:09.123Z","level":"INFO","target":"app","message":"open","fields":{"shop":7}}
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Configuration`](ErrorKind::Configuration), naming each variable with a mistake, and when
/// the program has a logger already.
pub fn init_from_env() -> Result<(), Error> {
    let mut vars = Vars::process();
    let level = level(&mut vars);
    let structured = vars.flag("CONNECTION_POOL_STRUCTURED_LOGGING");
    let target = target(&mut vars);
    let switches = Switches::new().with_vars(&mut vars);
    vars.finish()?;

    let mut builder = Builder::new();
    builder.filter_level(level);
    for driver in DRIVERS {
        builder.filter_module(driver, level.min(LevelFilter::Info));
    }
    builder.target(target);
    if structured.unwrap_or(true) {
        builder.format(write_json);
    } else {
        builder.format_timestamp_millis();
    }
    builder.try_init().map_err(|error| {
        let message = "the program has a logger already: `init_from_env` is for those that have \
                       none";
        Error::new(ErrorKind::Configuration, Phase::Configure, message).with_source(Arc::new(error))
    })?;
    switches.apply();
    Ok(())
}

/// Finds the mistakes in these variables, without touching the file.
#[cfg(feature = "_net")]
pub(crate) fn check(vars: &mut Vars<'_>) {
    level(vars);
    vars.flag("CONNECTION_POOL_STRUCTURED_LOGGING");
}

fn level(vars: &mut Vars<'_>) -> LevelFilter {
    let name = "CONNECTION_POOL_LOG_LEVEL";
    let accepted = "OFF, ERROR, WARN, INFO, DEBUG or TRACE";
    vars.parse(name, accepted).unwrap_or(LevelFilter::Info)
}

fn target(vars: &mut Vars<'_>) -> Target {
    let name = "CONNECTION_POOL_LOG_FILE";
    let Some(path) = vars.text(name) else {
        return Target::Stderr;
    };
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    match options.open(&path) {
        Ok(file) => Target::Pipe(Box::new(file)),
        Err(error) => {
            vars.mistake(
                name,
                &path,
                &format!("a file that can be written ({error})"),
            );
            Target::Stderr
        }
    }
}

fn write_json(to: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = to.timestamp_millis().to_string();
    let mut line = line(&time, record);
    line.push('\n');
    to.write_all(line.as_bytes())
}

/// A JSON object, on one line whatever the texts contain.
fn line(time: &str, record: &Record<'_>) -> String {
    let mut line = Map::new();
    line.insert("time".into(), time.into());
    line.insert("level".into(), record.level().as_str().into());
    line.insert("target".into(), record.target().into());
    line.insert("message".into(), record.args().to_string().into());
    let mut fields = Fields(Map::new());
    // The visitor below never fails.
    let _ = record.key_values().visit(&mut fields);
    if !fields.0.is_empty() {
        line.insert("fields".into(), fields.0.into());
    }
    Value::from(line).to_string()
}

struct Fields(Map<String, Value>);

impl<'kvs> log::kv::VisitSource<'kvs> for Fields {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        // What JSON has no form for is given as it prints.
        let json = serde_json::to_value(&value).unwrap_or_else(|_| value.to_string().into());
        self.0.insert(key.as_str().to_owned(), json);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_the_texts_contain() {
        let text = "a \"quote\", a\nbreak, \u{1b}[31m and \u{0}";
        let fields = [
            ("text", log::kv::Value::from(text)),
            ("number", log::kv::Value::from(7_u64)),
            ("none", log::kv::Value::from(f64::NAN)),
        ];
        let written = line(
            "2031-05-06T07:08:09.123Z",
            &Record::builder()
                .level(log::Level::Warn)
                .target("here")
                .args(format_args!("said: {text}"))
                .key_values(&fields)
                .build(),
        );
        assert!(
            !written.contains('\n') && !written.contains('\u{1b}'),
            "{written}"
        );
        let read: Value = serde_json::from_str(&written).expect("JSON");
        assert_eq!(read["time"], "2031-05-06T07:08:09.123Z");
        assert_eq!(read["level"], "WARN");
        assert_eq!(read["message"], format!("said: {text}"));
        assert_eq!(read["fields"]["text"], text);
        assert_eq!(read["fields"]["number"], 7);
        assert!(read["fields"]["none"].is_null());
    }

    #[test]
    fn mistakes_name_their_variables() {
        let mut vars = Vars::from_lookup(|name| match name {
            "CONNECTION_POOL_LOG_LEVEL" => Some("loud".into()),
            "CONNECTION_POOL_LOG_FILE" => Some("/nowhere/log".into()),
            _ => None,
        });
        let _ = (level(&mut vars), target(&mut vars));
        let error = vars.finish().expect_err("two mistakes").to_string();
        assert!(
            error.contains("CONNECTION_POOL_LOG_LEVEL is `loud`"),
            "{error}"
        );
        assert!(
            error.contains("CONNECTION_POOL_LOG_FILE is `/nowhere/log`"),
            "{error}"
        );
    }
}
