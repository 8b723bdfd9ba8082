//! What the watch needs of the outside world, as traits. Adapters implement, the app wires.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::time::Timestamp;

/// The three kinds of time. Production reads the system clock for all of them; the simulated
/// estate has its own, faster one for event time.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Drives baselines, windows and correlation.
    fn event_now(&self) -> Timestamp;
    /// For people, expiry and audit.
    fn wall_now(&self) -> Timestamp;
    /// Waits until `span` of event time has passed.
    async fn sleep_event(&self, span: Duration);
}
