//! Length prefixes of every width and order, over every cut: against a decoder of a few lines, and back again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::frame::{ByteOrder, FrameError, Framing, LengthPrefix, MAX_HEADER};
use wireway_fuzz::{Meaning, cut, decode};

/// What a stream means, read in the plainest way.
fn plain(mut stream: &[u8], width: usize, order: ByteOrder, limit: usize) -> Meaning {
    let mut messages = Vec::new();
    while stream.len() >= width {
        let mut digits = stream[..width].to_vec();
        if order == ByteOrder::Little {
            digits.reverse();
        }
        let length = digits.iter().fold(0_u64, |value, digit| value << 8 | u64::from(*digit));
        if length > limit as u64 {
            return (messages, Err(FrameError { length, limit: limit as u64 }), false);
        }
        let Some(message) = stream[width..].get(..length as usize) else { break };
        messages.push(message.to_vec());
        stream = &stream[width + message.len()..];
    }
    (messages, Ok(()), !stream.is_empty())
}

fuzz_target!(|input: (&[u8], [u8; 3], u8, u16)| {
    let (stream, cuts, kind, limit) = input;
    let width = [1, 2, 3, 4, 8][usize::from(kind >> 1) % 5];
    let order = if kind & 1 == 0 { ByteOrder::Big } else { ByteOrder::Little };
    let limit = usize::from(limit);
    let Some(prefix) = LengthPrefix::new(width, order, limit) else {
        unreachable!("an allowed width")
    };
    let framing = Framing::LengthPrefix(prefix);

    let meaning = plain(stream, width, order, limit);
    assert_eq!(decode(&framing, [stream]), meaning);
    assert_eq!(decode(&framing, cut(stream, &cuts)), meaning);

    // What was read can be written, and gives the same bytes.
    let mut written = Vec::new();
    for message in &meaning.0 {
        let mut header = [0; MAX_HEADER];
        match framing.header(message.len(), &mut header) {
            Ok(size) => written.extend_from_slice(&header[..size]),
            Err(error) => panic!("a message that was read is refused: {error}"),
        }
        written.extend_from_slice(message);
    }
    assert!(stream.starts_with(&written));
});
