//! Whatever a connection brings, the face answers or ends it.
#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use prometheus_client::registry::Registry;
use tidegate_bridge::{Bridge, BridgeParts, Grants, QueueLimits, SystemClock};
use tidegate_http::{HttpFace, HttpLimits, Routes};
use tidegate_memory::{MemoryBroker, MemoryRetained, RetainedLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

fn face() -> &'static (Runtime, Arc<HttpFace>) {
    static FACE: OnceLock<(Runtime, Arc<HttpFace>)> = OnceLock::new();
    FACE.get_or_init(|| {
        let mut registry = Registry::default();
        let broker = Arc::new(MemoryBroker::new(QueueLimits::default(), &mut registry));
        let parts = BridgeParts {
            grants: Arc::new(Grants::new()),
            publisher: broker.clone(),
            subscriber: broker,
            retained: Arc::new(MemoryRetained::new(RetainedLimits::default(), &mut registry)),
            clock: Arc::new(SystemClock),
            senml_limits: tidegate_senml::Limits::default(),
        };
        let bridge = Arc::new(Bridge::new(parts, &mut registry));
        let limits = HttpLimits { head_read_max: Duration::from_millis(50), ..HttpLimits::default() };
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        (runtime, HttpFace::new(bridge, limits, &mut registry))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (runtime, face) = face();
    runtime.block_on(async {
        let routes = Routes { requests: true, upgrade: None };
        let (mut client, server) = tokio::io::duplex(64 * 1_024);
        let serving = tokio::spawn(Arc::clone(face).serve_connection(server, routes, None));
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
        drop(client);
        let _ = tokio::time::timeout(Duration::from_secs(5), serving).await.expect("the connection ends");
    });
});
