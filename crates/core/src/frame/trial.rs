//! What the tests of all framings share: a stream cut at every point means what it means whole.

use super::{Decoder, FrameError, Framing, Message};

/// The messages, how the stream ended, and how many bytes of a begun frame are kept.
pub type Meaning = (Vec<Vec<u8>>, Result<(), FrameError>, usize);

/// Decodes one piece after the other.
pub fn decode<'a>(framing: &Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Meaning {
    let mut decoder = Decoder::<Vec<u8>>::default();
    let mut messages = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.next(framing, &mut piece) {
                Ok(Some(Message::Lent(bytes))) => messages.push(bytes.to_vec()),
                Ok(Some(Message::Whole(bytes))) => messages.push(bytes),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(
                        decoder.next(framing, &mut piece),
                        Err(error.clone()),
                        "asked again"
                    );
                    return (messages, Err(error), 0);
                }
            }
        }
        assert!(piece.is_empty(), "a decoder that asks for more has taken all there is");
        assert_eq!(decoder.is_partial(), decoder.pending() > 0);
    }
    (messages, Ok(()), decoder.pending())
}

/// Encodes `messages`, decodes the stream with every two cuts and in single bytes, and looks at what
/// a switch of the framing gives back at each point.
pub fn cut_everywhere(framing: &Framing, messages: &[&[u8]]) {
    let mut stream = Vec::new();
    let mut ends = vec![0];
    for message in messages {
        framing.encode(message, &mut stream).unwrap();
        ends.push(stream.len());
    }
    let expected: Vec<Vec<u8>> = messages.iter().map(|message| message.to_vec()).collect();
    // Two cuts of a long stream are many: the second then takes larger steps.
    let step = 1 + stream.len() / 300;
    for first in 0..=stream.len() {
        for second in (first..=stream.len()).step_by(step) {
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            let (messages, end, pending) = decode(framing, pieces);
            assert_eq!((messages, end, pending), (expected.clone(), Ok(()), 0), "{first} {second}");
        }
        let whole = ends.iter().rev().find(|&&end| end <= first).unwrap();
        assert_eq!(given_back(framing, [&stream[..first]]), stream[*whole..first]);
        assert_eq!(given_back(framing, stream[..first].chunks(1)), stream[*whole..first]);
    }
    assert_eq!(decode(framing, stream.chunks(1)), (expected, Ok(()), 0));
}

fn given_back<'a>(framing: &Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut decoder = Decoder::<Vec<u8>>::default();
    for mut piece in pieces {
        while decoder.next(framing, &mut piece).unwrap().is_some() {}
    }
    let pending = decoder.pending();
    let bytes = decoder.switch();
    assert_eq!(bytes.len(), pending);
    assert!(!decoder.is_partial());
    bytes
}

/// Every cut of `stream`, and single bytes, give no message and `error`.
pub fn refused_everywhere(framing: &Framing, stream: &[u8], error: &FrameError) {
    let expected = (Vec::new(), Err(error.clone()), 0);
    for cut in 0..=stream.len() {
        assert_eq!(decode(framing, [&stream[..cut], &stream[cut..]]), expected, "cut at {cut}");
    }
    assert_eq!(decode(framing, stream.chunks(1)), expected, "single bytes");
}
