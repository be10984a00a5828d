//! Commands for several nodes, or for none in particular: the driver runs them, one by one.

use redis::{ConnectionLike as _, ErrorKind, RedisResult, Value};

use crate::backend::redis::config::Topology;
use crate::backend::redis::connection::{Inner, RedisConnection, spans_nodes};
use crate::backend::redis::errors;
use crate::backend::redis::manager::Redis;
use crate::backend::redis::operation::RedisCommand;
use crate::backend::redis::reply::Reply;
use crate::backend::redis::timed::wanted;
use crate::deadline::Deadline;
use crate::operation::Outcome;

impl Redis {
    /// Runs one command by the driver.
    pub(super) fn run_by_driver(
        &self,
        conn: &mut RedisConnection,
        command: &RedisCommand,
        deadline: Deadline,
    ) -> Outcome<Reply> {
        let cmd = command.to_cmd();
        // The driver asks several nodes one after the other.
        let spans_nodes = spans_nodes(&cmd);
        let share = match &self.config.topology {
            Topology::Cluster(nodes) if spans_nodes => nodes.len().min(command.arguments().len()),
            _ => 1,
        };
        let share = u32::try_from(share.max(1)).unwrap_or(u32::MAX);
        if let Err(error) = self.limit_cluster(conn, deadline, share) {
            conn.broken = true;
            let error = errors::unanswered(error, deadline, self.endpoint_text());
            return Outcome::NotExecuted(error);
        }
        let result = conn.req_command(&cmd).and_then(Value::extract_error);
        if deadline != Deadline::NEVER && !conn.broken {
            conn.broken |= self.limit_cluster(conn, Deadline::NEVER, 1).is_err();
        }
        let error = match result {
            Ok(value) => return Outcome::Done(Reply::from_value(value, conn.decode_responses)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Io | ErrorKind::Parse => {
                let error = errors::unanswered(error, deadline, self.endpoint_text());
                Outcome::Unknown(error.with_outcome_unknown())
            }
            // Other nodes may have done their part.
            _ if spans_nodes => {
                let error = errors::refused(error, self.endpoint_text());
                Outcome::Unknown(error.with_outcome_unknown())
            }
            _ => self.refused(command, error, conn.role_can_move),
        }
    }

    /// Sets the timeouts of all nodes to a share of what is left.
    fn limit_cluster(
        &self,
        conn: &mut RedisConnection,
        deadline: Deadline,
        share: u32,
    ) -> RedisResult<()> {
        if let Inner::Cluster(cluster) = &mut conn.inner {
            let config = &self.config;
            let limit = deadline.remaining_within(config.connect_timeout);
            let connection = cluster.driver(Some(limit))?;
            connection.set_read_timeout(wanted(deadline, config.read_timeout, share)?)?;
            connection.set_write_timeout(wanted(deadline, config.write_timeout, share)?)?;
        }
        Ok(())
    }
}
