//! What the targets share: a stream cut into pieces, given to a decoder, must mean what it means whole.

use wireway_core::frame::{Decoder, FrameError, Framing, Message};

/// Everything that `pieces` hold: the messages, how the stream ended, and whether a frame was left unfinished.
pub type Meaning = (Vec<Vec<u8>>, Result<(), FrameError>, bool);

/// Decodes one piece after the other.
pub fn decode<'a>(framing: &Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Meaning {
    let mut decoder = Decoder::<Vec<u8>>::default();
    let mut messages = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.next(framing, &mut piece) {
                Ok(Some(Message::Lent(message))) => messages.push(message.to_vec()),
                Ok(Some(Message::Whole(message))) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error), false),
            }
        }
        assert!(piece.is_empty(), "a decoder that asks for more has taken all there is");
    }
    let partial = decoder.is_partial();
    (messages, Ok(()), partial)
}

/// Cuts `stream` at distances that `cuts` names, again and again: 0 gives an empty piece.
pub fn cut<'a>(mut stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut distances = cuts.iter().cycle();
    let mut idle = 0;
    while !stream.is_empty() {
        // Only zeros would never come to an end.
        let distance = match distances.next() {
            Some(0) if idle < cuts.len() => {
                idle += 1;
                0
            }
            Some(0) | None => stream.len(),
            Some(distance) => usize::from(*distance).min(stream.len()),
        };
        let (piece, rest) = stream.split_at(distance);
        pieces.push(piece);
        stream = rest;
    }
    pieces
}
