//! TPKT (RFC 1006): against a decoder of a few lines, over every cut, and back again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::{FrameError, Framing, Tpkt};
use wireway_fuzz::framing::{consistent, plain, round_trip};

fuzz_target!(|input: (&[u8], [u8; 3], u16)| {
    let (stream, cuts, limit) = input;
    let limit = usize::from(limit);
    let framing = Framing::Tpkt(Tpkt::new(limit));
    let limit = limit.min(Tpkt::LARGEST);

    let meaning = consistent(&framing, stream, &cuts);
    let own = meaning.1.clone();
    let model = plain(stream, |data| {
        let length = |field: &[u8]| usize::from(u16::from_be_bytes([field[0], field[1]]));
        let bad = match data {
            [] => return Ok(None),
            [3] | [3, _] | [3, _, _] => return Ok(None),
            [3, _, field @ ..] => length(field) < 7,
            _ => true,
        };
        if bad {
            assert!(matches!(own, Err(FrameError::Bad(_))));
            return Err(own.clone().unwrap_err());
        }
        let total = length(&data[2..]);
        if total - 4 > limit {
            return Err(FrameError::TooLarge { length: total as u64 - 4, limit: limit as u64 });
        }
        Ok(Some((total, 4)))
    });
    assert_eq!(meaning, model);
    assert_eq!(round_trip(&framing, stream), (3..=limit).contains(&stream.len()));
});
