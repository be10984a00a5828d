//! What a statement gives back: how many rows it changed, and its rows in text form.

use std::fmt;

use postgres::SimpleQueryRow;

use crate::error::{Error, ErrorKind, Phase};

/// What the server gave back for one [`Sql`](crate::Sql).
///
/// ```no_run
/// # fn example(pool: &millpond::Pool<millpond::Postgres>) -> Result<(), millpond::Error> {
/// use millpond::Sql;
/// let reply = pool.execute(Sql::new("SELECT id, name FROM users WHERE age > $1").bind(17))?;
/// for row in reply.rows() {
///     let (id, name): (i64, Option<String>) = (row.get("id")?, row.get("name")?);
///     println!("{id} {name:?}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct SqlReply {
    affected: u64,
    rows: Vec<SqlRow>,
}

impl SqlReply {
    pub(in super::super) fn new(affected: u64, rows: Vec<SqlRow>) -> Self {
        Self { affected, rows }
    }

    /// How many rows were inserted, updated, deleted or selected.
    pub fn affected(&self) -> u64 {
        self.affected
    }

    /// The rows that it selected or that RETURNING gave.
    pub fn rows(&self) -> &[SqlRow] {
        &self.rows
    }

    /// The same, taken out.
    pub fn into_rows(self) -> Vec<SqlRow> {
        self.rows
    }
}

/// One row of a [`SqlReply`].
///
/// The values are in PostgreSQL's text form; [`get`](Self::get) reads it. Times are in the
/// form of the session's `DateStyle`.
pub struct SqlRow(SimpleQueryRow);

impl SqlRow {
    pub(in super::super) fn new(row: SimpleQueryRow) -> Self {
        Self(row)
    }

    /// How many columns it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no column.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The columns' names.
    #[allow(
        clippy::redundant_closure_for_method_calls,
        reason = "the driver does not export the column's type"
    )]
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.columns().iter().map(|column| column.name())
    }

    /// The value in this column, counted from 0 or by its name.
    ///
    /// # Errors
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) if there is no such column, the
    /// value is not of that form, or it is `NULL` and `T` is not an `Option`.
    #[allow(clippy::needless_pass_by_value, reason = "a number or a reference")]
    pub fn get<T: FromSqlText>(&self, column: impl SqlIndex) -> Result<T, Error> {
        let Some(position) = column.position(self) else {
            return Err(wrong(format!("the row has no column {column}")));
        };
        let text = self
            .0
            .try_get(position)
            .map_err(|_| wrong(format!("column {column} is not valid text")))?;
        let value = match text {
            Some(text) => T::from_sql_text(text),
            None => T::from_null(),
        };
        value.ok_or_else(|| {
            let found = if text.is_some() {
                "a value of another form"
            } else {
                "NULL"
            };
            wrong(format!(
                "column {column} has {found}, read as {}",
                std::any::type_name::<T>()
            ))
        })
    }

    /// The value's text form in this column, counted from 0; `None` if it is `NULL` or
    /// there is no such column.
    pub fn text(&self, column: usize) -> Option<&str> {
        self.0.try_get(column).ok().flatten()
    }
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, Phase::Operation, message)
}

/// The columns' names, not the values.
impl fmt::Debug for SqlRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.columns()).finish()
    }
}

/// Names a column of a [`SqlRow`]: by its position from 0 on, or by its name.
pub trait SqlIndex: fmt::Display + sealed::Sealed {
    #[doc(hidden)]
    fn position(&self, row: &SqlRow) -> Option<usize>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for usize {}
    impl Sealed for &str {}
}

impl SqlIndex for usize {
    fn position(&self, row: &SqlRow) -> Option<usize> {
        (*self < row.len()).then_some(*self)
    }
}

impl SqlIndex for &str {
    fn position(&self, row: &SqlRow) -> Option<usize> {
        row.columns().position(|name| name == *self)
    }
}

/// What can be read from a value's text form by [`SqlRow::get`].
///
/// ```
/// use millpond::backend::postgres::FromSqlText;
///
/// struct Celsius(f64);
///
/// impl FromSqlText for Celsius {
///     fn from_sql_text(text: &str) -> Option<Self> {
///         text.parse().ok().map(Self)
///     }
/// }
/// ```
pub trait FromSqlText: Sized {
    /// The value; `None` if this is not its form.
    fn from_sql_text(text: &str) -> Option<Self>;

    /// What stands for `NULL`; nothing by default.
    fn from_null() -> Option<Self> {
        None
    }
}

impl<T: FromSqlText> FromSqlText for Option<T> {
    fn from_sql_text(text: &str) -> Option<Self> {
        T::from_sql_text(text).map(Some)
    }

    fn from_null() -> Option<Self> {
        Some(None)
    }
}

macro_rules! parsed {
    ($($type:ty)*) => {$(
        impl FromSqlText for $type {
            fn from_sql_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

// PostgreSQL's `Infinity` and `NaN` are read by Rust whatever their case.
parsed!(i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 usize f32 f64 String);

impl FromSqlText for bool {
    fn from_sql_text(text: &str) -> Option<Self> {
        match text {
            "t" => Some(true),
            "f" => Some(false),
            _ => None,
        }
    }
}

/// A `bytea`, in the hexadecimal form that is the server's default.
impl FromSqlText for Vec<u8> {
    fn from_sql_text(text: &str) -> Option<Self> {
        super::literal::unhex(text.strip_prefix("\\x")?)
    }
}

impl FromSqlText for serde_json::Value {
    fn from_sql_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        assert_eq!(i32::from_sql_text("-7"), Some(-7));
        assert_eq!(i16::from_sql_text("70000"), None);
        assert_eq!(f64::from_sql_text("-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(bool::from_sql_text("f"), Some(false));
        assert_eq!(bool::from_sql_text("false"), None);
        assert_eq!(Vec::from_sql_text("\\x00ff"), Some(vec![0, 255]));
        assert_eq!(Option::<i32>::from_null(), Some(None));
        assert_eq!(i32::from_null(), None);
        assert_eq!(
            serde_json::Value::from_sql_text("[1]"),
            Some(serde_json::json!([1]))
        );
    }
}
