//! A TOML file as a layer.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::known::{BACKENDS, OF_PROCESS, SHARED, known, nearest};
use super::layers::{Config, Layer, Values, is_name, unknown};
use super::source::Source;
use super::text::shown;
use super::vars::Mistake;
use crate::error::{Error, ErrorKind, Phase};
use crate::security::{Secret, read_regular};

/// A configuration is not longer than this.
const LONGEST: u64 = 1 << 20;

/// So many mistakes in one file are told.
const MISTAKES: usize = 100;

impl Config {
    /// Adds what this TOML file says.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it cannot be read, or is no TOML. What it
    /// says is judged by [`validate`](Self::validate).
    pub fn with_file(self, path: impl AsRef<std::path::Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = read(path).map_err(|error| {
            let name = shown(&name);
            let message = format!("the configuration file {name} cannot be read: {error}");
            Error::new(ErrorKind::Configuration, Phase::Configure, message)
                .with_source(Arc::new(error))
        })?;
        self.with_toml(&name, &text)
    }

    /// Adds what this TOML text says; mistakes name it like this.
    ///
    /// ```
    /// # fn main() -> Result<(), millpond::Error> {
    /// let text = "[pools.cache]\nbackend = \"redis\"\nhost = \"localhost\"\n";
    /// let config = millpond::Config::new().with_toml("built in", text)?;
    /// config.validate()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it is no TOML.
    pub fn with_toml(mut self, name: &str, text: &str) -> Result<Self, Error> {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let file = File {
            name: name.into(),
            breaks: breaks.map(|(at, _)| at).collect(),
            values: Values::default(),
        };
        let table = DeTable::parse(text).map_err(|error| {
            // Printed as a whole, the error would repeat the line, and a secret in it.
            let line = error.span().map_or(0, |span| file.line(span.start));
            let message = format!("{name}, line {line}, is no TOML: {}", error.message());
            Error::new(ErrorKind::Configuration, Phase::Configure, message)
        })?;
        let values = file.read(table.get_ref());
        self.layers.push(Layer::Values(Arc::new(values)));
        Ok(self)
    }
}

fn read(path: &std::path::Path) -> std::io::Result<String> {
    let bytes = read_regular(path, LONGEST)?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8"))
}

struct File {
    name: Arc<str>,
    /// Where its lines end.
    breaks: Vec<usize>,
    values: Values,
}

type Table<'a> = DeTable<'a>;
type Entry<'a> = Spanned<DeValue<'a>>;

impl File {
    fn line(&self, at: usize) -> usize {
        self.breaks.partition_point(|end| *end < at) + 1
    }

    fn source(&self, value: &Entry<'_>) -> Source {
        Source::File(Arc::clone(&self.name), self.line(value.span().start))
    }

    fn read(mut self, table: &Table<'_>) -> Values {
        for (key, value) in table {
            let key: &str = key.get_ref();
            match value.get_ref() {
                DeValue::Table(pools) if key == "pools" => self.read_pools(pools),
                DeValue::Table(section) => self.read_section(key, section),
                _ => self.put(None, &key.to_ascii_uppercase(), value),
            }
        }
        self.values
    }

    fn read_section(&mut self, section: &str, table: &Table<'_>) {
        let prefix = format!("{}_", section.to_ascii_uppercase());
        let backends = BACKENDS.iter().map(|(_, prefix, _)| *prefix);
        let mut all = backends.chain(SHARED).chain(OF_PROCESS);
        if !all.any(|known| known == prefix) {
            let (section, name) = (shown(section), &self.name);
            self.mistake(format!(
                "[{section}] in {name} is not known; there are [db], [redis], [mongodb], [http], \
                 [pool], [batch], [performance], [security], [connection_pool], [exporter], \
                 [audit] and [pools.NAME]"
            ));
            return;
        }
        for (key, value) in table {
            let key: &str = key.get_ref();
            self.put(
                None,
                &format!("{prefix}{}", key.to_ascii_uppercase()),
                value,
            );
        }
    }

    fn read_pools(&mut self, pools: &Table<'_>) {
        for (name, value) in pools {
            let name: Arc<str> = Arc::from(&**name.get_ref());
            if let Err(problem) = is_name(&name) {
                let place = self.source(value);
                self.mistake(format!(
                    "the pool's name `{}` ({place}) {problem}",
                    shown(&name)
                ));
                continue;
            }
            let Some(table) = value.get_ref().as_table() else {
                self.mistake(format!("pools.{name} ({}) is no table", self.source(value)));
                continue;
            };
            let backend = table.get("backend");
            let Some((kind, given)) =
                backend.and_then(|value| Some((value.as_ref().as_str()?, value)))
            else {
                self.mistake(format!(
                    "pool {name} ({}) has no `backend`: postgres, redis, mongodb or http",
                    self.source(value)
                ));
                continue;
            };
            let entry = (kind.to_owned(), self.source(given));
            self.values.backends.insert(Arc::clone(&name), entry);
            let Some(backend) = BACKENDS.iter().find(|(known, ..)| *known == kind) else {
                // A mistake that is found where the pools are planned.
                continue;
            };
            for (key, value) in table {
                let key: &str = key.get_ref();
                if key != "backend" {
                    let variable = variable_of(key, *backend);
                    self.put(Some(&name), &variable, value);
                }
            }
        }
    }

    fn put(&mut self, pool: Option<&Arc<str>>, variable: &str, value: &Entry<'_>) {
        let source = self.source(value);
        if known(variable).is_none() {
            // Looking for a near name takes time.
            if self.values.mistakes.len() < MISTAKES {
                self.note(unknown(variable, &source));
            }
            return;
        }
        let Some(text) = text_of(value.get_ref()) else {
            self.note(Mistake {
                setting: source.label(variable),
                value: value.get_ref().type_str().to_owned(),
                accepted: "a text, a number, true or false, or a list of texts".to_owned(),
            });
            return;
        };
        let key = (pool.cloned(), variable.to_owned());
        if let Some((_, first)) = self.values.settings.get(&key) {
            // A key has a long and a short form.
            self.mistake(format!("{variable} ({source}) is set before ({first})"));
            return;
        }
        let entry = (Secret::from(text), source);
        self.values.settings.insert(key, entry);
    }

    fn mistake(&mut self, text: String) {
        self.note(Mistake {
            setting: String::new(),
            value: String::new(),
            accepted: text,
        });
    }

    fn note(&mut self, mistake: Mistake) {
        if self.values.mistakes.len() < MISTAKES {
            self.values.mistakes.push(mistake);
        }
    }
}

/// The variable that a key of a pool's own table stands for: one of its backend if there is such
/// a one, else one that pools share.
fn variable_of(key: &str, (_, prefix, url): (&str, &'static str, &'static str)) -> String {
    let key = key.to_ascii_uppercase();
    if key == "URL" || key == "URL_FILE" {
        return format!("{url}{}", &key[3..]);
    }
    let own = format!("{prefix}{key}");
    let of_pool = format!("POOL_{key}");
    let all = [own.clone(), of_pool, key];
    let is_known = |name: &&String| known(name).is_some();
    // Of those that nobody knows, the one that is the most like one.
    let near = |name: &&String| nearest(name).is_some();
    let found = all.iter().find(is_known).or_else(|| all.iter().find(near));
    found.cloned().unwrap_or(own)
}

/// The value as a variable has it.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Float(number) => Some(number.as_str().replace('_', "")),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| text_of(item.get_ref())).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}
