//! Tables of servers' codes: written once, for the program and for the documentation.
//!
//! A row is a code, what the server calls it, the kind of error that it stands for, and
//! where it differs the kind while connecting, whether the server leaves open what
//! became of the operation, and whether it is overloaded at any load: where it says that it takes
//! no more, and it is not for the number of connections. [`codes!`] makes of the rows a constant,
//! and adds them to the documentation of the public function that looks a code up.

use crate::error::ErrorKind;

/// A row of a table.
#[allow(dead_code, reason = "not every backend reads every column")]
pub(super) struct Row<C> {
    pub(super) code: C,
    pub(super) kind: ErrorKind,
    pub(super) connecting: ErrorKind,
    /// Whether the server leaves open what became of the operation.
    pub(super) open: bool,
    /// Whether it says so however few connections are used.
    pub(super) at_any_load: bool,
}

/// A kind by its name: `Conflict`, `Connect(Refused)`.
macro_rules! kind {
    ($kind:ident) => {
        $crate::error::ErrorKind::$kind
    };
    ($kind:ident $failure:ident) => {
        $crate::error::ErrorKind::$kind($crate::error::ConnectFailure::$failure)
    };
}

/// A public function, whose documentation ends in the rows, and the constant of the rows.
macro_rules! codes {
    (
        $(#[$about:meta])*
        pub fn $function:ident($argument:ident: $argument_type:ty) -> ErrorKind $body:block

        const $rows:ident: $code_type:ty;
        $(
            $code:literal $name:literal => $kind:ident $(($failure:ident))?
            $(, connecting $connecting:ident $(($connecting_failure:ident))?)?
            $(, outcome $open:ident)?
            $(, at $any:ident load)?;
        )+
    ) => {
        $(#[$about])*
        $(
            #[doc = concat!(
                "| `", $code, "` | ", $name, " | `", stringify!($kind $(($failure))?), "`",
                $("; while connecting `", stringify!($connecting $(($connecting_failure))?), "`",)?
                $("; outcome ", stringify!($open),)?
                $(", at ", stringify!($any), " load",)? " |"
            )]
        )+
        pub fn $function($argument: $argument_type) -> ErrorKind $body

        const $rows: &[$crate::backend::table::Row<$code_type>] = &[
            $({
                #[allow(unused_mut, unused_assignments, reason = "few rows say more")]
                let mut row = $crate::backend::table::Row {
                    code: $code,
                    kind: $crate::backend::table::kind!($kind $($failure)?),
                    connecting: $crate::backend::table::kind!($kind $($failure)?),
                    open: false,
                    at_any_load: false,
                };
                $(row.connecting =
                    $crate::backend::table::kind!($connecting $($connecting_failure)?);)?
                $(row.open = stringify!($open).len() > 0;)?
                $(row.at_any_load = stringify!($any).len() > 0;)?
                row
            },)+
        ];
    };
}

pub(super) use {codes, kind};
