//! The bytes that are sent and must come back.
//!
//! A connection's stream is one endless repetition of a few frames with different, pseudo-random
//! contents. What should come back at a position of the stream is therefore known without keeping what
//! was sent, and one comparison checks lengths, contents and order at once. Connections start at
//! different frames, so bytes that stray to another connection are noticed too.
//!
//! Owns the template; knows no socket.

/// The repeating stream.
pub struct Pattern {
    /// One period, and then its beginning again, so that any piece up to `longest` is contiguous.
    bytes: Vec<u8>,
    period: usize,
    frame: usize,
}

impl Pattern {
    /// Frames of `size` payload bytes, with a 4-byte big-endian length before each if `framed`.
    ///
    /// `longest`: the longest piece that will be asked for, in bytes.
    pub fn new(size: usize, framed: bool, longest: usize) -> Self {
        let frame = size + if framed { 4 } else { 0 };
        // Enough different frames to notice disorder, few enough to stay in the cache.
        let frames = (16 * 1024 / frame).clamp(3, 64);
        let period = frames * frame;
        let mut bytes = Vec::with_capacity(period + longest);
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        for _ in 0..frames {
            if framed {
                bytes.extend_from_slice(&(size as u32).to_be_bytes());
            }
            for _ in 0..size {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.push(state as u8);
            }
        }
        for index in 0..longest {
            bytes.push(bytes[index]);
        }
        Self { bytes, period, frame }
    }

    /// Bytes of one frame, its prefix included.
    pub fn frame(&self) -> usize {
        self.frame
    }

    /// Where the connection with this index starts.
    pub fn start(&self, index: usize) -> usize {
        (index * self.frame) % self.period
    }

    /// `length` bytes from `position`, which is below the period.
    pub fn piece(&self, position: usize, length: usize) -> &[u8] {
        &self.bytes[position..position + length]
    }

    /// The position `length` bytes after `position`.
    pub fn advance(&self, position: usize, length: usize) -> usize {
        let next = position + length;
        if next < self.period { next } else { next % self.period }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_big_endian_and_the_end_joins_the_start() {
        let pattern = Pattern::new(300, true, 1000);
        assert_eq!(pattern.frame(), 304);
        assert_eq!(pattern.piece(0, 4), [0, 0, 1, 44]);
        assert_eq!(pattern.piece(304, 4), [0, 0, 1, 44]);
        let near_the_end = pattern.advance(0, pattern.period - 2);
        let mut joined = pattern.piece(near_the_end, 2).to_vec();
        joined.extend_from_slice(pattern.piece(0, 6));
        assert_eq!(pattern.piece(near_the_end, 8), joined);
        assert_eq!(pattern.advance(near_the_end, 2), 0);
    }

    #[test]
    fn frames_differ() {
        let pattern = Pattern::new(100, false, 100);
        assert_ne!(pattern.piece(0, 100), pattern.piece(100, 100));
        assert_ne!(pattern.start(0), pattern.start(1));
    }
}
