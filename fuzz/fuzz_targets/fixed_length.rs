//! Messages of one size: `chunks`, over every cut, and back again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::{FixedLength, Framing};
use wireway_fuzz::framing::{consistent, round_trip};

fuzz_target!(|input: (&[u8], [u8; 3], u8)| {
    let (stream, cuts, size) = input;
    let size = usize::from(size) + 1;
    let Some(framing) = FixedLength::new(size).map(Framing::FixedLength) else {
        unreachable!("an allowed size")
    };
    let chunks = stream.chunks_exact(size);
    let rest = chunks.remainder().to_vec();
    let expected = (chunks.map(<[u8]>::to_vec).collect(), Ok(()), rest);
    assert_eq!(consistent(&framing, stream, &cuts), expected);
    assert_eq!(round_trip(&framing, stream), stream.len() == size);
});
