//! The whole log, with a record of each connection and each operation, where `TESTBED_TRACE` asks
//! for it: so that what the shared traffic of the tests carries would be found there.

use millpond::logging::Switches;

pub(crate) fn traced() {
    if testbed::trace() {
        Switches::new().connections(true).operations(true).apply();
    }
}
