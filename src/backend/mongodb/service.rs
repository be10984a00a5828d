//! What is asked of the server itself: whether it is there, and who it is.

use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::SelectionCriteria;

use crate::backend::{Role, Service};

/// One round trip to a server that these criteria allow.
pub(super) async fn ping(client: &Client, criteria: SelectionCriteria) -> Result<(), DriverError> {
    let admin = client.database("admin");
    let ping = admin.run_command(doc! { "ping": 1 });
    ping.selection_criteria(criteria).await.map(drop)
}

/// Version, role, whether it takes writes, and a secondary's lag.
pub(super) async fn describe(
    client: &Client,
    criteria: SelectionCriteria,
) -> Result<Service, DriverError> {
    let admin = client.database("admin");
    let run = |command: Document| {
        let question = admin.run_command(command);
        question.selection_criteria(criteria.clone())
    };
    let start = Instant::now();
    let hello = run(doc! { "hello": 1 }).await?;
    let latency = start.elapsed();
    let build = run(doc! { "buildInfo": 1 }).await?;
    let role = role(&hello);
    let mut service = Service::new(role, latency);
    service.version = build.get_str("version").ok().map(str::to_owned);
    service.writable = hello.get_bool("isWritablePrimary").ok();
    if role == Role::Replica {
        // Needs the role clusterMonitor; without it the lag stays unknown.
        let status = run(doc! { "replSetGetStatus": 1 }).await.ok();
        service.lag = status.as_ref().and_then(lag);
    }
    Ok(service)
}

/// The role in a reply to `hello`.
fn role(hello: &Document) -> Role {
    let is = |field| hello.get_bool(field).unwrap_or(false);
    if hello.get_str("msg").is_ok_and(|text| text == "isdbgrid") {
        Role::Router
    } else if hello.get_str("setName").is_err() {
        Role::Standalone
    } else if is("isWritablePrimary") {
        Role::Primary
    } else if is("secondary") {
        Role::Replica
    } else {
        Role::Unknown
    }
}

/// How far the member that answered is behind the primary, in a reply to
/// `replSetGetStatus`.
fn lag(status: &Document) -> Option<Duration> {
    let members = status.get_array("members").ok()?;
    let members = || members.iter().filter_map(|member| member.as_document());
    let applied = |member: &Document| member.get_datetime("optimeDate").ok().copied();
    let is_primary = |member: &&Document| member.get_i32("state").is_ok_and(|state| state == 1);
    let primary = members().find(is_primary)?;
    let this = members().find(|member| member.get_bool("self").unwrap_or(false))?;
    let behind = applied(primary)?.timestamp_millis() - applied(this)?.timestamp_millis();
    Some(Duration::from_millis(u64::try_from(behind).unwrap_or(0)))
}
