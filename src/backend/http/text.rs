//! How the parts of a request are written as data.

/// A method by its name.
pub(super) mod method {
    use std::borrow::Cow;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use ureq::http::Method;

    pub(crate) fn serialize<S: Serializer>(method: &Method, to: S) -> Result<S::Ok, S::Error> {
        method.as_str().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Method, D::Error> {
        let name = Cow::<str>::deserialize(from)?;
        Method::from_bytes(name.as_bytes()).map_err(|_| D::Error::custom("no HTTP method"))
    }
}

/// A body: text where it is UTF-8, else `{"bytes":"..."}` in base64.
pub(super) mod body {
    use std::borrow::Cow;

    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Body<'a> {
        Text(Cow<'a, str>),
        Bytes { bytes: Cow<'a, str> },
    }

    pub(crate) fn serialize<S: Serializer>(body: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let body = match std::str::from_utf8(body) {
            Ok(text) => Body::Text(text.into()),
            Err(_) => Body::Bytes {
                bytes: BASE64_STANDARD.encode(body).into(),
            },
        };
        body.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        match Body::deserialize(from)? {
            Body::Text(text) => Ok(text.into_owned().into_bytes()),
            // The decoder's own words would quote a byte of it.
            Body::Bytes { bytes } => BASE64_STANDARD
                .decode(&*bytes)
                .map_err(|_| D::Error::custom("`bytes` is not base64")),
        }
    }
}
