//! The operation of PostgreSQL: one statement and its values, as data.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sql::{SqlValue, Statement, known};
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Envelope, Operation};
use crate::security::values_are_masked;

/// A message of the protocol holds a gibibyte; some of it is for what is around the
/// values, and a value can grow to twice its size when it is quoted.
const LARGEST: usize = (1 << 29) - (1 << 20);

/// One SQL statement with its values, for [`Pool::execute`](crate::Pool::execute) or a batch.
///
/// Parameters are `$1`, `$2`, ...; values are bound in that order and converted by the
/// server into the parameters' types (see [`SqlValue`]), so a `uuid`, a `numeric` or a
/// timestamp is bound as text. They never become part of the SQL's syntax.
///
/// ```
/// use millpond::{Operation, Sql};
///
/// let sql = Sql::new("INSERT INTO users (id, name, email) VALUES ($1, $2, $3)")
///     .bind(7)
///     .bind("Ada")
///     .bind_null();
/// assert!(sql.validate().is_ok());
/// assert_eq!(
///     serde_json::to_string(&sql)?,
///     r#"{"sql":"INSERT INTO users (id, name, email) VALUES ($1, $2, $3)","params":[7,"Ada",null]}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// One statement is one operation and one transaction, so there is no `BEGIN` and no
/// `COPY` here; both are on a lease.
///
/// # In a batch
///
/// INSERTs of one row with the same text become one statement, unless they have
/// RETURNING, a sub-select or a function of your own; all other statements that can be
/// prepared go in one round trip and one commit. Each has its own outcome and rows. Seen
/// from within the database there is this difference: they share a transaction, so
/// `now()` is the same for all, and a trigger FOR EACH STATEMENT fires once for INSERTs
/// that became one.
///
/// From 5,000 INSERTs in a group on they become one `COPY`, if they are nothing but
/// parameters into named columns, as in `INSERT INTO t (a, b) VALUES ($1, $2)`, and if for
/// this table that is the same: a plain one, whose columns have the parameters' types,
/// without triggers for INSERT, rules, row security that applies, or functions of your own
/// in its defaults and checks. Groups get that large where both are allowed to:
/// `Batch::builder(pool).size(20_000).max_operations(100_000)`; a group ends at 8 MiB, too.
/// Copied ones of 20,000 were 1.4 to 1.6 times as fast as merged ones. They always have a
/// transaction of their own, and none is copied while the connection may be in another one.
///
/// # Cost
///
/// The text of a `&'static str` is not copied, and a thread analyses a text once as long
/// as it is among its last ones. 64 bytes, and 32 for each value beside what texts and
/// bytes take.
#[derive(Clone, PartialEq)]
pub struct Sql {
    statement: Arc<Statement>,
    params: Vec<SqlValue>,
    envelope: Envelope,
}

impl Sql {
    /// A statement without values so far.
    pub fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        let statement = known(sql.into());
        let params = Vec::with_capacity(statement.params());
        Self {
            statement,
            params,
            envelope: Envelope::default(),
        }
    }

    /// Binds the next parameter.
    #[must_use]
    pub fn bind(mut self, value: impl Into<SqlValue>) -> Self {
        self.params.push(value.into());
        self
    }

    /// Binds the next parameter to `NULL`.
    #[must_use]
    pub fn bind_null(self) -> Self {
        self.bind(SqlValue::Null)
    }

    /// Binds the next parameters.
    ///
    /// ```
    /// # use millpond::Sql;
    /// let sql = Sql::new("SELECT $1::int + $2::int").bind_all([1, 2]);
    /// assert_eq!(sql.params().len(), 2);
    /// ```
    #[must_use]
    pub fn bind_all<V: Into<SqlValue>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.params.extend(values.into_iter().map(Into::into));
        self
    }

    /// The SQL text.
    pub fn sql(&self) -> &str {
        self.statement.text()
    }

    /// The values bound so far.
    pub fn params(&self) -> &[SqlValue] {
        &self.params
    }

    /// What is known about the text.
    pub(super) fn analysis(&self) -> &Arc<Statement> {
        &self.statement
    }

    fn mistake(&self) -> Option<String> {
        if let Some(mistake) = self.statement.mistake() {
            return Some(mistake.to_owned());
        }
        let (wanted, bound) = (self.statement.params(), self.params.len());
        if wanted != bound {
            let named = match wanted {
                0 => "no parameter".to_owned(),
                _ => format!("parameters up to ${wanted}"),
            };
            return Some(format!("the SQL has {named}, and {bound} values are bound"));
        }
        if wanted > 0 && !self.statement.is_preparable() {
            return Some(
                "PostgreSQL takes parameters in SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES and \
                 WITH only"
                    .into(),
            );
        }
        if let Some(position) = self.params.iter().position(SqlValue::has_nul) {
            return Some(format!(
                "the text of ${} contains a NUL character, which PostgreSQL cannot store; bind \
                 bytes for a bytea",
                position + 1
            ));
        }
        let size = self.payload();
        (size > LARGEST).then(|| {
            format!("the SQL and its values take {size} bytes; at most {LARGEST} can be sent")
        })
    }

    fn payload(&self) -> usize {
        self.sql().len() + self.params.iter().map(SqlValue::size).sum::<usize>()
    }
}

impl Operation for Sql {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn validate(&self) -> Result<(), Error> {
        match self.mistake() {
            None => Ok(()),
            Some(mistake) => Err(Error::new(
                ErrorKind::InvalidOperation,
                Phase::Operation,
                mistake,
            )),
        }
    }

    fn size(&self) -> usize {
        // The text is shared by all operations with the same one.
        size_of::<Self>()
            + self.params.capacity() * size_of::<SqlValue>()
            + self.params.iter().map(SqlValue::size).sum::<usize>()
            + self.envelope.size()
    }

    /// Whether it surely changes nothing: a SELECT, VALUES, TABLE or SHOW without
    /// `FOR UPDATE` and the like, a part that writes, or a function that is not known to be
    /// harmless.
    fn is_read(&self) -> bool {
        self.statement.is_read()
    }

    fn statement(&self) -> Cow<'_, str> {
        self.statement.masked().into()
    }

    fn each_value(&self, see: &mut dyn FnMut(&str)) {
        self.params.iter().for_each(|value| value.each_text(see));
    }
}

/// The statement without literals, and how many values are bound; what they are where values
/// are not masked, unless it is about passwords.
impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = self.statement.masked();
        let hides = values_are_masked() || self.sql().to_ascii_lowercase().contains("password");
        let (sql, params): (&str, &dyn fmt::Debug) = if hides {
            (masked, &self.params.len())
        } else {
            (self.sql(), &self.params)
        };
        f.debug_struct("Sql")
            .field("sql", &sql)
            .field("params", params)
            .field("envelope", &self.envelope)
            .finish()
    }
}

/// The fields of its JSON form.
#[derive(Serialize, Deserialize)]
struct Fields<'a, P> {
    sql: Cow<'a, str>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    params: Option<P>,
    #[serde(flatten)]
    envelope: Cow<'a, Envelope>,
}

impl Serialize for Sql {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Fields {
            sql: self.sql().into(),
            params: (!self.params.is_empty()).then_some(&self.params),
            envelope: Cow::Borrowed(&self.envelope),
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Sql {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fields = Fields::<Vec<SqlValue>>::deserialize(from)?;
        Ok(Self {
            statement: known(fields.sql.into_owned().into()),
            params: fields.params.unwrap_or_default(),
            envelope: fields.envelope.into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Priority;

    #[test]
    fn is_as_small_as_it_says() {
        assert_eq!((size_of::<Sql>(), size_of::<SqlValue>()), (64, 32));
    }

    #[test]
    fn what_no_server_would_take_is_refused() {
        for (sql, part) in [
            (Sql::new(" "), "empty"),
            (Sql::new("SELECT $2").bind(1), "up to $2, and 1 values"),
            (Sql::new("SELECT 1").bind(1), "no parameter, and 1 values"),
            (Sql::new("SELECT $1").bind("hunter2\0"), "text of $1"),
            (Sql::new("SELECT $1").bind(vec!["a", "\0"]), "NUL"),
            (Sql::new("SET work_mem = $1").bind(1), "takes parameters"),
            (Sql::new("SELECT 1; SELECT 2"), "more than one"),
        ] {
            let error = sql.validate().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidOperation);
            assert!(error.to_string().contains(part), "{error}");
            assert!(!format!("{error} {sql:?}").contains("hunter2"));
        }
    }

    #[test]
    fn its_size_counts_what_it_holds() {
        let small = Sql::new("SELECT $1").bind(1).size();
        let large = Sql::new("SELECT $1").bind("x".repeat(10_000)).size();
        assert!(large >= small + 10_000 && large < small + 11_000);
    }

    #[test]
    fn json_carries_the_envelope_and_comes_back() {
        let sql = Sql::new("SELECT $1")
            .bind(b"\x01")
            .priority(Priority::High)
            .id("a");
        let text = serde_json::to_string(&sql).expect("writes");
        assert_eq!(
            text,
            r#"{"sql":"SELECT $1","params":[{"bytes":"01"}],"priority":"high","id":"a"}"#
        );
        let back: Sql = serde_json::from_str(&text).expect("reads");
        assert!(back == sql);
        let short: Sql = serde_json::from_str(r#"{"sql":"SELECT 1"}"#).expect("reads");
        assert!(short == Sql::new("SELECT 1"));
    }

    #[test]
    fn logs_show_no_value() {
        let sql = Sql::new("SELECT 'hunter2', $1").bind("hunter2");
        assert!(!format!("{sql:?} {}", sql.statement()).contains("hunter2"));
    }
}
