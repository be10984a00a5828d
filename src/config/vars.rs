//! Reading variables, and what is wrong with them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::source::Source;
use crate::error::{Error, ErrorKind, Phase};
#[cfg(any(feature = "_net", feature = "exporter"))]
use crate::security::{Secret, read_secret};

/// A value, and where it comes from.
pub(crate) struct Found {
    /// `None` if it is not UTF-8.
    pub(crate) text: Option<Zeroizing<String>>,
    pub(crate) source: Source,
    /// Which of the layers it is in: a later one overrules an earlier one.
    pub(crate) rank: usize,
}

/// Where the value of a variable is looked up.
type Lookup<'a> = Box<dyn Fn(&str) -> Option<Found> + 'a>;

/// A set of variables to read settings from, and the mistakes found so far.
pub(crate) struct Vars<'a> {
    lookup: Lookup<'a>,
    mistakes: Vec<Mistake>,
    /// Variables that a URL overrules if they are in an earlier layer than this.
    overruled: Option<(&'static [&'static str], usize)>,
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// The variable, and where its value is set, if it is in a file or of one pool.
    pub setting: String,
    /// The value; `***` where it is secret.
    pub value: String,
    /// What is accepted.
    pub accepted: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.setting.is_empty() {
            return f.write_str(&self.accepted);
        }
        let (setting, value) = (&self.setting, &self.value);
        write!(f, "{setting} is `{value}`, accepted: {}", self.accepted)
    }
}

impl<'a> Vars<'a> {
    /// The process's environment.
    pub(crate) fn process() -> Self {
        Self::new(super::environment)
    }

    /// Variables from anywhere else.
    pub(crate) fn new(lookup: impl Fn(&str) -> Option<Found> + 'a) -> Self {
        Self {
            lookup: Box::new(lookup),
            mistakes: Vec::new(),
            overruled: None,
        }
    }

    /// Variables as texts, as if they were in the environment.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "http", test))]
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self::new(move |name| {
            Some(Found {
                text: Some(Zeroizing::new(lookup(name)?)),
                source: Source::Environment(name.into()),
                rank: 0,
            })
        })
    }

    /// What `read` makes of them, if it finds no mistake.
    pub(crate) fn read<T>(mut self, read: impl FnOnce(&mut Self) -> T) -> Result<T, Error> {
        let value = read(&mut self);
        self.finish()?;
        Ok(value)
    }

    /// The variable, unless it is unset or empty, which is the same, or overruled.
    fn find(&mut self, name: &str) -> Option<Found> {
        let found = (self.lookup)(name)?;
        if let Some((names, rank)) = self.overruled
            && found.rank < rank
            && names.contains(&name)
        {
            return None;
        }
        if found.text.is_none() {
            self.mistake(name, "***", "UTF-8");
        }
        found
            .text
            .as_ref()
            .is_some_and(|text| !text.is_empty())
            .then_some(found)
    }

    /// The variable's text; unset and empty are the same.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.find(name)?.text.map(|text| String::clone(&text))
    }

    /// The variable's value; one that cannot be parsed is a mistake.
    pub(crate) fn parse<T: FromStr>(&mut self, name: &str, accepted: &str) -> Option<T> {
        let value = self.text(name)?;
        if let Ok(parsed) = value.trim().parse() {
            return Some(parsed);
        }
        self.mistake(name, &value, accepted);
        None
    }

    /// `true/false`, `1/0`, `yes/no`, `on/off`.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.text(name)?;
        match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => {
                self.mistake(name, &value, "true or false");
                None
            }
        }
    }

    /// Seconds with decimals, more than zero.
    pub(crate) fn seconds(&mut self, name: &str) -> Option<Duration> {
        let value = self.text(name)?;
        let seconds = value
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|seconds| *seconds > 0.0);
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if duration.is_none() {
            self.mistake(name, &value, "seconds, more than 0, such as 2.5");
        }
        duration
    }

    /// A number of requests, from 1 to a million.
    pub(crate) fn window(&mut self, name: &str) -> Option<u32> {
        let accepted = "a number from 1 to 1000000";
        let requests = self.parse::<u32>(name, accepted)?;
        if !(1..=1_000_000).contains(&requests) {
            self.mistake(name, &requests.to_string(), accepted);
        }
        Some(requests)
    }

    /// The text of `NAME`, or the first line of the file that `NAME_FILE` names, whichever is in
    /// the later layer, opened if it is sealed. For secrets: the value never appears in a mistake.
    #[cfg(any(feature = "_net", feature = "exporter"))]
    pub(crate) fn secret_text(&mut self, name: &str) -> Option<Secret> {
        let (setting, secret) = self.written(name)?;
        self.open(&setting, secret)
    }

    /// The same as it is written, with the name of the variable that has it.
    #[cfg(any(feature = "_net", feature = "exporter"))]
    pub(super) fn written(&mut self, name: &str) -> Option<(String, Secret)> {
        let file_name = format!("{name}_FILE");
        let (given, file) = (self.find(name), self.find(&file_name));
        let rank = |found: &Option<Found>| found.as_ref().map(|found| found.rank);
        if rank(&file) <= rank(&given) {
            return Some((name.to_owned(), Secret::from(&**given?.text?)));
        }
        let path = file?.text?;
        match read_secret(&path) {
            Ok(line) => Some((file_name, line)),
            Err(error) => {
                let accepted =
                    format!("a readable file with the secret in its first line ({error})");
                self.mistake(&file_name, &path, &accepted);
                None
            }
        }
    }

    /// Without a backend nothing can be opened.
    #[cfg(all(feature = "exporter", not(feature = "_net")))]
    fn open(&mut self, setting: &str, secret: Secret) -> Option<Secret> {
        if !secret.expose().trim_start().starts_with("sealed:") {
            return Some(secret);
        }
        let accepted = "a value that is not sealed, unless a backend of millpond is on";
        self.mistake(setting, "***", accepted);
        None
    }

    /// A secret URL that overrules these variables where they are set in an earlier layer, and is
    /// overruled by them otherwise.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb"))]
    pub(crate) fn url(&mut self, name: &str, parts: &'static [&'static str]) -> Option<Secret> {
        let url = self.secret_text(name)?;
        let rank = |vars: &mut Self, name: &str| vars.find(name).map(|found| found.rank);
        let own = rank(self, name).max(rank(self, &format!("{name}_FILE")));
        self.overruled = own.map(|rank| (parts, rank));
        Some(url)
    }

    /// Notes a mistake.
    pub(crate) fn mistake(&mut self, setting: &str, value: &str, accepted: &str) {
        // A part of a variable is named behind it.
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let end = setting
            .find(|letter| !is_name(letter))
            .unwrap_or(setting.len());
        let (name, part) = setting.split_at(end);
        let found = (self.lookup)(name);
        self.mistakes.push(Mistake {
            setting: match found {
                Some(found) => format!("{}{part}", found.source.label(name)),
                None => setting.to_owned(),
            },
            value: value.to_owned(),
            accepted: accepted.to_owned(),
        });
    }

    /// The mistakes so far.
    #[cfg(feature = "_net")]
    pub(super) fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// The same, taken out.
    #[cfg(feature = "_net")]
    pub(crate) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// All mistakes as one error, or nothing.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.mistakes.is_empty() {
            return Ok(());
        }
        Err(refusal(&self.mistakes))
    }
}

/// All mistakes as one error.
pub(crate) fn refusal(mistakes: &[Mistake]) -> Error {
    let texts: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    Error::new(ErrorKind::Configuration, Phase::Configure, texts.join("; "))
}
