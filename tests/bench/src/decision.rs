//! What a decision costs, and what a table weighs, from a thousand Things to a million.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tidegate_model::{
    Action, ChannelEntry, ChannelId, ContentType, Credential, Generation, GrantEntry, GrantTable, GrantTableBuilder,
    KeyEntry, KeyHash, PayloadPolicy, Permissions, Principal, ThingEntry, ThingId, Timestamp, Topic, TopicLimits,
    Validation,
};

const CHANNELS: u32 = 100;
/// Sessions of random Things, each of which is decided about once.
const DECISIONS: usize = 200_000;
/// Topics that are parsed before the clock starts, and permits that are dropped after it stops.
const BATCH: usize = 256;
const NOW: Timestamp = Timestamp::from_secs(1);

fn key(thing: u32) -> String {
    format!("key-of-thing-{thing:010}")
}

fn channel_id(number: u32) -> Result<ChannelId> {
    Ok(ChannelId::new("fleet", &format!("channel-{number}"))?)
}

fn table(things: u32) -> Result<GrantTable> {
    let mut builder = GrantTableBuilder::new(Generation(1), 7);
    let content_type = ContentType::parse("application/json")?;
    for number in 0..CHANNELS {
        let payload = PayloadPolicy {
            content_type: content_type.clone(),
            admit: vec![],
            validate: Validation::None,
            bytes_max: 1_000,
        };
        builder.channel(&ChannelEntry { id: channel_id(number)?, aliases: vec![], payload })?;
    }
    for thing in 0..things {
        let grants = (0..3).map(|n| {
            let permissions = Permissions { publish: true, subscribe: n > 0 };
            Ok(GrantEntry {
                channel: channel_id((thing + n * 7) % CHANNELS)?,
                permissions,
                publish: None,
                subscribe: None,
            })
        });
        builder.thing(&ThingEntry {
            id: ThingId::new("fleet", &format!("thing-{thing}"))?,
            aliases: vec![],
            keys: vec![KeyEntry {
                hash: KeyHash::of(key(thing).as_bytes()),
                shared: None,
                not_before: None,
                not_after: None,
            }],
            certificate: None,
            grants: grants.collect::<Result<_>>()?,
        })?;
    }
    Ok(builder.build())
}

fn resident_bytes() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(kib * 1_024.0)
}

/// Nanoseconds until a session of a random Thing has its permit for a topic that was parsed.
fn authorize(table: &GrantTable, sessions: &[(u32, Principal)]) -> Result<f64> {
    let mut spent = Duration::ZERO;
    for batch in sessions.chunks(BATCH) {
        let topics = batch.iter().map(|(thing, _)| {
            let name = format!("channels/fleet.channel-{}/messages/a/b", thing % CHANNELS);
            Topic::parse_mqtt(&name, &TopicLimits::default()).map_err(|refusal| anyhow!("{refusal}"))
        });
        let topics: Vec<Topic> = topics.collect::<Result<_>>()?;
        let mut permits = Vec::with_capacity(BATCH);
        let begun = Instant::now();
        for ((_, principal), topic) in batch.iter().zip(topics) {
            permits.push(table.authorize(principal, Action::Publish, topic, NOW));
        }
        spent += begun.elapsed();
        ensure!(black_box(&permits).iter().all(Result::is_ok), "a decision was wrong");
    }
    Ok(spent.as_secs_f64() * 1e9 / sessions.len() as f64)
}

pub(crate) fn run() -> Result<()> {
    println!("Grant decision (random Thing, {DECISIONS} times)");
    println!("{:>10} {:>12} {:>16} {:>18}", "Things", "table MiB", "authorize ns", "authenticate ns");
    for things in [1_000, 100_000, 1_000_000] {
        let before = resident_bytes()?;
        let table = table(things)?;
        let weight = (resident_bytes()? - before) / (1_024.0 * 1_024.0);
        let mut at = 1_u32;
        let mut sessions: Vec<(u32, Principal)> = Vec::with_capacity(DECISIONS);
        for _ in 0..DECISIONS {
            at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let thing = (at >> 8) % things;
            let principal = table
                .authenticate(&Credential::Key(key(thing).as_bytes()), NOW)
                .map_err(|refusal| anyhow!("{refusal}"))?;
            sessions.push((thing, principal));
        }
        let authorize = authorize(&table, &sessions)?;
        let keys: Vec<String> = sessions.iter().map(|(thing, _)| key(*thing)).collect();
        let begun = Instant::now();
        for key in &keys {
            let principal = table.authenticate(&Credential::Key(key.as_bytes()), NOW);
            black_box(principal.map_err(|refusal| anyhow!("{refusal}"))?);
        }
        let authenticate = begun.elapsed().as_secs_f64() * 1e9 / DECISIONS as f64;
        println!("{things:>10} {weight:>12.1} {authorize:>16.0} {authenticate:>18.0}");
    }
    Ok(())
}
