//! Reading variables, and what is wrong with them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::source::Source;
use super::text::shown;
#[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
use super::text::shown_path_of_secret;
use crate::error::{Error, ErrorKind, Phase};
#[cfg(feature = "_net")]
use crate::security::Credential;
#[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb"))]
use crate::security::Part;
#[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
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

/// Some thirty years: what clocks, drivers and systems still add to the time of day.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// A set of variables to read settings from, and the mistakes found so far.
pub(crate) struct Vars<'a> {
    lookup: Lookup<'a>,
    mistakes: Vec<Mistake>,
    /// Variables that a URL overrules if they are in an earlier layer than this.
    overruled: (Vec<&'static str>, usize),
    /// Secrets that were read from the files that `NAME_FILE` names.
    from_files: Vec<String>,
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
            overruled: (Vec::new(), 0),
            from_files: Vec::new(),
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
        let setting = name.strip_suffix("_FILE").unwrap_or(name);
        let (names, rank) = &self.overruled;
        if found.rank < *rank && (names.contains(&name) || names.contains(&setting)) {
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
        // What is next to nothing is rounded to nothing.
        self.time(name, "more than 0", |time| !time.is_zero())
    }

    /// Seconds with decimals, or zero.
    #[cfg(feature = "_net")]
    pub(crate) fn seconds_from_zero(&mut self, name: &str) -> Option<Duration> {
        self.time(name, "0 or more", |_| true)
    }

    fn time(&mut self, name: &str, least: &str, fits: fn(&Duration) -> bool) -> Option<Duration> {
        let value = self.text(name)?;
        let seconds = value.trim().parse::<f64>().ok();
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let duration = duration.filter(|time| fits(time) && *time <= LONGEST);
        if duration.is_none() {
            let accepted = format!("seconds, {least}, such as 2.5, and at most 1000000000");
            self.mistake(name, &value, &accepted);
        }
        duration
    }

    /// A number of requests, from 1 to a million.
    pub(crate) fn window(&mut self, name: &str) -> Option<u32> {
        let accepted = "a number from 1 to 1000000";
        let requests = self.parse::<u32>(name, accepted)?;
        if !(1..=1_000_000).contains(&requests) {
            self.mistake(name, &requests.to_string(), accepted);
            return None;
        }
        Some(requests)
    }

    /// The text of `NAME`, or the first line of the file that `NAME_FILE` names, whichever is in
    /// the later layer, opened if it is sealed. For secrets: the value never appears in a mistake.
    #[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
    pub(crate) fn secret_text(&mut self, name: &str) -> Option<Secret> {
        let (setting, secret) = self.written(name)?;
        self.open(&setting, secret)
    }

    /// The same as it is written, with the name of the variable that has it.
    #[cfg(any(feature = "_net", feature = "exporter", feature = "audit"))]
    pub(super) fn written(&mut self, name: &str) -> Option<(String, Secret)> {
        let file_name = format!("{name}_FILE");
        let (given, file) = (self.find(name), self.find(&file_name));
        let rank = |found: &Option<Found>| found.as_ref().map(|found| found.rank);
        if rank(&file) <= rank(&given) {
            return Some((name.to_owned(), Secret::from(&**given?.text?)));
        }
        let path = file?.text?;
        self.from_files.push(name.to_owned());
        match read_secret(&path) {
            Ok(line) => Some((file_name, line)),
            Err(error) => {
                let accepted =
                    format!("the path of a file with the secret in its first line ({error})");
                self.mistake(&file_name, &shown_path_of_secret(&path), &accepted);
                None
            }
        }
    }

    /// Without a backend nothing can be opened.
    #[cfg(all(any(feature = "exporter", feature = "audit"), not(feature = "_net")))]
    fn open(&mut self, setting: &str, secret: Secret) -> Option<Secret> {
        if !secret.expose().trim_start().starts_with("sealed:") {
            return Some(secret);
        }
        let accepted = "a value that is not sealed, unless a backend of millpond is on";
        self.mistake(setting, "***", accepted);
        None
    }

    /// The same for a login; from a file, it is read, and opened, again for each.
    #[cfg(feature = "_net")]
    pub(crate) fn credential(&mut self, name: &str) -> Option<Credential> {
        let secret = self.secret_text(name)?;
        Some(self.file(name).unwrap_or_else(|| secret.into()))
    }

    /// What the file says that `NAME_FILE` names, if that is what counts.
    #[cfg(feature = "_net")]
    fn file(&mut self, name: &str) -> Option<Credential> {
        let (given, file) = (self.find(name), self.find(&format!("{name}_FILE")));
        let rank = |found: &Option<Found>| found.as_ref().map(|found| found.rank);
        if rank(&file) <= rank(&given) {
            return None;
        }
        let path = file?.text?;
        Some(Credential::file(&*path).opened_with(self.sealing_key()))
    }

    /// The password of this URL, if it comes from a file: read, and taken out of it, again for
    /// each login.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb"))]
    pub(crate) fn url_password(&mut self, name: &str, part: Part) -> Option<Credential> {
        Some(self.file(name)?.part(part))
    }

    /// A secret URL, which overrules the variables for its parts where these are set in an earlier
    /// layer, and is overruled by them otherwise.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb"))]
    pub(crate) fn url(&mut self, name: &str) -> Option<Secret> {
        let url = self.secret_text(name)?;
        let rank = |vars: &mut Self, name: &str| vars.find(name).map(|found| found.rank);
        let own = rank(self, name).max(rank(self, &format!("{name}_FILE")));
        self.overruled = (super::known::parts(name).to_vec(), own.unwrap_or(0));
        Some(url)
    }

    /// The URL says something about this variable too.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "mongodb"))]
    pub(crate) fn said_by_url(&mut self, name: &'static str) {
        self.overruled.0.push(name);
    }

    /// Notes a mistake.
    pub(crate) fn mistake(&mut self, setting: &str, value: &str, accepted: &str) {
        // A part of a variable is named behind it.
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let end = setting
            .find(|letter| !is_name(letter))
            .unwrap_or(setting.len());
        let (name, part) = setting.split_at(end);
        let is_from_file = self.from_files.iter().any(|known| known == name);
        let found = if is_from_file {
            (self.lookup)(&format!("{name}_FILE"))
        } else {
            (self.lookup)(name)
        };
        let part = shown(part);
        let mistake = Mistake {
            setting: match found {
                Some(found) => format!("{}{part}", found.source.label(name)),
                None => format!("{name}{part}"),
            },
            value: shown(value),
            accepted: accepted.to_owned(),
        };
        // A variable may be looked at twice.
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// How many mistakes there are so far.
    #[cfg(feature = "postgres")]
    pub(crate) fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// Takes back the mistakes after so many, which may tell what they should not. Whether there
    /// were any.
    #[cfg(feature = "postgres")]
    pub(crate) fn retract(&mut self, count: usize) -> bool {
        self.mistakes.drain(count..).next().is_some()
    }

    /// Whether there is no mistake so far.
    #[cfg(feature = "_net")]
    pub(crate) fn is_good(&self) -> bool {
        self.mistakes.is_empty()
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
