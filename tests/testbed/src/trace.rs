//! The log of each test process, at trace level, into a file of its own.
//!
//! `TESTBED_TRACE=DIR` asks for it. The logger is installed when the first server is started:
//! before that no secret of a server can be on its way. A process that starts none, and sends
//! marked values all the same, asks for it by [`trace`]. One that has a logger by then keeps it;
//! what that writes can be added by [`keep`]. Each record is written by itself, as a test may be
//! killed.
//!
//! Some targets of drivers are kept to `info`, as Millpond's guide asks of every logger.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{LazyLock, Once, OnceLock};
use std::{env, process};

use log::kv::{self, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// `tokio_postgres` prints each statement with its parameters, `ureq` each address with its query,
/// `ureq_proto` each head that it sends, tokens and all.
const KEPT_TO_INFO: [&str; 3] = ["tokio_postgres", "ureq", "ureq_proto"];

struct Trace {
    file: Option<File>,
}

static TRACE: LazyLock<Trace> = LazyLock::new(Trace::open);
static LISTENER: OnceLock<&'static dyn Log> = OnceLock::new();

/// Installs the logger, if `TESTBED_TRACE` asks for it, and says whether it does.
///
/// # Panics
/// If its file cannot be made.
pub fn trace() -> bool {
    let asked = TRACE.file.is_some();
    if asked {
        install();
    }
    asked
}

/// Adds what something else wrote to what is searched, if `TESTBED_TRACE` asks for it: a program
/// that a test started, the audit log, a page of the exporter.
///
/// # Panics
/// If it cannot be written.
pub fn keep(what: &str, written: impl AsRef<[u8]>) {
    if let Some(file) = &TRACE.file {
        let text = [what.as_bytes(), b":\n", written.as_ref(), b"\n"].concat();
        write(file, &text);
    }
}

fn write(mut file: &File, text: &[u8]) {
    if let Err(error) = file.write_all(text) {
        panic!("TESTBED_TRACE: {error}");
    }
}

/// Lets a test read the log by its own logger, beside the one of `TESTBED_TRACE`.
///
/// # Panics
/// If another test of the process does so already.
pub fn listen(logger: &'static dyn Log) {
    let first = LISTENER.set(logger).is_ok();
    assert!(first, "another test listens to the log");
    install();
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails where the program has one, which is what that program is about.
        if log::set_logger(&*TRACE).is_ok() {
            log::set_max_level(LevelFilter::Trace);
        }
    });
}

impl Trace {
    /// # Panics
    /// If the file cannot be made: one that leaves no trace must not pass for one that shows
    /// nothing.
    fn open() -> Self {
        let file = env::var_os("TESTBED_TRACE").map(|folder| {
            let program = env::current_exe().unwrap_or_default();
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            let path = PathBuf::from(folder).join(format!("{name}-{}.log", process::id()));
            let file = File::options().create(true).append(true).open(&path);
            file.unwrap_or_else(|error| panic!("TESTBED_TRACE: {}: {error}", path.display()))
        });
        Self { file }
    }
}

impl Log for Trace {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.file.is_some() || LISTENER.get().is_some_and(|it| it.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(file) = &self.file
            && is_traced(record.metadata())
        {
            let mut line = Line(format!(
                "{} {}: {}",
                record.level(),
                record.target(),
                record.args()
            ));
            // Neither the visitor nor writing to a string fails.
            let _ = record.key_values().visit(&mut line);
            line.0.push('\n');
            write(file, line.0.as_bytes());
        }
        if let Some(listener) = LISTENER.get() {
            listener.log(record);
        }
    }

    fn flush(&self) {}
}

fn is_traced(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    metadata.level() <= Level::Info || !KEPT_TO_INFO.contains(&library)
}

struct Line(String);

impl<'kvs> VisitSource<'kvs> for Line {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        write!(self.0, " {key}={value}").map_err(|fmt::Error| kv::Error::msg("a full string"))
    }
}
