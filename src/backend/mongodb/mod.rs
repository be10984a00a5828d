//! The mongodb backend.
