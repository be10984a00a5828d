//! The http backend.
