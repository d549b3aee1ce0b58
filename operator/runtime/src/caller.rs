//! Who asks for grants, and whether they may: a token is shown to the API server, its answer remembered for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use tidegate_plan::ObjectId;
use tokio::time::Instant;

use crate::clock::now;
use crate::lease::in_time;
use crate::state::State;

/// How long a good token is not shown to the API server again.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// How long a bad one is refused without asking.
const BAD_FOR: Duration = Duration::from_secs(5);
/// Tokens that are remembered.
const TOKENS_MAX: usize = 4_096;
/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1_024;

/// Why a caller gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// The token is none, has ended, or is meant for somebody else.
    #[error("the token is not valid for the grant stream")]
    Unauthenticated,
    /// The token is good and its owner has no right to the grants.
    #[error("the caller may not watch adapters/grants in group tidegate.io")]
    Forbidden,
    /// The API server cannot be asked.
    #[error("the API server cannot be asked about the token")]
    Unavailable,
}

/// Who was admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The Adapter whose pods run as this ServiceAccount.
    pub(crate) adapter: Option<ObjectId>,
    /// Whether it may speak for another replica.
    pub(crate) may_report: bool,
    /// Whether it may have keys in clear.
    pub(crate) may_have_keys: bool,
}

/// Checks callers against the API server.
pub(crate) struct Callers {
    client: Client,
    state: Arc<State>,
    audience: String,
    /// By the hash of the token.
    known: Mutex<HashMap<[u8; 32], Remembered>>,
}

struct Remembered {
    verdict: Result<Caller, Denial>,
    until: Instant,
}

impl Callers {
    /// Checks tokens of this audience.
    #[must_use]
    pub(crate) fn new(client: Client, audience: String, state: Arc<State>) -> Self {
        Self { client, state, audience, known: Mutex::default() }
    }

    /// Whether who shows this token may watch the grants. The ServiceAccount that the operator made for an Adapter may,
    /// without any right of its own: who may create Adapters decides. Of all others RBAC decides, by the verb `watch` on
    /// the virtual resource `adapters/grants` of `tidegate.io`; the verb `update` is for other replicas. Keys in clear are
    /// for pods of Adapters that take pre-shared keys over DTLS, and for who may `get` `adapters/keys` too.
    ///
    /// # Errors
    /// [`Denial`].
    pub(crate) async fn check(&self, token: &str) -> Result<Caller, Denial> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(Denial::Unauthenticated);
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(verdict) = self.remembered(&hash) {
            return verdict.map(|caller| self.with_keys(caller));
        }
        let verdict = self.ask(token).await;
        if verdict != Err(Denial::Unavailable) {
            self.remember(hash, verdict.clone());
        }
        verdict.map(|caller| self.with_keys(caller))
    }

    /// Which keys the pods of an Adapter may have is what its spec says now, and not when their token was shown first.
    fn with_keys(&self, mut caller: Caller) -> Caller {
        if let Some(account) = &caller.adapter {
            caller.may_have_keys = self.may_have_keys(account);
        }
        caller
    }

    /// Whether the pods that run as the ServiceAccount of an Adapter may have keys in clear, as its spec is now.
    pub(crate) fn may_have_keys(&self, account: &ObjectId) -> bool {
        let known = self.state.known();
        known.fleet.adapter_of_account(account).is_some_and(|adapter| adapter.spec.takes_shared_keys())
    }

    fn remembered(&self, hash: &[u8; 32]) -> Option<Result<Caller, Denial>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|known| now() < known.until).map(|known| known.verdict.clone())
    }

    fn remember(&self, hash: [u8; 32], verdict: Result<Caller, Denial>) {
        let good_for = if verdict.is_ok() { GOOD_FOR } else { BAD_FOR };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TOKENS_MAX {
            let now = now();
            known.retain(|_, known| now < known.until);
        }
        if known.len() >= TOKENS_MAX {
            known.clear();
        }
        known.insert(hash, Remembered { verdict, until: now() + good_for });
    }

    async fn ask(&self, token: &str) -> Result<Caller, Denial> {
        let spec = TokenReviewSpec { audiences: Some(vec![self.audience.clone()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let answered = in_time(reviews.create(&params, &review)).await.map_err(|_| Denial::Unavailable)?;
        let status = answered.status.unwrap_or_default();
        let meant = status.audiences.is_some_and(|audiences| audiences.contains(&self.audience));
        if !status.authenticated.unwrap_or(false) || !meant {
            return Err(Denial::Unauthenticated);
        }
        let user = status.user.unwrap_or_default();
        if let Some(adapter) = user.username.as_deref().and_then(service_account)
            && self.state.known().fleet.adapter_of_account(&adapter).is_some()
        {
            return Ok(Caller { adapter: Some(adapter), ..Caller::default() });
        }
        let (may_watch, may_report) =
            (self.may(&user, "watch", "grants").await?, self.may(&user, "update", "grants").await?);
        if !may_watch && !may_report {
            return Err(Denial::Forbidden);
        }
        let may_have_keys = may_watch && self.may(&user, "get", "keys").await?;
        Ok(Caller { adapter: None, may_report, may_have_keys })
    }

    async fn may(&self, user: &UserInfo, verb: &str, part: &str) -> Result<bool, Denial> {
        let resource = ResourceAttributes {
            group: Some(tidegate_api::GROUP.to_owned()),
            resource: Some("adapters".to_owned()),
            subresource: Some(part.to_owned()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: user.username.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            resource_attributes: Some(resource),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let answered = in_time(reviews.create(&params, &review)).await.map_err(|_| Denial::Unavailable)?;
        Ok(answered.status.is_some_and(|status| status.allowed))
    }
}

/// The ServiceAccount that a user is.
fn service_account(username: &str) -> Option<ObjectId> {
    let (namespace, name) = username.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some(ObjectId::new(namespace, name))
}
