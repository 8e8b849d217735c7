//! Why bytes are not a message, in words for the person who reads the log.
//!
//! Knows nothing of who closes what: [`FrameError::code`] is only a name.

use std::fmt;

use super::bytes;

/// Bytes that can not be accepted, or a message that can not be sent.
///
/// On the way in the stream has lost its footing: nothing after it is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// A message of `length` bytes, of which `limit` are allowed.
    TooLarge {
        /// The length that was announced, bytes.
        length: u64,
        /// The limit that it broke, bytes.
        limit: u64,
    },
    /// No delimiter where the largest message, of `limit` bytes, would have ended.
    Endless {
        /// The limit, bytes.
        limit: u64,
    },
    /// There is no memory for a message of `length` bytes, which the limit allows.
    NoMemory {
        /// The length, bytes.
        length: u64,
    },
    /// The bytes break the rules of the framing.
    Bad(Box<str>),
    /// A custom framing said so, or broke the rules of custom framings.
    Custom(Box<str>),
}

impl FrameError {
    pub(crate) fn bad(text: impl Into<Box<str>>) -> Self {
        Self::Bad(text.into())
    }

    /// The close reason: `frame-too-large` or `bad-frame`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::Endless { .. } | Self::NoMemory { .. } => {
                "frame-too-large"
            }
            Self::Bad(_) | Self::Custom(_) => "bad-frame",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { length, limit } => {
                write!(f, "frame of {length} bytes announced, the limit is {}", bytes(*limit))
            }
            Self::Endless { limit } => {
                write!(f, "no delimiter within {}, the limit of a message", bytes(*limit))
            }
            Self::NoMemory { length } => write!(f, "no memory for a frame of {}", bytes(*length)),
            Self::Bad(text) | Self::Custom(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_code_and_a_sentence() {
        let table = [
            (
                FrameError::TooLarge { length: 1001, limit: 1000 },
                "frame-too-large",
                "frame of 1001 bytes announced, the limit is 1000 bytes",
            ),
            (
                FrameError::Endless { limit: 1 },
                "frame-too-large",
                "no delimiter within 1 byte, the limit of a message",
            ),
            (
                FrameError::NoMemory { length: 1 << 40 },
                "frame-too-large",
                "no memory for a frame of 1099511627776 bytes",
            ),
            (FrameError::bad("no"), "bad-frame", "no"),
            (FrameError::Custom("cut raised".into()), "bad-frame", "cut raised"),
        ];
        for (error, code, text) in table {
            assert_eq!((error.code(), error.to_string().as_str()), (code, text));
        }
    }
}
