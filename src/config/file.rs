//! A TOML file as a layer.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::known::{BACKENDS, OF_PROCESS, SHARED, known};
use super::layers::{Config, Layer, Values, unknown};
use super::source::Source;
use super::vars::Mistake;
use crate::error::{Error, ErrorKind, Phase};
use crate::security::Secret;

/// A configuration is not longer than this.
const LONGEST: u64 = 1 << 20;

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
        let file = File {
            name: name.into(),
            text,
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
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

struct File<'a> {
    name: Arc<str>,
    text: &'a str,
    values: Values,
}

type Table<'a> = DeTable<'a>;
type Entry<'a> = Spanned<DeValue<'a>>;

impl File<'_> {
    fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or(self.text);
        before.matches('\n').count() + 1
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
            let name = &self.name;
            self.mistake(format!(
                "[{section}] in {name} is not known; there are [db], [redis], [mongodb], [http], \
                 [pool], [batch], [performance], [security], [connection_pool], [exporter] and \
                 [pools.NAME]"
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
            self.values.mistakes.push(unknown(variable, &source));
            return;
        }
        let Some(text) = text_of(value.get_ref()) else {
            self.values.mistakes.push(Mistake {
                setting: source.label(variable),
                value: value.get_ref().type_str().to_owned(),
                accepted: "a text, a number, true or false, or a list of texts".to_owned(),
            });
            return;
        };
        let key = (pool.cloned(), variable.to_owned());
        let entry = (Secret::from(text), source);
        self.values.settings.insert(key, entry);
    }

    fn mistake(&mut self, text: String) {
        self.values.mistakes.push(Mistake {
            setting: String::new(),
            value: String::new(),
            accepted: text,
        });
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
    if known(&own).is_some() || known(&of_pool).is_none() && known(&key).is_none() {
        return own;
    }
    if known(&of_pool).is_some() {
        of_pool
    } else {
        key
    }
}

/// The value as a variable has it.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| text_of(item.get_ref())).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}
