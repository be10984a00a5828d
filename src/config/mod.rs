//! Reading settings: environment variables and their mistakes.
//!
//! Each backend's `config` and the pool's builder read their own variables
//! through [`Vars`], which collects *all* mistakes before it reports one
//! [`Error`] of kind [`ErrorKind::Configuration`]: each with the variable, the
//! value (masked where secret) and what is accepted. Tests hand in a map instead
//! of the process's environment.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Phase};

#[cfg(test)]
mod tests;

/// A set of variables to read settings from, and the mistakes found so far.
pub(crate) struct Vars<'a> {
    lookup: Lookup<'a>,
    mistakes: Vec<Mistake>,
}

/// Where the value of a variable is looked up.
type Lookup<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

struct Mistake {
    setting: String,
    value: String,
    accepted: String,
}

impl<'a> Vars<'a> {
    /// The process's environment.
    pub(crate) fn process() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Variables from anywhere else.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self {
            lookup: Box::new(lookup),
            mistakes: Vec::new(),
        }
    }

    /// The variable's text; unset and empty are the same.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// The variable parsed; `accepted` says what is expected, for the message.
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

    /// The text of `NAME`, or the first line of the file that `NAME_FILE` names.
    /// For secrets: the value never appears in a mistake.
    #[cfg(any(feature = "_net", feature = "exporter", test))]
    pub(crate) fn secret_text(&mut self, name: &str) -> Option<String> {
        if let Some(value) = self.text(name) {
            return Some(value);
        }
        let file_name = format!("{name}_FILE");
        let path = self.text(&file_name)?;
        match std::fs::read_to_string(&path) {
            Ok(content) => content.lines().next().map(str::to_owned),
            Err(error) => {
                self.mistake(&file_name, &path, &format!("a readable file ({error})"));
                None
            }
        }
    }

    /// Notes a mistake.
    pub(crate) fn mistake(&mut self, setting: &str, value: &str, accepted: &str) {
        self.mistakes.push(Mistake {
            setting: setting.to_owned(),
            value: value.to_owned(),
            accepted: accepted.to_owned(),
        });
    }

    /// All mistakes as one error, or nothing.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.mistakes.is_empty() {
            return Ok(());
        }
        let mut message = String::new();
        for (index, mistake) in self.mistakes.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            // Writing to a String cannot fail.
            let _ = write!(
                message,
                "{separator}{} is `{}`, accepted: {}",
                mistake.setting, mistake.value, mistake.accepted
            );
        }
        Err(Error::new(
            ErrorKind::Configuration,
            Phase::Configure,
            message,
        ))
    }
}
