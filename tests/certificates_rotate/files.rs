//! The files of the program, and what the log says of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, Once};

use testbed::Identity;

/// A folder with certificates in it.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        static LISTENS: Once = Once::new();
        LISTENS.call_once(|| testbed::listen(&LOG));
        let number = NEXT.fetch_add(1, SeqCst);
        let name = format!("millpond-certificates-{}-{number}-", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// As those do it who do it well: a new file in the place of the old one.
    pub(super) fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.path(name)).unwrap();
    }

    /// The client's certificate and key: one after the other, as they cannot be replaced at once.
    pub(super) fn write_client(&self, identity: &Identity) {
        self.write("client.pem", identity.cert_pem());
        self.write("both.pem", &identity.combined_pem());
        self.write("client.key", identity.key_pem());
    }

    /// How often the log was told that the files cannot be used.
    pub(super) fn warnings(&self) -> usize {
        let folder = self.0.to_string_lossy();
        let said = LOG.0.lock().unwrap();
        let of_these = |line: &&String| line.contains("cannot be used") && line.contains(&*folder);
        said.iter().filter(of_these).count()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}
