//! Who is connected under which name: a client that comes again under its own takes the connection over. A name is the
//! Thing's own, so that no Thing can throw out another's client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::ThingId;
use tidegate_mqtt_proto::Text;
use tokio::sync::oneshot;

type Name = (ThingId, Text);

/// Who has a place, and how that is told of another who takes it.
#[derive(Debug)]
struct Holder {
    number: u64,
    tell: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Places {
    last_number: u64,
    by_name: HashMap<Name, Holder>,
}

/// Everybody who is connected to this process.
#[derive(Debug, Default)]
pub(crate) struct Presences {
    places: Mutex<Places>,
}

/// A client's place; it is free again when this goes.
#[derive(Debug)]
pub(crate) struct Place {
    all: Arc<Presences>,
    name: Name,
    number: u64,
    /// Comes true when another connection takes the place.
    told: oneshot::Receiver<()>,
    is_taken: bool,
}

impl Place {
    /// Waits until another connection takes the place. Nothing is lost when the future is dropped.
    pub(crate) async fn taken(&mut self) {
        if !self.is_taken {
            // Who has the other end tells before it goes.
            let _ = (&mut self.told).await;
            self.is_taken = true;
        }
    }

    /// Whether another connection has taken it.
    pub(crate) const fn is_taken(&self) -> bool {
        self.is_taken
    }
}

impl Presences {
    /// Takes the place of that name, from whoever has it.
    pub(crate) fn take(self: &Arc<Self>, thing: ThingId, client_id: Text) -> Place {
        let name = (thing, client_id);
        let (tell, told) = oneshot::channel();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.last_number += 1;
        let number = places.last_number;
        if let Some(before) = places.by_name.insert(name.clone(), Holder { number, tell }) {
            // It may have gone meanwhile.
            let _ = before.tell.send(());
        }
        drop(places);
        Place { all: Arc::clone(self), name, number, told, is_taken: false }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.all.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.by_name.get(&self.name).is_some_and(|holder| holder.number == self.number) {
            places.by_name.remove(&self.name);
        }
    }
}
