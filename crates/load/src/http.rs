//! Answers of HTTP/1.1, sans I/O: where each ends, its status, and whether the connection goes on (RFC 9112).
//!
//! Owns the state of one connection's stream. The grammar of a head is httparse's. Most answers of a server have the same
//! head for a second at least: one that was read is remembered, and its like is recognized without being read again.

use memchr::memmem;

/// The longest head that is read, bytes.
const LONGEST_HEAD: usize = 64 * 1024;
const HEADERS: usize = 128;

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilTheEnd,
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    body: Body,
    last: bool,
}

/// The head that came last, of all connections of a thread.
#[derive(Default)]
pub struct Known {
    bytes: Vec<u8>,
    head: Option<Head>,
}

#[derive(Default, Clone, Copy)]
enum State {
    #[default]
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    UntilTheEnd,
}

/// The stream of answers of one connection.
#[derive(Default)]
pub struct Reader {
    state: State,
    /// A head, or a line of a chunk, that is not whole.
    partial: Vec<u8>,
    status: u16,
    last: bool,
}

/// Whole answers, by status.
pub trait Sink {
    /// One came.
    fn answer(&mut self, status: u16);
}

impl Reader {
    /// Takes bytes; tells `sink` each answer that is whole. `head_only`: the requests were HEAD.
    ///
    /// # Errors
    /// What came is no answer.
    pub fn take(
        &mut self,
        mut data: &[u8],
        head_only: bool,
        known: &mut Known,
        sink: &mut dyn Sink,
    ) -> Result<(), String> {
        while !data.is_empty() {
            match self.state {
                State::Head => {
                    if let Some(head) = self.head(&mut data, known)? {
                        self.begin(head, head_only, sink);
                    }
                }
                State::Body(left) => {
                    let taken = left.min(data.len() as u64);
                    data = &data[taken as usize..];
                    self.state = State::Body(left - taken);
                    if left == taken {
                        self.done(sink);
                    }
                }
                State::ChunkSize => {
                    let Some(line) = self.line(&mut data)? else { return Ok(()) };
                    self.state = match chunk_size(&line)? {
                        0 => State::Trailer,
                        size => State::Chunk(size),
                    };
                }
                State::Chunk(left) => {
                    let taken = left.min(data.len() as u64);
                    data = &data[taken as usize..];
                    let left = left - taken;
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                }
                State::ChunkEnd => {
                    let Some(line) = self.line(&mut data)? else { return Ok(()) };
                    if !line.is_empty() {
                        return Err("a chunk is longer than it says".to_owned());
                    }
                    self.state = State::ChunkSize;
                }
                State::Trailer => {
                    let Some(line) = self.line(&mut data)? else { return Ok(()) };
                    if line.is_empty() {
                        self.done(sink);
                    }
                }
                State::UntilTheEnd => return Ok(()),
            }
        }
        Ok(())
    }

    /// The server closed: whether that was the end of an answer, which `sink` is told then.
    pub fn end(&mut self, sink: &mut dyn Sink) -> bool {
        let ends = matches!(self.state, State::UntilTheEnd);
        if ends {
            self.done(sink);
        }
        ends
    }

    /// Whether the last answer said that none follows it on this connection.
    pub fn is_last(&self) -> bool {
        self.last && matches!(self.state, State::Head) && self.partial.is_empty()
    }

    fn begin(&mut self, head: Head, head_only: bool, sink: &mut dyn Sink) {
        if (100..200).contains(&head.status) && head.status != 101 {
            return; // an interim one: the answer follows it
        }
        (self.status, self.last) = (head.status, head.last);
        self.state = match head.body {
            _ if head_only => State::Body(0),
            Body::Length(length) => State::Body(length),
            Body::Chunked => State::ChunkSize,
            Body::UntilTheEnd => State::UntilTheEnd,
        };
        if matches!(self.state, State::Body(0)) {
            self.done(sink);
        }
    }

    fn done(&mut self, sink: &mut dyn Sink) {
        self.state = State::Head;
        sink.answer(self.status);
    }

    fn head(&mut self, data: &mut &[u8], known: &mut Known) -> Result<Option<Head>, String> {
        if self.partial.is_empty() && known.head.is_some() && data.starts_with(&known.bytes) {
            *data = &data[known.bytes.len()..];
            return Ok(known.head);
        }
        let before = self.partial.len();
        self.partial.extend_from_slice(data);
        let from = before.saturating_sub(3);
        let Some(found) = memmem::find(&self.partial[from..], b"\r\n\r\n") else {
            if self.partial.len() > LONGEST_HEAD {
                return Err("the head of an answer has no end".to_owned());
            }
            if !b"HTTP/1.".starts_with(&self.partial[..self.partial.len().min(7)]) {
                return Err("what came is no answer of HTTP/1.1".to_owned());
            }
            *data = &[];
            return Ok(None);
        };
        let length = from + found + 4;
        *data = &data[length - before..];
        self.partial.truncate(length);
        let head = read_head(&self.partial)?;
        known.bytes.clone_from(&self.partial);
        known.head = Some(head);
        self.partial.clear();
        Ok(Some(head))
    }

    /// A line without its end.
    fn line(&mut self, data: &mut &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Some(end) = memchr::memchr(b'\n', data) else {
            self.partial.extend_from_slice(data);
            *data = &[];
            if self.partial.len() > LONGEST_HEAD {
                return Err("a chunk has no size".to_owned());
            }
            return Ok(None);
        };
        self.partial.extend_from_slice(&data[..end]);
        *data = &data[end + 1..];
        let mut line = std::mem::take(&mut self.partial);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(line);
    let digits = text.split(';').next().unwrap_or_default().trim();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16)
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| format!("{digits:?} is no size of a chunk"))
}

fn read_head(bytes: &[u8]) -> Result<Head, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err("the head of an answer is cut".to_owned()),
        Err(error) => return Err(format!("what came is no answer of HTTP/1.1: {error}")),
    }
    let status = response.code.unwrap_or(0);
    let mut last = response.version == Some(0);
    let (mut length, mut chunked) = (None, None);
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value).to_ascii_lowercase();
        let mut words = value.split(',').map(str::trim);
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let said = words.next().and_then(|word| word.parse::<u64>().ok());
                if said.is_none() || (length.is_some() && length != said) {
                    return Err(format!("{value:?} is no Content-Length"));
                }
                length = said;
            }
            "transfer-encoding" => chunked = Some(words.next_back() == Some("chunked")),
            "connection" => {
                for word in words {
                    last = (last || word == "close") && word != "keep-alive";
                }
            }
            _ => {}
        }
    }
    let body = match (status, chunked, length) {
        (100..=199 | 204 | 304, ..) => Body::Length(0),
        (_, Some(true), _) => Body::Chunked,
        (_, None, Some(length)) => Body::Length(length),
        _ => Body::UntilTheEnd,
    };
    Ok(Head { status, body, last: last || body == Body::UntilTheEnd })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sink for Vec<u16> {
        fn answer(&mut self, status: u16) {
            self.push(status);
        }
    }

    fn read(pieces: &[&[u8]], head_only: bool) -> (Vec<u16>, bool, Result<(), String>) {
        let (mut reader, mut known, mut answers) = (Reader::default(), Known::default(), vec![]);
        let mut outcome = Ok(());
        for piece in pieces {
            outcome =
                outcome.and_then(|()| reader.take(piece, head_only, &mut known, &mut answers));
        }
        (answers, reader.is_last(), outcome)
    }

    const MANY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
        HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld\
        HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n\
        HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    #[test]
    fn answers_at_every_cut() {
        let expected = (vec![200, 200, 404, 204, 304, 500], true, Ok(()));
        assert_eq!(read(&[MANY], false), expected);
        for cut in 1..MANY.len() {
            assert_eq!(read(&[&MANY[..cut], &MANY[cut..]], false), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = MANY.chunks(1).collect();
        assert_eq!(read(&bytes, false), expected);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(read(&[one, one], true), (vec![200, 200], false, Ok(())));
    }

    #[test]
    fn an_answer_that_ends_with_the_connection() {
        let (mut reader, mut known, mut answers) = (Reader::default(), Known::default(), vec![]);
        reader.take(b"HTTP/1.0 200 OK\r\n\r\nhel", false, &mut known, &mut answers).unwrap();
        reader.take(b"lo", false, &mut known, &mut answers).unwrap();
        assert!(answers.is_empty() && !reader.is_last());
        assert!(reader.end(&mut answers));
        assert_eq!(answers, [200]);
        assert!(!Reader::default().end(&mut answers));
    }

    #[test]
    fn what_is_no_answer() {
        for (bytes, said) in [
            (&b"SSH-2.0-x\r\n"[..], "no answer of HTTP/1.1"),
            (b"HTTP/1.1 two hundred\r\n\r\n", "no answer of HTTP/1.1"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "no Content-Length"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "no Content-Length",
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\n", "no size"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "longer"),
        ] {
            let (_, _, outcome) = read(&[bytes], false);
            assert!(outcome.unwrap_err().contains(said), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn keep_alive_of_http_1_0() {
        let one = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read(&[one], false), (vec![200], false, Ok(())));
    }
}
