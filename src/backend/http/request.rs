//! What a request needs: the full URL, the default headers, redirects.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use parking_lot::RwLock;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION};
use ureq::http::request::Parts;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use url::Url;

use super::config::{Base, HttpConfig, Login};
use crate::error::{Error, ErrorKind, Phase};

/// What a redirect asks for.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) head: Parts,
    /// Whether the body is sent again.
    pub(super) with_body: bool,
}

/// The service's URL and what is sent with every request.
#[derive(Debug)]
pub(super) struct Defaults {
    origin: String,
    prefix: String,
    headers: RwLock<HeaderMap>,
    login: Option<Login>,
    max_redirects: u32,
}

impl Defaults {
    /// # Errors
    /// [`ErrorKind::Configuration`] where a header cannot be sent.
    pub(super) fn new(config: &HttpConfig, base: &Base) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            headers.append(header_name(name)?, header_value(value.expose())?);
        }
        let of_url = base.login.clone();
        let of_url = of_url.map(|(user, password)| Login::Basic(user, password.into()));
        let login = config.login.clone().or(of_url);
        if let Some(login) = &login {
            let (name, value) = login_header(login)?;
            headers.insert(name, value);
        }
        Ok(Self {
            origin: base.origin.clone(),
            prefix: base.prefix.clone(),
            headers: RwLock::new(headers),
            login,
            max_redirects: config.max_redirects,
        })
    }

    /// Whether the file that the login comes from has changed; `None` if it comes from none.
    pub(super) fn login_has_changed(&self) -> Option<bool> {
        self.login.as_ref()?.credential().has_changed()
    }

    /// Uses from now on what the file says that the login comes from. One that no header can
    /// carry is left where it is.
    pub(super) fn renew_login(&self) {
        let changed = self.login_has_changed() == Some(true);
        if let Some(login) = self.login.as_ref().filter(|_| changed)
            && let Ok((name, value)) = login_header(login)
        {
            self.headers.write().insert(name, value);
        }
    }

    /// The login that this request carries, if it is ours and not one of its own.
    pub(super) fn login_of(&self, request: &Parts) -> Option<(HeaderName, HeaderValue)> {
        let name = header_name(self.login.as_ref()?.header()).ok()?;
        let sent = request.headers.get(&name)?;
        let is_ours = self.headers.read().get(&name) == Some(sent);
        is_ours.then(|| (name, sent.clone()))
    }

    /// Puts another login into a request that was refused with this one, if there is another by
    /// now.
    pub(super) fn login_again(
        &self,
        request: &mut Parts,
        (name, refused): (HeaderName, HeaderValue),
    ) -> bool {
        self.renew_login();
        let now = self.headers.read().get(&name).cloned();
        let other = now.filter(|now| *now != refused);
        other.is_some_and(|other| request.headers.insert(name, other).is_some())
    }

    pub(super) fn max_redirects(&self) -> u32 {
        self.max_redirects
    }

    /// Makes the path a full URL and adds the default headers that are not set.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOperation`] for what is no path.
    pub(super) fn complete<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        let uri = request.uri();
        if uri.scheme().is_some() || uri.authority().is_some() {
            return Err(invalid(
                "give a path, not a whole URL: the host is the connection's",
            ));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut full = String::with_capacity(self.origin.len() + self.prefix.len() + path.len());
        full.push_str(&self.origin);
        full.push_str(&self.prefix);
        full.push_str(path);
        *request.uri_mut() = Uri::try_from(full).map_err(|error| invalid(&error.to_string()))?;
        let headers = request.headers_mut();
        let defaults = self.headers.read();
        for name in defaults.keys() {
            if !headers.contains_key(name) {
                for value in defaults.get_all(name) {
                    headers.append(name, value.clone());
                }
            }
        }
        Ok(())
    }

    /// The request that a redirect asks for, or nothing when it is none to follow.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOperation`] for a location that is no HTTP URL.
    pub(super) fn redirected(
        &self,
        asked: &Parts,
        status: u16,
        headers: &HeaderMap,
    ) -> Result<Option<Next>, Error> {
        let location = match status {
            301 | 302 | 303 | 307 | 308 => headers.get(LOCATION),
            _ => None,
        };
        let Some(location) = location else {
            return Ok(None);
        };
        let location = location
            .to_str()
            .map_err(|error| invalid(&error.to_string()))?;
        let target = Url::parse(&asked.uri.to_string())
            .and_then(|from| from.join(location))
            .map_err(|error| invalid(&format!("redirected to no URL: {error}")))?;
        let was_encrypted = self.origin.starts_with("https:");
        match target.scheme() {
            "https" => {}
            "http" if !was_encrypted => {}
            other => return Err(invalid(&format!("redirected from https to {other}"))),
        }
        let mut head = asked.clone();
        let same_origin = target.origin().ascii_serialization() == self.origin;
        let uri = Uri::try_from(target.as_str()).map_err(|error| invalid(&error.to_string()))?;
        head.uri = uri;
        if !same_origin {
            // None of what was meant for the service alone.
            for name in self.headers.read().keys().chain([&AUTHORIZATION, &COOKIE]) {
                head.headers.remove(name);
            }
        }
        let becomes_get = match status {
            303 => asked.method != Method::HEAD,
            301 | 302 => asked.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            head.method = Method::GET;
            head.headers.remove(CONTENT_TYPE);
            head.headers.remove(CONTENT_LENGTH);
        }
        Ok(Some(Next {
            head,
            with_body: !becomes_get,
        }))
    }
}

pub(super) fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, Phase::Operation, message)
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::Configuration, Phase::Configure, message)
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    HeaderName::try_from(name).map_err(|_| wrong("a header's name has forbidden characters"))
}

/// The header that says who we are.
fn login_header(login: &Login) -> Result<(HeaderName, HeaderValue), Error> {
    let secret = login.credential().current()?;
    let secret = secret.expose();
    let value = match login {
        Login::Bearer(_) => header_value(&format!("Bearer {secret}")),
        Login::Basic(user, _) => {
            let both = BASE64_STANDARD.encode(format!("{user}:{secret}"));
            header_value(&format!("Basic {both}"))
        }
        Login::ApiKey(..) => header_value(secret),
    };
    Ok((header_name(login.header())?, value?))
}

/// A value that is kept out of logs.
fn header_value(value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| wrong("a header's value has control characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use ureq::http::request::Parts;
    use ureq::http::{HeaderMap, HeaderValue, Method, Request};

    use super::Defaults;
    use crate::backend::http::HttpConfig;

    fn defaults(config: &HttpConfig) -> Defaults {
        Defaults::new(config, &config.base().unwrap()).unwrap()
    }

    fn request(method: Method, path: &str) -> Request<Vec<u8>> {
        Request::builder()
            .method(method)
            .uri(path)
            .body(b"body".to_vec())
            .unwrap()
    }

    fn asked(defaults: &Defaults, method: Method) -> Parts {
        let mut request = request(method, "/a");
        defaults.complete(&mut request).unwrap();
        request.into_parts().0
    }

    fn location(to: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static(to));
        headers
    }

    #[test]
    fn paths_are_put_after_the_base() {
        let defaults = defaults(&HttpConfig::new("https://u:p@h.example/v1/").header("X-A", "1"));
        let mut asked = request(Method::GET, "/users?x=1");
        defaults.complete(&mut asked).unwrap();
        assert_eq!(asked.uri(), "https://h.example/v1/users?x=1");
        assert_eq!(asked.headers()["authorization"], "Basic dTpw");
        assert_eq!(asked.headers()["x-a"], "1");
        assert!(
            defaults
                .complete(&mut request(Method::GET, "https://other/"))
                .is_err()
        );
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let config = HttpConfig::new("https://h.example").api_key("X-Key", "secret");
        let defaults = defaults(&config);
        let asked = asked(&defaults, Method::GET);
        let follow = |to| defaults.redirected(&asked, 302, &location(to));
        let near = follow("/b").unwrap().unwrap();
        assert!(near.head.headers.contains_key("x-key"));
        let away = follow("https://evil.example/").unwrap().unwrap();
        assert!(!away.head.headers.contains_key("x-key"));
        assert!(follow("http://h.example/").is_err());
    }

    #[test]
    fn methods_and_bodies_of_redirects() {
        let defaults = defaults(&HttpConfig::new("http://localhost"));
        let asked = asked(&defaults, Method::POST);
        let follow = |status| {
            defaults
                .redirected(&asked, status, &location("/b"))
                .unwrap()
        };
        let see_other = follow(303).unwrap();
        assert_eq!(
            (see_other.head.method, see_other.with_body),
            (Method::GET, false)
        );
        let again = follow(307).unwrap();
        assert_eq!((again.head.method, again.with_body), (Method::POST, true));
        assert!(follow(304).is_none());
    }
}
