//! Many INSERTs of one row with the same text as one statement.
//!
//! `INSERT INTO t (a, b) VALUES ($1, lower($2))` becomes
//!
//! ```sql
//! WITH mp_i AS (
//!     INSERT INTO t (a, b) SELECT (mp_u.p1), lower((mp_u.p2))
//!     FROM unnest($1::"pg_catalog"."int4"[], $2::"pg_catalog"."text"[]) AS mp_u(p1, p2)
//!     RETURNING 1
//! ) SELECT 1 / (count(*) = $3)::int FROM mp_i
//! ```
//!
//! The parameters' types are those that the server itself inferred for the user's
//! statement. The division fails the statement, with nothing applied, if another number of
//! rows was inserted than there are operations (ON CONFLICT, a trigger, a rule): then who
//! inserted one is not known, and they run otherwise.
//!
//! `unnest` would flatten arrays and spread composites; those, and types whose arrays are
//! separated by something else than a comma, go as texts and are cast one by one, which
//! means the same as their input function unless a superuser defined a cast from text.

use std::fmt::Write as _;
use std::sync::Arc;

use postgres::error::SqlState;
use postgres::types::ToSql;

use super::super::connection::PostgresConnection;
use super::super::operation::Sql;
use super::super::sql::literal::{push_text, quoted};
use super::super::sql::{Insert, Part, Statement};
use super::array::{Array, TEXT};
use super::single::{prepared, replies};

/// How the INSERTs of one text are merged.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// Up to the first array.
    before: String,
    arrays: Vec<Elements>,
    /// Of the parameters.
    types: Vec<u32>,
    /// From behind the last array to the number of rows.
    between: String,
    /// The whole, with arrays as parameters.
    sql: String,
}

/// What one array is made of.
#[derive(Debug)]
struct Elements {
    /// The type's name, in quotes.
    name: String,
    oid: u32,
}

/// Types of the parameters of a statement that is prepared under this name.
const TYPES: &str = "SELECT n.nspname, t.typname, t.oid, \
     t.typcategory IN ('A', 'C') OR t.typdelim <> ',', t.typtype = 'p' \
     FROM pg_catalog.pg_prepared_statements s, \
     unnest(s.parameter_types::pg_catalog.oid[]) WITH ORDINALITY AS p(type, place) \
     JOIN pg_catalog.pg_type t ON t.oid = p.type \
     JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
     WHERE s.name = ";

impl Merge {
    /// Finds out how the statement is merged; `None` if the server shows no way.
    pub(super) fn of(
        conn: &mut PostgresConnection,
        statement: &Arc<Statement>,
    ) -> Result<Option<Self>, postgres::Error> {
        let Some(insert) = statement.insert() else {
            return Ok(None);
        };
        let name = prepared(conn, statement)?;
        let mut text = String::new();
        let own = name.is_none().then(|| conn.memory.new_name());
        // Where nothing may stay prepared, it is for the length of one round trip.
        if let Some(own) = &own {
            let _ = write!(text, "PREPARE {own} AS {};", statement.body());
        }
        text.push_str(TYPES);
        push_text(
            &mut text,
            own.as_ref().or(name.as_ref()).map_or("", |name| name),
        );
        text.push_str(" ORDER BY p.place");
        if let Some(own) = &own {
            let _ = write!(text, ";DEALLOCATE {own}");
        }
        let found = replies(conn.simple(&text, false)?);
        let place = usize::from(own.is_some());
        let rows = found.get(place).map_or(&[][..], |reply| reply.rows());
        let mut types = Vec::with_capacity(rows.len());
        for row in rows {
            let (Ok(schema), Ok(name), Ok(oid), Ok(cast), Ok(false)) = (
                row.get::<String>(0),
                row.get::<String>(1),
                row.get::<u32>(2),
                row.get::<bool>(3),
                row.get::<bool>(4),
            ) else {
                return Ok(None);
            };
            let name = format!("{}.{}", quoted(&schema), quoted(&name));
            types.push((name, oid, cast));
        }
        if types.len() != statement.params() {
            return Ok(None);
        }
        let merge = Self::new(insert, types);
        // A rule without RETURNING, say, forbids it: better known before there is a group.
        let name = conn.memory.new_name();
        let attempt = format!("PREPARE {name} AS {};DEALLOCATE {name}", merge.sql);
        match conn.simple(&attempt, false) {
            Ok(_) => Ok(Some(merge)),
            Err(error) if error.as_db_error().is_some() && !conn.is_broken() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Given the name and number of each parameter's type, and whether it has to be cast.
    fn new(insert: &Insert, types: Vec<(String, u32, bool)>) -> Self {
        let mut before = format!("WITH mp_i AS ({} SELECT ", insert.head);
        for part in &insert.values {
            // Writing to a string does not fail.
            let _ = match part {
                Part::Sql(sql) => write!(before, "{sql}"),
                Part::Param(number) => match types.get(number - 1) {
                    Some((name, _, true)) => write!(before, " CAST(mp_u.p{number} AS {name}) "),
                    _ => write!(before, " (mp_u.p{number}) "),
                },
            };
        }
        before.push_str(" FROM unnest(");
        let names: Vec<String> = (1..=types.len())
            .map(|number| format!("p{number}"))
            .collect();
        let names = names.join(",");
        let between = format!(
            ") AS mp_u({names}) {} RETURNING 1) SELECT 1 / (count(*) = ",
            insert.tail
        );
        let elements = |(name, oid, cast)| {
            if cast {
                Elements {
                    name: "\"pg_catalog\".\"text\"".into(),
                    oid: TEXT,
                }
            } else {
                Elements { name, oid }
            }
        };
        let mut merge = Self {
            before,
            types: types.iter().map(|(_, oid, _)| *oid).collect(),
            arrays: types.into_iter().map(elements).collect(),
            between,
            sql: String::new(),
        };
        let number = merge.arrays.len() + 1;
        merge.sql = merge.text(&format!("${number}"), |out, array| {
            let _ = write!(out, "${}", array + 1);
        });
        merge
    }

    /// The types of the statement's parameters.
    pub(super) fn types(&self) -> &[u32] {
        &self.types
    }

    /// The statement for so many rows, with these arrays.
    fn text(&self, count: &str, push_array: impl Fn(&mut String, usize)) -> String {
        let mut out = self.before.clone();
        for (number, array) in self.arrays.iter().enumerate() {
            if number > 0 {
                out.push_str(", ");
            }
            push_array(&mut out, number);
            let _ = write!(out, "::{}[]", array.name);
        }
        let _ = write!(out, "{}{count}::int8)::int4 FROM mp_i", self.between);
        out
    }

    /// Inserts the rows of these operations, all or none.
    pub(super) fn run(
        &self,
        conn: &mut PostgresConnection,
        operations: &[&Sql],
    ) -> Result<(), postgres::Error> {
        let array =
            |(number, elements): (usize, &Elements)| Array::new(operations, number, elements.oid);
        let arrays: Vec<Array<'_>> = self.arrays.iter().enumerate().map(array).collect();
        if conn.memory.capacity() == 0 {
            let text = self.text(&operations.len().to_string(), |out, number| {
                push_text(out, &arrays[number].text());
            });
            let dirty = operations
                .iter()
                .any(|operation| operation.analysis().is_dirty());
            return conn.simple(&text, dirty).map(drop);
        }
        // No group has more operations than memory has bytes.
        let count = i64::try_from(operations.len()).unwrap_or(i64::MAX);
        let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(arrays.len() + 1);
        params.extend(arrays.iter().map(|array| array as &(dyn ToSql + Sync)));
        params.push(&count);
        conn.begin();
        conn.query_one(self.sql.as_str(), &params).map(drop)
    }
}

/// Whether this error means that not every operation inserted just one row, or that two of
/// them met in the same row.
pub(super) fn is_ambiguous(error: &postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::DIVISION_BY_ZERO | &SqlState::CARDINALITY_VIOLATION)
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::sql::known;
    use super::*;

    #[test]
    fn becomes_what_the_header_says() {
        let sql = "INSERT INTO t (a, b) VALUES ($1, lower($2)) ON CONFLICT DO NOTHING";
        let statement = known(sql.into());
        let insert = statement.insert().expect("of one row");
        let types = vec![
            ("\"x\".\"a\"".into(), 1, false),
            ("\"x\".\"_b\"".into(), 2, true),
        ];
        let merge = Merge::new(insert, types);
        let words: Vec<&str> = merge.sql.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "WITH mp_i AS (INSERT INTO t (a, b) SELECT (mp_u.p1) , \
             lower( CAST(mp_u.p2 AS \"x\".\"_b\") ) \
             FROM unnest($1::\"x\".\"a\"[], $2::\"pg_catalog\".\"text\"[]) AS mp_u(p1,p2) \
             ON CONFLICT DO NOTHING RETURNING 1) SELECT 1 / (count(*) = $3::int8)::int4 FROM mp_i"
        );
    }
}
