//! What errors of the operating system mean.

use std::error::Error as StdError;

use super::{ConnectFailure, ErrorKind};

/// A guess at the kind of an error of a driver that this crate knows nothing
/// about: the first I/O error in its chain of causes decides.
pub(crate) fn classify_by_io(error: &(dyn StdError + 'static)) -> ErrorKind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return classify_io(io);
        }
        next = error.source();
    }
    ErrorKind::Other
}

/// The kind of an I/O error while connecting or on an established connection.
pub(crate) fn classify_io(error: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::ConnectionRefused | Io::NotFound => ErrorKind::Connect(ConnectFailure::Refused),
        Io::TimedOut
        | Io::WouldBlock
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown => ErrorKind::Connect(ConnectFailure::Timeout),
        Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::BrokenPipe
        | Io::NotConnected
        | Io::UnexpectedEof => ErrorKind::ConnectionLost,
        Io::PermissionDenied => ErrorKind::Permission,
        // The first two: no local port is free.
        Io::AddrNotAvailable
        | Io::AddrInUse
        | Io::OutOfMemory
        | Io::StorageFull
        | Io::QuotaExceeded => ErrorKind::ResourceLimit,
        // The standard library has no stable kind for too many open files, of the process
        // (EMFILE) or the system (ENFILE).
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => ErrorKind::ResourceLimit,
        // Nor for a failed name look-up; its message is the only sign.
        _ if error.to_string().contains("lookup address") => {
            ErrorKind::Connect(ConnectFailure::Dns)
        }
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn io_errors_by_kind() {
        let of = |number| classify_io(&io::Error::from_raw_os_error(number));
        for (number, kind) in [
            (111, ErrorKind::Connect(ConnectFailure::Refused)),
            (110, ErrorKind::Connect(ConnectFailure::Timeout)),
            (113, ErrorKind::Connect(ConnectFailure::Timeout)),
            (104, ErrorKind::ConnectionLost),
            (13, ErrorKind::Permission),
            (24, ErrorKind::ResourceLimit),
            (99, ErrorKind::ResourceLimit),
        ] {
            assert_eq!(of(number), kind, "errno {number}");
        }
        let name = io::Error::other("failed to lookup address information");
        assert_eq!(classify_io(&name), ErrorKind::Connect(ConnectFailure::Dns));
    }
}
