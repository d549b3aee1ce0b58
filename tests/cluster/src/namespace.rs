//! A namespace of one test's own, deleted when the test ends.

use std::fmt;
use std::ops::Deref;

use crate::ControlPlane;

/// A namespace that nobody else uses. Dropping it asks for its deletion and does not wait for it.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a ControlPlane,
    name: String,
}

impl<'a> Namespace<'a> {
    pub(crate) fn of(cluster: &'a ControlPlane, name: String) -> Self {
        Self { cluster, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Deref for Namespace<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Namespace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // The API server may be down by a test's own wish, and a control plane of ours goes as a whole.
        let path = format!("/api/v1/namespaces/{}", self.name);
        let delete = ["delete", "--raw", &path, "--request-timeout=5s"];
        let _ = self.cluster.kubectl(&delete);
    }
}
