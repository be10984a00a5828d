//! What the library warns of in the log belongs to the output.

use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};

static JOURNAL: Journal = Journal(Mutex::new(Vec::new()));

struct Journal(Mutex<Vec<String>>);

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The drivers' own warnings come back as errors.
        metadata.target().starts_with("millpond")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let text = text.strip_prefix("millpond: ").unwrap_or(&text).to_owned();
        if let Ok(mut lines) = self.0.lock()
            && !lines.contains(&text)
        {
            lines.push(text);
        }
    }

    fn flush(&self) {}
}

/// From now on warnings are kept.
pub(crate) fn install() {
    if log::set_logger(&JOURNAL).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// What was warned of since the last call.
pub(crate) fn take() -> Vec<String> {
    JOURNAL
        .0
        .lock()
        .map(|mut lines| std::mem::take(&mut *lines))
        .unwrap_or_default()
}
