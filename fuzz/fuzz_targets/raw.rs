//! Raw framing: each piece that holds something is a message, unchanged, and nothing is ever kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::Framing;
use wireway_fuzz::cut;
use wireway_fuzz::framing::decode;

fuzz_target!(|input: (&[u8], [u8; 3])| {
    let (stream, cuts) = input;
    let pieces = cut(stream, &cuts);
    let expected: Vec<Vec<u8>> =
        pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect();
    assert_eq!(decode(&Framing::Raw, pieces), (expected, Ok(()), vec![]));
});
