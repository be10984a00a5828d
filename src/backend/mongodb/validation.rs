//! What can be known of an operation before anything is sent.

use super::document::Body;
use super::operation::{Action, MongoOperation};
use crate::error::{Error, ErrorKind, Phase};

/// The largest document that a server stores.
pub(super) const LARGEST_DOCUMENT: usize = 16 * 1024 * 1024;

/// The longest `database.collection`.
const LONGEST_NAMESPACE: usize = 255;

const LONGEST_DATABASE: usize = 63;

pub(super) fn validate(operation: &MongoOperation) -> Result<(), Error> {
    check(operation).map_err(|problem| {
        // Names may be what is wrong, so they are not repeated.
        let message = format!("{}: {problem}", operation.action.name());
        Error::new(ErrorKind::InvalidOperation, Phase::Operation, message)
    })
}

fn check(operation: &MongoOperation) -> Result<(), String> {
    let action = &operation.action;
    check_names(operation)?;
    check_options(operation)?;
    let options = operation.options();
    let sort = options.and_then(|options| options.sort.as_ref());
    let projection = options.and_then(|options| options.projection.as_ref());
    for body in action.bodies().into_iter().chain(sort).chain(projection) {
        if body.encoded().is_none() {
            return Err("a field name or a regular expression holds a NUL".to_owned());
        }
        if body.len() > LARGEST_DOCUMENT {
            return Err(format!(
                "a document of {} bytes; a server takes up to {LARGEST_DOCUMENT}",
                body.len()
            ));
        }
    }
    match action {
        Action::UpdateOne { update, .. } | Action::UpdateMany { update, .. } => {
            check_update(update)
        }
        Action::ReplaceOne { replacement, .. } if replacement.names().any(is_operator) => {
            Err("a replacement has fields, not operators; use update_one for them".to_owned())
        }
        Action::Command(command) if command.names().next().is_none() => {
            Err("the command is empty; its first field is its name".to_owned())
        }
        Action::Aggregate(pipeline) if pipeline.iter().any(|stage| stage.names().count() != 1) => {
            Err("a stage of a pipeline has exactly one field, such as $match".to_owned())
        }
        _ => Ok(()),
    }
}

fn is_operator(name: &str) -> bool {
    name.starts_with('$')
}

fn check_update(update: &Body) -> Result<(), String> {
    if update.names().next().is_some() && update.names().all(is_operator) {
        Ok(())
    } else {
        Err(
            "an update consists of operators such as $set; use replace_one for a whole document"
                .to_owned(),
        )
    }
}

fn check_names(operation: &MongoOperation) -> Result<(), String> {
    let database = operation
        .options()
        .and_then(|options| options.database.as_deref());
    if let Some(name) = database {
        let wrong = |character: char| "/\\. \"$*<>:|?\0".contains(character);
        if name.is_empty() || name.len() > LONGEST_DATABASE || name.contains(wrong) {
            return Err(format!(
                "a database name has 1 to {LONGEST_DATABASE} bytes, without \
                 / \\ . \" $ * < > : | ? spaces and NUL"
            ));
        }
    }
    let name = operation.collection.as_ref();
    if matches!(operation.action, Action::Command(_)) {
        return Ok(());
    }
    let problem = if name.is_empty() {
        "is empty"
    } else if name.contains(['$', '\0']) {
        "holds a $ or a NUL"
    } else if name.starts_with('.') || name.ends_with('.') {
        "begins or ends with a dot"
    } else if name.starts_with("system.") {
        "begins with `system.`, which belongs to the server"
    } else if database.map_or(0, str::len) + 1 + name.len() > LONGEST_NAMESPACE {
        "is too long: with the database's name it may have 255 bytes"
    } else {
        return Ok(());
    };
    Err(format!("the collection's name {problem}"))
}

/// An option that does nothing is a mistake that should show.
fn check_options(operation: &MongoOperation) -> Result<(), String> {
    let Some(options) = operation.options() else {
        return Ok(());
    };
    let action = &operation.action;
    let updates = matches!(
        action,
        Action::UpdateOne { .. } | Action::UpdateMany { .. } | Action::ReplaceOne { .. }
    );
    let finds = matches!(action, Action::Find(_) | Action::FindOne(_));
    let many = matches!(action, Action::Find(_) | Action::Count(_));
    let misplaced = [
        ("upsert", options.upsert.is_some() && !updates),
        ("sort", options.sort.is_some() && !finds),
        ("projection", options.projection.is_some() && !finds),
        ("skip", options.skip.is_some() && !(finds || many)),
        ("limit", options.limit.is_some() && !many),
    ];
    if let Some((option, _)) = misplaced.iter().find(|(_, misplaced)| *misplaced) {
        return Err(format!("it takes no `{option}`"));
    }
    let countable = 1..=u64::from(i32::MAX.unsigned_abs());
    if options
        .limit
        .is_some_and(|limit| !countable.contains(&limit))
    {
        return Err("a limit is a number from 1 to 2147483647".to_owned());
    }
    if options
        .skip
        .is_some_and(|skip| i64::try_from(skip).is_err())
    {
        return Err("what to skip is too large a number".to_owned());
    }
    Ok(())
}
