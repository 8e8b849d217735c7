//! What the targets share: a stream cut into pieces must mean what it means whole.

pub mod framing;

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
