//! The table of HTTP statuses.

use crate::backend::table::{Row, codes};
use crate::error::ErrorKind;

codes! {
    /// The kind of error that an HTTP status of 400 and above stands for.
    ///
    /// ```
    /// use millpond::{ErrorKind, backend::http::kind_of_status};
    ///
    /// assert_eq!(kind_of_status(429), ErrorKind::Overloaded);
    /// assert_eq!(kind_of_status(418), ErrorKind::InvalidOperation);
    /// ```
    ///
    /// # The table
    ///
    /// After IANA's registry, with those that widespread proxies use. Any other 4xx is an
    /// `InvalidOperation`, any other 5xx is `Other`, and lower statuses are no errors: a 3xx is
    /// given to the caller if it is no redirect (304), or if `HTTP_MAX_REDIRECTS` is used up.
    /// `Retry-After` of any of them is [`Error::retry_after`](crate::Error::retry_after). What is
    /// `Overloaded` *at any load* is no reason for [fewer
    /// connections](crate::Builder::adaptive).
    ///
    /// | status | reason | kind |
    /// |---|---|---|
    pub fn kind_of_status(status: u16) -> ErrorKind {
        match ROWS.iter().find(|row| row.code == status) {
            Some(row) => row.kind,
            None if (400..500).contains(&status) => ErrorKind::InvalidOperation,
            None => ErrorKind::Other,
        }
    }

    const ROWS: u16;
    401 "Unauthorized"                                    => Authentication;
    402 "Payment Required: a quota is used up"            => Permission;
    403 "Forbidden"                                       => Permission;
    404 "Not Found"                                       => NotFound;
    407 "Proxy Authentication Required"                   => Authentication;
    408 "Request Timeout: it was not read to its end"     => Overloaded, at any load;
    409 "Conflict: with what is stored, so it stays one"  => Constraint;
    410 "Gone"                                            => NotFound;
    412 "Precondition Failed"                             => Constraint;
    423 "Locked, by somebody else"                        => Conflict;
    425 "Too Early"                                       => Overloaded, at any load;
    426 "Upgrade Required"                                => Configuration;
    429 "Too Many Requests"                               => Overloaded;
    451 "Unavailable For Legal Reasons"                   => Permission;
    501 "Not Implemented"                                 => InvalidOperation;
    502 "Bad Gateway: it lost the service"                => ConnectionLost, outcome unknown;
    503 "Service Unavailable"                             => Overloaded;
    504 "Gateway Timeout: it lost the service"            => ConnectionLost, outcome unknown;
    505 "HTTP Version Not Supported"                      => Configuration;
    507 "Insufficient Storage"                            => ResourceLimit;
    510 "Not Extended"                                    => InvalidOperation;
    511 "Network Authentication Required"                 => Authentication;
    520 "the proxy did not understand the service"        => ConnectionLost, outcome unknown;
    521 "the service refused the proxy"                   => ConnectionLost;
    522 "the proxy could not connect to the service"      => ConnectionLost;
    523 "the proxy knows no way to the service"           => ConnectionLost;
    524 "the service did not answer the proxy in time"    => ConnectionLost, outcome unknown;
    529 "Site is overloaded"                              => Overloaded;
}

/// Whether the status leaves open what became of the request.
pub(super) fn is_open(status: u16) -> bool {
    ROWS.iter()
        .any(|row: &Row<u16>| row.code == status && row.open)
}

/// Whether the service says so however few connections are used.
pub(super) fn is_at_any_load(status: u16) -> bool {
    ROWS.iter()
        .any(|row: &Row<u16>| row.code == status && row.at_any_load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_in_order_and_once_each() {
        assert!(ROWS.is_sorted_by(|a, b| a.code < b.code));
        assert!(is_open(504) && !is_open(503));
        assert_eq!(kind_of_status(500), ErrorKind::Other);
        assert_eq!(kind_of_status(422), ErrorKind::InvalidOperation);
    }
}
