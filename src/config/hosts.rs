//! Lists of servers: `a.internal,b.internal:5433,[::1]`, and their ports.
//!
//! Nothing of a list is taken if it is wrong, or looks like a URL or a login: a part of it could
//! be a password.

#[cfg(any(feature = "postgres", feature = "redis"))]
use super::text::{shown, split_port};
#[cfg(any(feature = "postgres", feature = "redis"))]
use super::vars::Vars;

/// A list has no more of them.
pub(super) const MOST_SERVERS: usize = 256;

#[cfg(any(feature = "postgres", feature = "redis"))]
impl Vars<'_> {
    /// The servers that the variables `host` and `port` name; those that are `known` from
    /// elsewhere where they name none. `parse` tells what is a host; a port beside it comes before
    /// one in `port`, which has one port for all or one for each.
    pub(crate) fn servers<H>(
        &mut self,
        (host, port): (&str, &str),
        known: Vec<(H, u16)>,
        default_port: u16,
        parse: impl Fn(&str) -> Option<H>,
    ) -> Vec<(H, u16)> {
        let named = self.hosts(host, parse);
        let count = named.as_ref().map_or(known.len(), Vec::len);
        let ports = self.ports(port, (host, count));
        let port_at = |place: usize| ports.as_ref().map(|ports| ports[place]);
        let places = 0..;
        match named {
            Some(named) => places
                .zip(named)
                .map(|(place, (host, own))| {
                    let port = own.or_else(|| port_at(place));
                    (host, port.unwrap_or(default_port))
                })
                .collect(),
            None => places
                .zip(known)
                .map(|(place, (host, port))| (host, port_at(place).unwrap_or(port)))
                .collect(),
        }
    }

    /// The hosts in this list, each with its port if it has one; never none.
    pub(crate) fn hosts<H>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Option<H>,
    ) -> Option<Vec<(H, Option<u16>)>> {
        let text = self.text(name)?;
        let read = |item: &str| {
            // A path may contain anything.
            let (host, port) = if item.starts_with('/') {
                (item, None)
            } else {
                split_port(item)
            };
            let host = parse(host)?;
            match port {
                None => Some((host, None)),
                Some(port) => Some((host, Some(port.parse().ok().filter(|port| *port > 0)?))),
            }
        };
        let items = text.split(',').map(str::trim);
        let items = items.filter(|item| !item.is_empty());
        let hosts: Option<Vec<_>> = items.take(MOST_SERVERS + 1).map(read).collect();
        let fits = 1..=MOST_SERVERS;
        let hosts = hosts.filter(|hosts| fits.contains(&hosts.len()) && shown(&text) != "***");
        if hosts.is_none() {
            let accepted = format!(
                "host names or IP addresses, with commas, each perhaps with :port, at most \
                 {MOST_SERVERS}"
            );
            self.mistake(name, &text, &accepted);
        }
        hosts
    }

    /// A port for each of so many hosts.
    fn ports(&mut self, name: &str, (host, count): (&str, usize)) -> Option<Vec<u16>> {
        let text = self.text(name)?;
        let ports = text.split(',').map(|port| port.trim().parse().ok());
        let ports: Option<Vec<u16>> = ports.map(|port| port.filter(|port| *port > 0)).collect();
        match ports {
            None => self.mistake(name, &text, "a port, 1 to 65535"),
            Some(ports) if ports.len() == 1 => return Some(vec![ports[0]; count]),
            Some(ports) if ports.len() == count => return Some(ports),
            Some(_) => {
                let accepted =
                    format!("one port for all, or one for each of the {count} in {host}");
                self.mistake(name, &text, &accepted);
            }
        }
        None
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "redis")))]
mod tests {
    use super::*;
    use crate::config::is_host;

    fn read(host: &str, port: &str) -> Result<Vec<(String, u16)>, String> {
        let vars = Vars::from_lookup(|name| match name {
            "HOST" => Some(host.to_owned()),
            "PORT" => Some(port.to_owned()),
            _ => None,
        });
        let parse = |host: &str| is_host(host).then(|| host.to_owned());
        let known = vec![("known".to_owned(), 7)];
        vars.read(|vars| vars.servers(("HOST", "PORT"), known, 1, parse))
            .map_err(|error| error.message().to_owned())
    }

    #[track_caller]
    fn is(host: &str, port: &str, expected: &[(&str, u16)]) {
        let read = read(host, port).expect("good");
        let read: Vec<_> = read.iter().map(|(host, port)| (&**host, *port)).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn hosts_have_their_own_port_or_the_common_one_or_one_by_position() {
        is("", "", &[("known", 7)]);
        is("", "8", &[("known", 8)]);
        is("a, b:5,", "", &[("a", 1), ("b", 5)]);
        is("a,b:5,[::1]", "8", &[("a", 8), ("b", 5), ("::1", 8)]);
        is(
            "a,::1,[::2]:3",
            "8,9,10",
            &[("a", 8), ("::1", 9), ("::2", 3)],
        );
    }

    #[test]
    fn what_is_wrong_is_told_and_no_password() {
        for (host, port, part) in [
            ("a,b:0", "", "HOST is `a,b:0`"),
            ("a,b:c:d", "", "HOST is `a,b:c:d`"),
            (",", "", "HOST is `,`"),
            ("a b", "", "HOST is `a b`"),
            ("u:hunter2@a,b", "", "HOST is `***`"),
            ("http://a,hunter2", "", "HOST is `***`"),
            ("a,b,c", "1,2", "one for each of the 3 in HOST"),
            ("a,b", "1,x", "PORT is `1,x`"),
        ] {
            let message = read(host, port).expect_err(host);
            assert!(message.contains(part), "{message}");
        }
    }
}
