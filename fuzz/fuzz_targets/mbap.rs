//! Modbus TCP: against a decoder of a few lines, over every cut, and back again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::{FrameError, Framing, Mbap};
use wireway_fuzz::framing::{consistent, plain, round_trip};

fuzz_target!(|input: (&[u8], [u8; 3], u16)| {
    let (stream, cuts, limit) = input;
    let limit = usize::from(limit);
    let framing = Framing::Mbap(Mbap::new(limit));

    let meaning = consistent(&framing, stream, &cuts);
    let own = meaning.1.clone();
    let model = plain(stream, |data| {
        let word = |at: usize| data.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        let bad = || {
            assert!(matches!(own, Err(FrameError::Bad(_))));
            Err(own.clone().unwrap_err())
        };
        match (word(2), word(4)) {
            (Some(1..), _) | (_, Some(..2)) => bad(),
            (_, Some(length)) => {
                let total = usize::from(length) + 6;
                if total > limit {
                    return Err(FrameError::TooLarge { length: total as u64, limit: limit as u64 });
                }
                Ok(Some((total, 0)))
            }
            _ => Ok(None),
        }
    });
    assert_eq!(meaning, model);
    for message in &meaning.0 {
        assert!(round_trip(&framing, message), "a message that was read is refused");
    }
});
