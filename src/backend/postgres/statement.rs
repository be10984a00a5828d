//! What a statement may leave behind in its session, judged once by its text.
//!
//! The judgement errs on the side of cleaning: what is not known to be clean counts
//! as dirty and costs a reset in the background after the lease. It does not parse
//! SQL. A function written in the database can change settings behind a plain
//! `SELECT`; for that there is [`Reset::Full`](crate::Reset::Full).

/// Statements that leave nothing behind, by their first word. `WITH` may hide a
/// writing part, which leaves nothing behind either.
const CLEAN: [&str; 10] = [
    "select", "insert", "update", "delete", "merge", "with", "values", "table", "explain", "show",
];

/// What a clean statement may call that lasts longer than the statement.
const LASTING: [&str; 5] = [
    "set_config",
    "pg_advisory_lock",
    "pg_try_advisory_lock",
    "setseed",
    "lo_",
];

/// Whether this statement may leave something behind in its session.
pub(super) fn is_dirty(sql: &str) -> bool {
    let word: String = first_word(sql).to_ascii_lowercase();
    if !CLEAN.contains(&word.as_str()) {
        return true;
    }
    let text = sql.to_ascii_lowercase();
    // `EXPLAIN ANALYZE` runs what it explains.
    if word == "explain" && text.contains("analy") {
        return true;
    }
    // `pg_advisory_xact_lock` ends with the transaction and is not in the list.
    LASTING.iter().any(|name| text.contains(name))
        || names_temporary(&text)
        || text.contains("pg_advisory_lock_shared")
        || text.contains("dblink")
}

/// `SELECT ... INTO TEMP t` and `INTO pg_temp.t` make a table.
fn names_temporary(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| ["temp", "temporary"].contains(&word) || word.starts_with("pg_temp"))
}

/// The first word after white space, comments and opening brackets.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            // Nested comments end too early here, and what follows is then no known
            // word: dirty, which is the safe side.
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
        } else {
            let end = rest
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(rest.len());
            return &rest[..end];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_dirty;

    #[test]
    fn plain_work_is_clean() {
        for sql in [
            "SELECT 1",
            "  -- a comment\n /* another */ (select 1)",
            "insert into t values ($1) on conflict do nothing returning id",
            "WITH x AS (SELECT 1) UPDATE t SET a = 1",
            "select pg_advisory_xact_lock(1)",
            "VALUES (1)",
            "select temperature from rooms",
            "EXPLAIN SELECT 1",
        ] {
            assert!(!is_dirty(sql), "{sql}");
        }
    }

    #[test]
    fn what_lasts_is_dirty() {
        for sql in [
            "SET search_path = x",
            "BEGIN",
            "listen news",
            "CREATE TEMP TABLE t (a int)",
            "SELECT set_config('a.b', 'c', false)",
            "select pg_advisory_lock(1)",
            "select pg_try_advisory_lock_shared(1)",
            "SELECT 1 INTO TEMPORARY t",
            "SELECT 1 INTO\n  TEMP t",
            "SELECT 1 INTO pg_temp.t",
            "EXPLAIN (ANALYZE) CREATE TABLE t AS SELECT 1",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "PREPARE p AS SELECT 1",
            "/* a /* nested */ */ select 1",
            "",
        ] {
            assert!(is_dirty(sql), "{sql}");
        }
    }
}
