//! Sealed values: secrets in a form that may be written down.
//!
//! `sealed:v1:` and base64url (without padding) of a random nonce of 24 bytes followed by what
//! XChaCha20-Poly1305 makes of the secret and its tag of 16 bytes, with `sealed:v1:` as the
//! associated data. So long a nonce can be random for as many values as anybody seals. The
//! letters used need no escaping in a URL, a TOML file or a shell.
//!
//! The length of a secret can be told from its sealed form. Sealed values are not bound to the
//! variable that they are for: who can write the configuration can exchange them.

use std::fmt;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::Secret;
use crate::error::{Error, ErrorKind, Phase};

/// What a sealed value begins with.
pub(crate) const SEALED: &str = "sealed:";
const VERSION: &str = "sealed:v1:";
const KEY: usize = 32;
const NONCE: usize = 24;

/// The key that passwords are sealed and opened with: 32 bytes, wiped when dropped and never
/// printed.
///
/// A configuration takes sealed values wherever it takes secrets, and opens them with
/// `SECURITY_ENCRYPTION_KEY`, or the first line of the file that `SECURITY_ENCRYPTION_KEY_FILE`
/// names; see [`security`](crate::security).
///
/// ```
/// # fn main() -> Result<(), millpond::Error> {
/// use millpond::{Secret, SealingKey};
///
/// let key = SealingKey::generate();
/// let sealed = key.seal(&Secret::from("hunter2"));
/// assert!(sealed.starts_with("sealed:v1:"));
/// assert_eq!(key.open(&sealed)?.expose(), "hunter2");
///
/// // Kept somewhere safe, it is the same key again.
/// let again = SealingKey::from_text(key.to_text().expose())?;
/// assert_eq!(again.open(&sealed)?.expose(), "hunter2");
/// assert!(SealingKey::generate().open(&sealed).is_err());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SealingKey(Zeroizing<[u8; KEY]>);

impl SealingKey {
    /// A new random key.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0; KEY]);
        fill(&mut *key);
        Self(key)
    }

    /// The key in this text: 32 bytes in base64 (either alphabet, with padding or without) or in
    /// hexadecimal, such as `openssl rand -base64 32` prints.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration); the message does not contain the text.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let bytes = if text.len() == 2 * KEY {
            from_hex(text)
        } else {
            let plain = text.trim_end_matches('=');
            let url_safe = Zeroizing::new(plain.replace('+', "-").replace('/', "_"));
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(&*url_safe).ok();
            bytes.map(Zeroizing::new)
        };
        let bytes = bytes.ok_or_else(|| wrong(FORM))?;
        let mut key = Zeroizing::new([0; KEY]);
        if bytes.len() != KEY {
            return Err(wrong(FORM));
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    /// The key as [`from_text`](Self::from_text) takes it, in base64.
    pub fn to_text(&self) -> Secret {
        Secret::from(BASE64_STANDARD.encode(self.0.as_slice()))
    }

    /// The secret in a form that only this key opens. Each call gives another one.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    pub fn seal(&self, secret: &Secret) -> String {
        let mut nonce = [0; NONCE];
        fill(&mut nonce);
        let payload = Payload {
            msg: secret.expose().as_bytes(),
            aad: VERSION.as_bytes(),
        };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        // Nothing longer than 256 GiB is refused, and no text is.
        let sealed = sealed.unwrap_or_default();
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        format!("{VERSION}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The secret in a sealed value.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if it is none, was sealed with another key, or
    /// was changed since; the message contains nothing of it.
    pub fn open(&self, sealed: &str) -> Result<Secret, Error> {
        let text = sealed.trim();
        let Some(text) = text.strip_prefix(VERSION) else {
            return Err(wrong("not a sealed value: it begins with sealed:v1:"));
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        let bytes = bytes.map_err(|_| wrong("a sealed value that was cut off or changed"))?;
        let Some((nonce, sealed)) = bytes.split_first_chunk::<NONCE>() else {
            return Err(wrong("a sealed value that was cut off"));
        };
        let payload = Payload {
            msg: sealed,
            aad: VERSION.as_bytes(),
        };
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), payload);
        let opened = opened.map_err(|_| {
            wrong("a sealed value that this key does not open: it was sealed with another, or changed")
        })?;
        let text = String::from_utf8(opened).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            wrong("a sealed value that is no text")
        })?;
        Ok(Secret::from(text))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a key looks like.
pub(crate) const FORM: &str =
    "a key of 32 bytes in base64 or hexadecimal (`openssl rand -base64 32`)";

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::Configuration, Phase::Configure, message)
}

fn fill(bytes: &mut [u8]) {
    // A key or a nonce that is not random would give everything away, so there is no going on.
    getrandom::fill(bytes).expect("random numbers of the operating system");
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.as_bytes();
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks(2) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey(Zeroizing::new([byte; KEY]))
    }

    #[test]
    fn keys_are_read_in_base64_and_hexadecimal() {
        let bytes: Vec<u8> = (0..32).map(|n| n * 8 + 7).collect();
        let standard = BASE64_STANDARD.encode(&bytes);
        let url_safe = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
        let hex = bytes
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02X}"));
        for text in [&standard, &url_safe, &hex, &format!(" {standard}\n")] {
            let key = SealingKey::from_text(text).expect("a key");
            assert_eq!(&key.0[..], &bytes[..]);
            assert_eq!(key.to_text().expose(), standard);
        }
        for text in [
            "",
            "hunter2",
            &standard[..40],
            &hex[..60],
            &format!("{}xx", &hex[2..]),
        ] {
            let error = SealingKey::from_text(text).expect_err("no key").to_string();
            assert!(error.contains("32 bytes"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert_eq!(format!("{:?}", key(7)), "***");
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_alone() {
        for text in ["", "p\u{e4}ss w\u{f6}rd", &"x".repeat(10_000)] {
            let sealed = key(1).seal(&Secret::from(text));
            assert_eq!(key(1).open(&sealed).expect("opens").expose(), text);
            assert!(key(2).open(&sealed).is_err());
            assert_ne!(sealed, key(1).seal(&Secret::from(text)));
            let plain = |letter: char| letter.is_ascii_alphanumeric() || ":-_".contains(letter);
            assert!(sealed.chars().all(plain), "{sealed}");
        }
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let sealed = key(1).seal(&Secret::from("hunter2"));
        for at in VERSION.len()..sealed.len() {
            let other = if &sealed[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &sealed[..at], &sealed[at + 1..]);
            assert!(key(1).open(&changed).is_err(), "{at}");
            assert!(key(1).open(&sealed[..at]).is_err(), "{at}");
        }
        for text in ["", "hunter2", "sealed:v2:AAAA", "sealed:v1:", "sealed:v1:!"] {
            assert!(key(1).open(text).is_err(), "{text}");
        }
    }

    /// Another program's value: a change of the form would lock everybody out.
    #[test]
    fn a_value_of_version_1_is_opened_for_ever() {
        let sealed = "sealed:v1:kUVuv6bMSMepLV22QlVtCExvPyICHa705YtiHtChxahvKUKQgjVlwPgVD-V5ZAc";
        assert_eq!(key(9).open(sealed).expect("opens").expose(), "hunter2");
    }
}
