//! Whether there is a broker that can be used, for who publishes nothing: one connection that is kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{AmqpConfig, AmqpError, check_ca, uri};
use crate::link::Connector;

/// How often a link is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a connection to the broker came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is there, and the exchanges are as they should be.
    Up,
    /// No connection can be had.
    Unreachable,
    /// The broker refuses the user, the virtual host, or what the user may do.
    Refused,
    /// The broker has an exchange of the name that is declared otherwise.
    Conflict,
}

/// Connects, stays connected, and tells, until nobody listens. Must be called within a tokio runtime.
///
/// # Errors
/// [`AmqpError`] when the configuration cannot be right.
pub fn probe(config: AmqpConfig) -> Result<watch::Receiver<Reach>, AmqpError> {
    uri(&config.url)?;
    check_ca(config.ca_pem.as_deref())?;
    let mut connector = Connector::new(Arc::new(config), "operator");
    let reach = connector.reach();
    let unheard = connector.unheard();
    tokio::spawn(async move {
        let keep = async {
            loop {
                let link = connector.establish().await;
                while link.is_up() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                connector.lost(None);
            }
        };
        tokio::select! {
            () = keep => {}
            () = unheard => {}
        }
    });
    Ok(reach)
}
