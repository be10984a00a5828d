//! Sealed values in settings: opened where they are read, sealed where they are shown.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

#[cfg(feature = "http")]
use super::hosts::MOST_SERVERS;
use super::layers::Config;
use super::url::{Parts, listed, masked};
use super::vars::Vars;
use crate::error::Error;
use crate::security::{FORM, SEALED, SealingKey, Secret};

pub(crate) const KEY: &str = "SECURITY_ENCRYPTION_KEY";

/// What is done about secrets and values.
pub(crate) struct Protection {
    /// What passwords are sealed with before they are shown; `None` if they are not shown.
    pub(super) key: Option<SealingKey>,
    /// Whether values are masked, if anybody said so.
    pub(crate) mask: Option<bool>,
}

impl Protection {
    pub(crate) fn from_vars(vars: &mut Vars<'_>) -> Self {
        let wanted = vars.flag("SECURITY_ENCRYPT_PASSWORDS").unwrap_or(true);
        Self {
            key: vars.sealing_key().filter(|_| wanted),
            mask: vars.flag("SECURITY_MASK_SENSITIVE_DATA"),
        }
    }
}

impl Config {
    /// The key that opens sealed values, in `SECURITY_ENCRYPTION_KEY` or in the file that
    /// `SECURITY_ENCRYPTION_KEY_FILE` names; `None` if neither is set.
    ///
    /// ```
    /// # fn main() -> Result<(), millpond::Error> {
    /// use millpond::{Config, SealingKey, Secret};
    ///
    /// let key = SealingKey::generate();
    /// let config = Config::new().set("SECURITY_ENCRYPTION_KEY", key.to_text());
    /// let key = config.sealing_key()?.expect("set");
    /// println!("password = \"{}\"", key.seal(&Secret::from("hunter2")));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if it is no key, or the file cannot be
    /// read.
    pub fn sealing_key(&self) -> Result<Option<SealingKey>, Error> {
        self.vars().read(Vars::sealing_key)
    }
}

impl Vars<'_> {
    /// The key that opens sealed values.
    pub(crate) fn sealing_key(&mut self) -> Option<SealingKey> {
        let (setting, text) = self.written(KEY)?;
        let key = SealingKey::from_text(text.expose());
        if key.is_err() {
            self.mistake(&setting, "***", FORM);
        }
        key.ok()
    }

    /// The secret URLs in a list with commas. All of it may be sealed, or the password in each.
    #[cfg(feature = "http")]
    pub(crate) fn secret_urls(&mut self, name: &str) -> Option<Vec<Secret>> {
        let (setting, mut text) = self.written(name)?;
        if text.expose().trim_start().starts_with(SEALED) {
            text = self.open(&setting, text)?;
        }
        let urls = listed(text.expose());
        if urls.len() > MOST_SERVERS {
            let accepted = format!("at most {MOST_SERVERS} URLs");
            self.mistake(&setting, "***", &accepted);
            return None;
        }
        let urls = urls.into_iter();
        urls.map(|url| self.open(&setting, Secret::from(url)))
            .collect()
    }

    /// The secret itself, where it, or the password in this URL, is sealed.
    pub(crate) fn open(&mut self, setting: &str, secret: Secret) -> Option<Secret> {
        if !has_sealed(secret.expose()) {
            return Some(secret);
        }
        let mistakes = self.mistakes().len();
        let Some(key) = self.sealing_key() else {
            // Unless there is one that is none.
            if self.mistakes().len() == mistakes {
                let accepted = "a sealed value only with the key that opens it: set \
                                SECURITY_ENCRYPTION_KEY or SECURITY_ENCRYPTION_KEY_FILE";
                self.mistake(setting, "***", accepted);
            }
            return None;
        };
        match opened(secret.expose(), &key) {
            Ok(opened) => Some(opened),
            Err(accepted) => {
                self.mistake(setting, "***", accepted);
                None
            }
        }
    }
}

/// Whether the text is sealed, or is a URL with something that is.
fn has_sealed(text: &str) -> bool {
    let escaped = || text.to_ascii_lowercase().contains("sealed%3a");
    text.trim_start().starts_with(SEALED)
        || text.contains("://") && (text.contains(SEALED) || escaped())
}

const IN_A_URL: &str =
    "in a URL, a sealed value only as the password before the host, or for all of it";

fn opened(text: &str, key: &SealingKey) -> Result<Secret, &'static str> {
    let open = |text: &str| {
        key.open(text).map_err(|_| {
            "a value that SECURITY_ENCRYPTION_KEY opens: this one was sealed with another key, or \
             changed since"
        })
    };
    if text.trim_start().starts_with(SEALED) {
        return open(text);
    }
    let url = Parts::of(text).ok_or(IN_A_URL)?;
    if has_sealed(&format!("://{}{}{}", url.user, url.hosts, url.tail)) {
        return Err(IN_A_URL);
    }
    let password = open(&url.password)?;
    let password =
        Zeroizing::new(utf8_percent_encode(password.expose(), NON_ALPHANUMERIC).to_string());
    Ok(Secret::from(url.with_password(&password)))
}

/// A secret as it may be shown: sealed if there is a key, else `***`.
pub(super) fn shown(secret: &str, key: Option<&SealingKey>) -> String {
    match key {
        None => "***".to_owned(),
        Some(key) if key.open(secret).is_ok() => secret.to_owned(),
        Some(key) => key.seal(&Secret::from(secret)),
    }
}

/// The same of a URL, or of several: of its password alone, where that is certain to be all.
pub(super) fn shown_url(secret: &str, key: Option<&SealingKey>) -> String {
    let urls = listed(secret);
    if urls.len() > 1 {
        // One that is torn may have its password in what looks like the tail of another one.
        if urls.iter().any(|url| masked(url).is_none()) {
            return shown(secret, key);
        }
        let shown: Vec<_> = urls.iter().map(|url| shown_url(url, key)).collect();
        return shown.join(",");
    }
    match (masked(secret), Parts::of(secret)) {
        (None, _) => shown(secret, key),
        (Some(_), Some(url)) if key.is_some() => url.with_password(&shown(&url.password, key)),
        (Some(masked), _) => masked,
    }
}
