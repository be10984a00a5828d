//! Functions and key words that may stand before a bracket in a statement that is a mere
//! read, or in an INSERT that may become part of a larger one.
//!
//! A function that is not here may write, or read what earlier statements of the group
//! wrote: only alone, in its own statement, does it surely mean the same.

/// Key words and the names of types with a length; sorted.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "all", "and", "any", "array", "as", "between", "bit", "by", "case", "cast", "char",
    "character", "conflict", "constraint", "cube", "decimal", "distinct", "else", "except",
    "exists", "filter", "float", "from", "group", "having", "ilike", "in", "intersect",
    "interval", "join", "lateral", "like", "limit", "not", "numeric", "offset", "on", "or",
    "over", "overlaps", "rollup", "row", "select", "set", "sets", "some", "then", "time",
    "timestamp", "timestamptz", "timetz", "union", "using", "values", "varbit", "varchar",
    "when", "where", "with", "within",
];

/// Built-in functions that neither write nor read tables; sorted.
#[rustfmt::skip]
const PURE: &[&str] = &[
    "abs", "age", "array_agg", "array_append", "array_cat", "array_length", "array_prepend",
    "array_remove", "array_to_string", "avg", "bool_and", "bool_or", "btrim", "cardinality",
    "ceil", "ceiling", "char_length", "clock_timestamp", "coalesce", "concat", "concat_ws",
    "count", "date_bin", "date_part", "date_trunc", "decode", "dense_rank", "encode", "extract",
    "first_value", "floor", "format", "gen_random_uuid", "generate_series", "greatest",
    "initcap", "json_agg", "json_build_array", "json_build_object", "json_object_agg",
    "jsonb_agg", "jsonb_array_elements", "jsonb_array_length", "jsonb_build_array",
    "jsonb_build_object", "jsonb_each", "jsonb_object_agg", "jsonb_set", "jsonb_strip_nulls",
    "lag", "last_value", "lead", "least", "left", "length", "lower", "lpad", "ltrim",
    "make_date", "make_interval", "make_timestamptz", "max", "md5", "min", "mod", "now",
    "nullif", "octet_length", "position", "power", "random", "rank", "regexp_replace", "repeat",
    "replace", "right", "round", "row_number", "row_to_json", "rpad", "rtrim", "sha256",
    "split_part", "sqrt", "statement_timestamp", "string_agg", "string_to_array", "strpos",
    "substr", "substring", "sum", "to_char", "to_date", "to_json", "to_jsonb", "to_number",
    "to_timestamp", "to_tsvector", "transaction_timestamp", "translate", "trim", "trunc",
    "unnest", "upper",
];

/// Whether this word, in lower case, may stand before a bracket.
pub(super) fn is_harmless(word: &str) -> bool {
    WORDS.binary_search(&word).is_ok() || PURE.binary_search(&word).is_ok()
}

/// The same in an INSERT, which may call `nextval` for each row.
pub(super) fn is_harmless_in_insert(word: &str) -> bool {
    word == "nextval" || is_harmless(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        assert!(WORDS.is_sorted() && PURE.is_sorted());
        assert!(is_harmless("values") && is_harmless("upper") && is_harmless("abs"));
        assert!(!is_harmless("pay") && !is_harmless("nextval"));
    }
}
