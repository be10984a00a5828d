//! What a server says during the login and the driver keeps to itself: its process's number,
//! by which a pooler gives itself away.
//!
//! A server ends the login with the number of the process that serves the connection
//! (`BackendKeyData` in the PostgreSQL manual). A pooler such as PgBouncer makes one up. A
//! proxy that only passes bytes on, or a router that changes addresses, leaves it alone. So
//! whoever asks for `pg_backend_pid()` and gets another number talks to a pooler.

use std::sync::{Arc, OnceLock};

/// The process's number, once it was heard.
pub(super) type Number = Arc<OnceLock<u32>>;

/// Longer than any message of a login.
const TOO_LONG: usize = 64 << 10;

/// Listens to what a server sends until it is ready for queries.
pub(super) struct Greeting {
    number: Number,
    /// Of a message that has not come as a whole.
    heard: Vec<u8>,
    over: bool,
}

impl Greeting {
    pub(super) fn new(number: Number) -> Self {
        Self {
            number,
            heard: Vec::new(),
            over: false,
        }
    }

    /// Takes note of what was read.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.heard.extend_from_slice(bytes);
        // A kind, then a length that counts itself but not the kind.
        while let [kind, a, b, c, d, rest @ ..] = self.heard.as_slice() {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let body = length.saturating_sub(4);
            if *kind == b'Z' || body > TOO_LONG {
                return self.end();
            }
            let Some(body) = rest.get(..body) else {
                return;
            };
            if let (b'K', Some(number)) = (*kind, body.first_chunk()) {
                // It is said once.
                let _ = self.number.set(u32::from_be_bytes(*number));
                return self.end();
            }
            let next = 5 + body.len();
            self.heard.drain(..next);
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.heard = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Authentication is fine", a parameter, the number 258, "ready".
    const LOGIN: &[u8] =
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0K\0\0\0\x0c\0\0\x01\x02????Z\0\0\0\x05I";

    fn heard(pieces: &[&[u8]]) -> (Option<u32>, bool) {
        let number = Number::default();
        let mut greeting = Greeting::new(Arc::clone(&number));
        for piece in pieces {
            greeting.hear(piece);
        }
        (number.get().copied(), greeting.over)
    }

    #[test]
    fn the_number_is_heard_in_whatever_pieces() {
        for cut in 0..=LOGIN.len() {
            let (a, b) = LOGIN.split_at(cut);
            assert_eq!(heard(&[a, b]), (Some(258), true), "{cut}");
        }
        let bytes: Vec<&[u8]> = LOGIN.chunks(1).collect();
        assert_eq!(heard(&bytes), (Some(258), true));
    }

    #[test]
    fn what_has_none_is_not_listened_to_for_ever() {
        assert_eq!(heard(&[b"Z\0\0\0\x05I", LOGIN]), (None, true));
        assert_eq!(heard(&[b"HTTP/1.1 400 Bad Request"]), (None, true));
        assert_eq!(heard(&[b"K\0\0\0\0Z\0\0\0\x05"]), (None, true));
        assert_eq!(heard(&[b"R\0\0"]), (None, false));
    }
}
