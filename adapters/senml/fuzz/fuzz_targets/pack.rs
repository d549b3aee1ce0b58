//! Any bytes as a pack, in both formats: a verdict, the same from both doors, and what is valid survives a rewrite.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_senml::{Decimal, Format, Limits, parse, validate};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    for format in [Format::Json, Format::Cbor] {
        let parsed = parse(bytes, format, &limits);
        assert_eq!(parsed.as_ref().map(|_| ()).map_err(Clone::clone), validate(bytes, format, &limits));
        let Ok(pack) = parsed else { continue };
        assert!(pack.resolve(Decimal::from(2_000_000_000)).len() <= pack.records().len());
        assert!(validate(pack.to_json().as_bytes(), Format::Json, &limits).is_ok());
        assert!(validate(&pack.to_cbor(), Format::Cbor, &limits).is_ok());
    }
});
