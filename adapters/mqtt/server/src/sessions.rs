//! Sessions by name: who has one, how another connection takes it over, and what becomes of it while its client is away.
//!
//! A name is the Thing's own, so that no Thing can take another's session. All of it is in the memory of this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_bridge::Presence;
use tidegate_containment::contained;
use tidegate_model::{Principal, ThingId};
use tidegate_mqtt_proto::{Dropped, Ended, State, Text, Will};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::listeners::{Listeners, News};
use crate::message::of_delivery;
use crate::{MqttFace, now};

/// Sessions of this process whose clients are away.
const AWAY_MAX: usize = 10_000;
/// Those of one Thing.
const AWAY_OF_THING_MAX: usize = 100;

type Name = (ThingId, Text);
/// Tells the next owner of a session what there is of it.
type Handover = oneshot::Sender<Option<Away>>;

/// A session whose client is away.
pub(crate) struct Away {
    pub(crate) state: State,
    pub(crate) listeners: Listeners,
    /// To be published when its time comes, or the session ends.
    pub(crate) will: Option<(Will, Instant)>,
    /// How long the session goes on without its client; nothing is for ever.
    pub(crate) expires_after: Option<Duration>,
}

/// Who has a session, and how that is told of another who takes it.
struct Owner {
    number: u64,
    tell: oneshot::Sender<Handover>,
}

#[derive(Default)]
struct Names {
    last_number: u64,
    owners: BTreeMap<Name, Owner>,
    away: BTreeMap<ThingId, usize>,
    all_away: usize,
}

/// All sessions of this process.
#[derive(Default)]
pub(crate) struct Sessions {
    names: Mutex<Names>,
}

/// The right to a session; free again when this goes.
pub(crate) struct Place {
    all: Arc<Sessions>,
    name: Name,
    number: u64,
    /// Comes true when another connection takes the session.
    told: oneshot::Receiver<Handover>,
    handover: Option<Handover>,
    is_away: bool,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the session of that name from whoever has it, who then tells what there is of it.
    //= MQTT5 3.1.3-2, 3.1.4-3
    //= MQTT3 3.1.3-2, 3.1.4-2
    pub(crate) fn take(
        self: &Arc<Self>,
        thing: ThingId,
        client_id: Text,
    ) -> (Place, Option<oneshot::Receiver<Option<Away>>>) {
        let name = (thing, client_id);
        let (tell, told) = oneshot::channel();
        let mut names = self.lock();
        names.last_number += 1;
        let number = names.last_number;
        let before = names.owners.insert(name.clone(), Owner { number, tell });
        drop(names);
        let state = before.and_then(|before| {
            let (handover, state) = oneshot::channel();
            // It may have gone meanwhile.
            before.tell.send(handover).ok().map(|()| state)
        });
        (Place { all: Arc::clone(self), name, number, told, handover: None, is_away: false }, state)
    }

    /// Whether another session of the Thing may outlive its connection.
    pub(crate) fn has_room(&self, thing: &ThingId) -> bool {
        self.lock().has_room(thing)
    }
}

impl Names {
    fn has_room(&self, thing: &ThingId) -> bool {
        self.all_away < AWAY_MAX && self.away.get(thing).copied().unwrap_or_default() < AWAY_OF_THING_MAX
    }
}

impl Place {
    /// Waits until another connection takes the session. Nothing is lost when the future is dropped.
    pub(crate) async fn taken(&mut self) {
        if self.handover.is_none() {
            // Whoever takes it tells before it goes; the sender stands in the table for as long as this is here.
            match (&mut self.told).await {
                Ok(handover) => self.handover = Some(handover),
                Err(_gone) => std::future::pending().await,
            }
        }
    }

    /// Whether another connection has taken it.
    pub(crate) const fn is_taken(&self) -> bool {
        self.handover.is_some()
    }

    /// Gives the session to whoever has taken it; gives it back where nobody has.
    pub(crate) fn hand_over(mut self, away: Away) -> Option<(Self, Away)> {
        if self.handover.is_none() {
            self.handover = self.told.try_recv().ok();
        }
        let Some(handover) = self.handover.take() else { return Some((self, away)) };
        // Who gave up meanwhile has no use for it: a client that came and went within a moment.
        let away = handover.send(Some(away)).err().flatten()?;
        self.own_again().then_some((self, away))
    }

    /// Takes the session back after another gave up, unless yet another has it.
    fn own_again(&mut self) -> bool {
        let (tell, told) = oneshot::channel();
        let mut names = self.all.lock();
        let is_free = !names.owners.contains_key(&self.name);
        if is_free {
            names.owners.insert(self.name.clone(), Owner { number: self.number, tell });
            self.told = told;
        }
        is_free
    }

    /// Counts the session as one whose client is away; whether there is room for it.
    fn go_away(&mut self) -> bool {
        let mut names = self.all.lock();
        let has_room = self.is_away || names.has_room(&self.name.0);
        if has_room && !self.is_away {
            self.is_away = true;
            names.all_away += 1;
            *names.away.entry(self.name.0.clone()).or_default() += 1;
        }
        has_room
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut names = self.all.lock();
        if names.owners.get(&self.name).is_some_and(|owner| owner.number == self.number) {
            names.owners.remove(&self.name);
        }
        if self.is_away {
            names.all_away -= 1;
            if let Some(count) = names.away.get_mut(&self.name.0) {
                *count -= 1;
                if *count == 0 {
                    names.away.remove(&self.name.0);
                }
            }
        }
    }
}

/// Whose session it is.
pub(crate) struct Holder {
    pub(crate) place: Place,
    /// The Thing, without the key that it showed.
    pub(crate) absent: Principal,
}

impl Holder {
    /// Hands the session of a connection that is over to the one that takes it, or has it kept until one comes, or ends
    /// it.
    //= MQTT5 3.1.2-8, 3.1.2-10, 3.1.2-23
    pub(crate) async fn leave(mut self, face: &Arc<MqttFace>, ended: Ended, listeners: Listeners) {
        let Ended { state, expires_after, will } = ended;
        let is_kept = expires_after.is_none_or(|span| span > Duration::ZERO);
        let outlives = is_kept && (self.place.is_taken() || self.place.go_away());
        //= MQTT5 3.1.3-9
        let delay = will.as_ref().map_or(Duration::ZERO, Will::delay);
        let mut will = will.map(|will| (will, now() + delay));
        if let Some((will, _)) = will.take_if(|_| !outlives || delay.is_zero()) {
            face.publish_will(&self.absent, will).await;
        }
        if outlives {
            self.keep(face, Away { state, listeners, will, expires_after });
        }
    }

    /// Has a session kept until another connection takes it or its time is over.
    pub(crate) fn keep(self, face: &Arc<MqttFace>, away: Away) {
        let Self { mut place, absent } = self;
        if !place.is_taken() && !place.go_away() {
            return;
        }
        away.listeners.rest(true);
        let Some((place, away)) = place.hand_over(away) else { return };
        let presence = face.bridge.presence(absent);
        let expires = away.expires_after.and_then(|span| now().checked_add(span));
        tokio::spawn(contained(Keeper { face: Arc::clone(face), place, presence, expires }.run(away)));
    }
}

/// Keeps a session while its client is away.
struct Keeper {
    face: Arc<MqttFace>,
    place: Place,
    presence: Presence,
    /// For ever where absent.
    expires: Option<Instant>,
}

impl Keeper {
    //= MQTT5 4.1.0-2, 4.8.2-5
    async fn run(self, mut away: Away) {
        let Self { face, mut place, mut presence, expires } = self;
        let _counted = face.metrics.session_away();
        let mut depth = face.metrics.depth();
        loop {
            depth.set(away.state.waiting());
            let will_due = away.will.as_ref().map(|(_, due)| *due);
            tokio::select! {
                biased;
                () = place.taken() => match place.hand_over(away) {
                    None => return,
                    Some(back) => (place, away) = back,
                },
                // The Thing is gone or disabled, and what it has here with it.
                () = presence.revoked() => return,
                () = sleep_until(expires) => {
                    if let Some((will, _)) = away.will {
                        face.publish_will(presence.principal(), will).await;
                    }
                    return;
                }
                () = sleep_until(will_due) => {
                    if let Some((will, _)) = away.will.take() {
                        face.publish_will(presence.principal(), will).await;
                    }
                }
                news = away.listeners.next() => take_in(&face, &mut away.state, news),
            }
        }
    }
}

/// Takes in what came for a client that is away.
pub(crate) fn take_in(face: &MqttFace, state: &mut State, news: News) {
    match news {
        News::Message { delivery, first, matched, is_own } => {
            let message = of_delivery(&delivery, &first, face.bridge.now(), now().into_std());
            if message.is_some_and(|message| !state.keep(message, &matched, is_own, &face.limits)) {
                face.metrics.dropped(Dropped::default(), Dropped { full: 1, ..Dropped::default() });
            }
        }
        News::Revoked(filter) | News::Overrun(filter) => state.revoke(&filter),
        News::Nothing => {}
    }
}

pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
