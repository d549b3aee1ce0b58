//! Certificates as files, and as the kubelet swaps them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

/// How long anything may take that is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// A port that is free.
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A certificate for `localhost` and its key, as files named `tls.crt` and `tls.key`.
pub(crate) fn write_pair(folder: &Path) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("tls.crt"), pair.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
    pair.cert.der().clone()
}

/// A folder as the kubelet mounts a Secret: visible links through `..data`, which points at one version;
/// of these files too.
pub(crate) fn mounted(folder: &Path, more: &[&str]) -> CertificateDer<'static> {
    let first = write_pair(&folder.join("..v1"));
    std::os::unix::fs::symlink("..v1", folder.join("..data")).unwrap();
    for name in [&["tls.crt", "tls.key"], more].concat() {
        std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
    first
}

/// Points the links at another version.
pub(crate) fn swap(folder: &Path, version: &str) {
    std::os::unix::fs::symlink(version, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

/// Waits until `holds`.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}
