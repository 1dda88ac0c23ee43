//! Registers all jobs and schedules.
