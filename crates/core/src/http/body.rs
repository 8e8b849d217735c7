//! Where a body ends: after so many bytes, or after the last of its chunks (RFC 9112, 7.1).

use super::{HttpError, HttpLimits};

/// The longest line with the size of a chunk: its extensions mean nothing to anybody, and are a way to send much.
const SIZE_LINE: usize = 4096;

/// A body that is being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    state: State,
    /// Bytes that may still come, of all chunks together.
    room: u64,
    /// Bytes of the longest trailers.
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are still to come.
    Length(u64),
    /// The line with the size of a chunk comes.
    Size,
    /// So many bytes of the chunk are still to come.
    Chunk(u64),
    /// The CRLF after a chunk comes.
    After,
    /// Trailers come, or the empty line that ends the body. So many bytes of them came.
    Trailers(usize),
    /// All is there.
    Done,
}

/// A step of reading a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the body.
    Data(&'a [u8]),
    /// The body is whole.
    End,
    /// What is there does not suffice for a step.
    More,
}

impl Body {
    /// A body of so many bytes.
    #[must_use]
    pub const fn of_length(bytes: u64) -> Self {
        let state = if bytes == 0 { State::Done } else { State::Length(bytes) };
        Self { state, room: 0, trailers: 0 }
    }

    /// A body in chunks.
    #[must_use]
    pub const fn chunked(limits: &HttpLimits) -> Self {
        Self { state: State::Size, room: limits.body, trailers: limits.head }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes are still to come, if that was said.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Takes the next piece from the front of `data`.
    ///
    /// # Errors
    /// What does not follow the grammar: the rest of the connection means nothing then.
    pub fn next<'a>(&mut self, data: &mut &'a [u8]) -> Result<Piece<'a>, HttpError> {
        loop {
            match self.state {
                State::Done => return Ok(Piece::End),
                State::Length(left) | State::Chunk(left) => {
                    if data.is_empty() {
                        return Ok(Piece::More);
                    }
                    let size = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                    let (piece, rest) = data.split_at(size);
                    *data = rest;
                    let left = left - size as u64;
                    self.state = match self.state {
                        State::Length(_) if left == 0 => State::Done,
                        State::Length(_) => State::Length(left),
                        _ if left == 0 => State::After,
                        _ => State::Chunk(left),
                    };
                    return Ok(Piece::Data(piece));
                }
                State::Size => {
                    let Some(line) = line(data, SIZE_LINE)? else { return Ok(Piece::More) };
                    let size = chunk_size(line)?;
                    if size > self.room {
                        return Err(HttpError::new(
                            413,
                            "the body is larger than this server takes",
                        ));
                    }
                    self.room -= size;
                    self.state = if size == 0 { State::Trailers(0) } else { State::Chunk(size) };
                }
                State::After => {
                    if data.len() < 2 {
                        let wrong = data.first().is_some_and(|&first| first != b'\r');
                        return if wrong { Err(AFTER) } else { Ok(Piece::More) };
                    }
                    if !data.starts_with(b"\r\n") {
                        return Err(AFTER);
                    }
                    *data = &data[2..];
                    self.state = State::Size;
                }
                State::Trailers(so_far) => {
                    let Some(line) = line(data, self.trailers - so_far)? else {
                        return Ok(Piece::More);
                    };
                    if line.is_empty() {
                        self.state = State::Done;
                        continue;
                    }
                    check_trailer(line)?;
                    self.state = State::Trailers((so_far + line.len() + 2).min(self.trailers));
                }
            }
        }
    }
}

const AFTER: HttpError = HttpError::bad("a chunk is longer than its size says");

/// The line at the front of `data`, without its CRLF; `None`: it is not whole yet.
fn line<'a>(data: &mut &'a [u8], most: usize) -> Result<Option<&'a [u8]>, HttpError> {
    let whole = *data;
    let Some(end) = memchr::memchr(b'\n', whole) else {
        return if whole.len() > most {
            Err(HttpError::new(431, "a line between the chunks is too long"))
        } else {
            Ok(None)
        };
    };
    if end > most {
        return Err(HttpError::new(431, "a line between the chunks is too long"));
    }
    let line =
        whole[..end].strip_suffix(b"\r").ok_or(HttpError::bad("a line does not end with CRLF"))?;
    if line.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(HttpError::bad("a line between the chunks has a control character"));
    }
    *data = &whole[end + 1..];
    Ok(Some(line))
}

/// `1*HEXDIG`, then nothing or an extension, which is passed over.
fn chunk_size(line: &[u8]) -> Result<u64, HttpError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = &line[digits..];
    if digits == 0 || digits > 16 {
        return Err(HttpError::bad("the size of a chunk is not a hexadecimal number"));
    }
    let extension = rest.trim_ascii_start();
    if !(rest.is_empty() || extension.starts_with(b";")) {
        return Err(HttpError::bad(
            "the size of a chunk is followed by something else than an extension",
        ));
    }
    Ok(line[..digits]
        .iter()
        .fold(0, |sum, &digit| sum << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or(0))))
}

/// A trailer is a field; they are checked, and not handed on: RFC 9110, 6.5.1, lets a recipient drop them.
fn check_trailer(line: &[u8]) -> Result<(), HttpError> {
    let name = memchr::memchr(b':', line).map_or(&line[..0], |at| &line[..at]);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(token) {
        return Err(HttpError::bad("a trailer is not a field"));
    }
    Ok(())
}
