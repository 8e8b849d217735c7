//! What holds for every framing, whatever the bytes: cuts change nothing, nothing is lost, what is sent comes back.

use wireway_core::frame::{Decoder, FrameError, Framing, Message};

use crate::cut;

/// Everything that pieces hold: the messages, how the stream ended, and the bytes of a frame left unfinished.
pub type Meaning = (Vec<Vec<u8>>, Result<(), FrameError>, Vec<u8>);

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
                Err(error) => {
                    let again = decoder.next(framing, &mut piece);
                    assert_eq!(again, Err(error.clone()), "asked again it says something else");
                    return (messages, Err(error), Vec::new());
                }
            }
        }
        assert!(piece.is_empty(), "a decoder that asks for more has taken all there is");
    }
    let pending = decoder.pending();
    assert_eq!(decoder.is_partial(), pending > 0);
    let kept = decoder.switch();
    assert_eq!((kept.len(), decoder.pending()), (pending, 0));
    (messages, Ok(()), kept)
}

/// Decodes `stream` whole, in pieces as `cuts` says, and byte by byte: all must mean the same, which is returned.
/// What is kept of it must be its end; and each message, sent again, must arrive or be refused.
pub fn consistent(framing: &Framing, stream: &[u8], cuts: &[u8]) -> Meaning {
    let meaning = decode(framing, [stream]);
    assert_eq!(decode(framing, cut(stream, cuts)), meaning);
    assert_eq!(decode(framing, stream.chunks(1)), meaning);
    assert!(stream.ends_with(&meaning.2));
    for message in &meaning.0 {
        round_trip(framing, message);
    }
    round_trip(framing, stream);
    meaning
}

/// Sends a message; whether the framing takes it.
pub fn round_trip(framing: &Framing, message: &[u8]) -> bool {
    let mut frame = Vec::new();
    if framing.encode(message, &mut frame).is_err() {
        assert!(frame.is_empty());
        return false;
    }
    assert_eq!(decode(framing, [frame.as_slice()]), (vec![message.to_vec()], Ok(()), vec![]));
    assert_eq!(decode(framing, frame.chunks(1)), (vec![message.to_vec()], Ok(()), vec![]));
    true
}

/// Cuts `stream` with `head`, which reads the front of a frame: its length in all and what of it is stripped, `None`
/// as long as that is not known. The plainest decoder there is.
pub fn plain(
    mut stream: &[u8],
    head: impl Fn(&[u8]) -> Result<Option<(usize, usize)>, FrameError>,
) -> Meaning {
    let mut messages = Vec::new();
    loop {
        match head(stream) {
            Err(error) => return (messages, Err(error), Vec::new()),
            Ok(Some((length, strip))) if length <= stream.len() => {
                messages.push(stream[strip..length].to_vec());
                stream = &stream[length..];
            }
            Ok(_) => return (messages, Ok(()), stream.to_vec()),
        }
    }
}
