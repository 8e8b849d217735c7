//! Lengths as protocol buffers write them: against a reader in 128 bits, over every cut, and back again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::{FrameError, Framing, Varint};
use wireway_fuzz::framing::{consistent, plain, round_trip};

fuzz_target!(|input: (&[u8], [u8; 3], bool, u16)| {
    let (stream, cuts, wide, limit) = input;
    let (most, bits) = if wide { (10, 64) } else { (5, 32) };
    let limit = usize::from(limit);
    let Some(framing) = Varint::new(most, limit).map(Framing::Varint) else {
        unreachable!("an allowed size")
    };

    let meaning = consistent(&framing, stream, &cuts);
    // The texts of other errors are the framing's own: only that there is one is compared.
    let own = meaning.1.clone();
    let bad = || {
        assert!(matches!(own, Err(FrameError::Bad(_))));
        Err(own.clone().unwrap_err())
    };
    let model = plain(stream, |data| {
        let size = data.iter().take(most).position(|byte| byte & 0x80 == 0);
        let Some(last) = size else {
            // The last byte may say too much before it says that more follow.
            return if data.len() >= most { bad() } else { Ok(None) };
        };
        let digits = data[..=last].iter().rev();
        let length = digits.fold(0_u128, |value, digit| value << 7 | u128::from(digit & 0x7f));
        if length >> bits != 0 {
            return bad();
        }
        if length > limit as u128 {
            return Err(FrameError::TooLarge { length: length as u64, limit: limit as u64 });
        }
        Ok(Some((last + 1 + length as usize, last + 1)))
    });
    assert_eq!(meaning, model);
    assert_eq!(round_trip(&framing, stream), stream.len() <= limit);
});
