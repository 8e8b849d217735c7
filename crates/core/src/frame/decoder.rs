//! What of a stream is left over between two pieces of it.
//!
//! Owns the bytes of a begun frame and nothing else; where frames end is the framings' business.
//!
//! ```text
//!                 header not whole              message not whole
//!   at rest ----------------------> front ---------------------------> body ----> at rest
//!      \           (or its end not seen: delimiters, custom framings)   ^
//!       +---------------------------------------------------------------+
//! ```
//!
//! `front` are the first bytes of the frame: up to 23 inside the decoder, more of them in a vector.
//! Once the length is known, `front` keeps what goes before the message, so that [`Decoder::switch`]
//! can give back every byte, and `body` is the message itself.

use super::custom::{self, Cut, Cutting};
use super::{Delimiter, FrameError, Framing, Head, Headed, Memory, Message};

/// Bytes of a begun frame that need no memory of their own.
const INLINE: usize = 23;

/// Bytes that a custom framing is shown at first; it is shown more when it asks.
const LOOK: usize = 4096;

struct Body<M> {
    memory: M,
    length: usize,
    filled: usize,
}

struct Begun<M> {
    /// The front, when it has outgrown the decoder.
    front: Vec<u8>,
    /// Custom framings: not asked again before so many bytes of the frame are here.
    need: usize,
    body: Option<Body<M>>,
}

impl<M> Default for Begun<M> {
    fn default() -> Self {
        Self { front: Vec::new(), need: 0, body: None }
    }
}

/// The state of one stream between two pieces. 32 bytes, and no heap memory between messages.
pub struct Decoder<M> {
    front: [u8; INLINE],
    filled: u8,
    begun: Option<Box<Begun<M>>>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self { front: [0; INLINE], filled: 0, begun: None }
    }
}

type Next<'a, M> = Result<Option<Message<'a, M>>, FrameError>;

impl<M: Memory> Decoder<M> {
    /// Takes the next message from the front of `data`, or, when it holds no whole message, all of
    /// `data`, and returns `None`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for a frame over the limit, for which there is no memory, or that breaks the
    /// framing's rules. That is the end of the stream: asked again with what is left of `data`, the
    /// decoder says the same.
    #[inline]
    pub fn next<'a>(&mut self, framing: &Framing, data: &mut &'a [u8]) -> Next<'a, M> {
        match framing {
            Framing::Raw => {
                let piece = std::mem::take(data);
                Ok((!piece.is_empty()).then_some(Message::Lent(piece)))
            }
            Framing::LengthPrefix(prefix) => self.announced(prefix, data),
            Framing::Delimiter(delimiter) => self.delimited(delimiter, data),
            Framing::FixedLength(framing) => self.announced(framing, data),
            Framing::Varint(framing) => self.announced(framing, data),
            Framing::Tpkt(framing) => self.announced(framing, data),
            Framing::Mbap(framing) => self.announced(framing, data),
            Framing::Custom(cut) => self.custom(&**cut, data),
        }
    }

    /// Whether a frame has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.at_rest()
    }

    /// The bytes of a begun frame that are kept here, its header included.
    pub fn pending(&self) -> usize {
        let body = self.begun.as_ref().and_then(|begun| begun.body.as_ref());
        self.front().len() + body.map_or(0, |body| body.filled)
    }

    /// Memory of the begun frame, bytes: the room of its whole message once its length is known.
    pub fn heap_size(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| {
            let body = begun.body.as_ref().map_or(0, |body| body.length);
            size_of::<Begun<M>>() + begun.front.capacity() + body
        })
    }

    /// Ends the begun frame and gives back all of its bytes, header included, in their order: before
    /// the stream goes on under another framing they are decoded anew. The decoder is at rest then.
    pub fn switch(&mut self) -> Vec<u8> {
        let mut bytes = self.front().to_vec();
        if let Some(body) = self.begun.as_mut().and_then(|begun| begun.body.as_mut()) {
            let filled = body.filled;
            bytes.extend_from_slice(&body.memory.bytes()[..filled]);
        }
        *self = Self::default();
        bytes
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.front.capacity())
    }

    #[inline]
    fn at_rest(&self) -> bool {
        self.filled == 0 && self.begun.is_none()
    }

    // --- frames that say how long they are ---

    #[inline]
    fn announced<'a>(&mut self, framing: &impl Headed, data: &mut &'a [u8]) -> Next<'a, M> {
        if self.at_rest() {
            // The usual case: we stand at the start of a frame.
            if let Head::Frame { skip, body, .. } = framing.head(data)?
                && let Some(message) = data.get(skip..skip + body)
            {
                *data = &data[skip + body..];
                return Ok(Some(Message::Lent(message)));
            }
            if data.is_empty() {
                return Ok(None);
            }
        }
        self.gather(framing, data)
    }

    #[cold]
    fn gather<'a>(&mut self, framing: &dyn Headed, data: &mut &'a [u8]) -> Next<'a, M> {
        while !self.has_body() {
            let have = self.front();
            let need = match framing.head(have)? {
                Head::Need(total) => total,
                Head::Frame { skip, body, .. } if skip <= have.len() => {
                    self.begin(skip, body)?;
                    break;
                }
                Head::Frame { skip, .. } => skip,
            };
            let take = (need - have.len()).min(data.len());
            if take == 0 {
                return Ok(None);
            }
            self.take(data, take, need)?;
        }
        Ok(self.fill(data))
    }

    // --- frames that end where a delimiter stands ---

    #[inline]
    fn delimited<'a>(&mut self, delimiter: &Delimiter, data: &mut &'a [u8]) -> Next<'a, M> {
        if self.at_rest() {
            if let Some(found) = delimiter.find(data)? {
                let message = &data[..found.message];
                *data = &data[found.frame..];
                return Ok(Some(Message::Lent(message)));
            }
            if data.is_empty() {
                return Ok(None);
            }
        }
        self.gather_delimited(delimiter, data)
    }

    #[cold]
    fn gather_delimited<'a>(&mut self, delimiter: &Delimiter, data: &mut &'a [u8]) -> Next<'a, M> {
        let have = self.front();
        let Some(found) = delimiter.find_across(have, data)? else {
            let all = data.len();
            self.take(data, all, delimiter.reach())?;
            return Ok(None);
        };
        let mut memory = allocate::<M>(found.message)?;
        let early = found.message.min(have.len());
        memory.bytes()[..early].copy_from_slice(&have[..early]);
        memory.bytes()[early..].copy_from_slice(&data[..found.message - early]);
        *data = &data[found.frame - have.len()..];
        *self = Self::default();
        Ok(Some(Message::Whole(memory)))
    }

    // --- frames that a function cuts ---

    fn custom<'a>(&mut self, cut: &dyn Cut, data: &mut &'a [u8]) -> Next<'a, M> {
        if !self.at_rest() {
            return self.gather_custom(cut, data);
        }
        if data.is_empty() {
            return Ok(None);
        }
        let mut shown = data.len().min(LOOK);
        loop {
            match custom::ask(cut, &data[..shown])? {
                Cutting::Frame { length, strip } => {
                    if let Some(message) = data.get(strip..length) {
                        *data = &data[length..];
                        return Ok(Some(Message::Lent(message)));
                    }
                    if strip > data.len() {
                        // Asked again when all that goes before the message is here.
                        self.keep(data, strip)?;
                        return Ok(None);
                    }
                    self.take(data, strip, strip)?;
                    self.begin(strip, length - strip)?;
                    return Ok(self.fill(data));
                }
                Cutting::Need(more) if shown + more > data.len() => {
                    self.keep(data, shown + more)?;
                    return Ok(None);
                }
                // At least twice as much: who asks byte by byte is asked a few times only.
                Cutting::Need(more) => shown = (shown + more).max(2 * shown).min(data.len()),
            }
        }
    }

    #[cold]
    fn gather_custom<'a>(&mut self, cut: &dyn Cut, data: &mut &'a [u8]) -> Next<'a, M> {
        let piece = *data;
        while !self.has_body() {
            let have = self.front().len();
            let need = self.begun.as_ref().map_or(1, |begun| begun.need);
            if have < need {
                let most = cut.limit();
                let take = (need.max((2 * have).min(most)) - have).min(data.len());
                self.take(data, take, most)?;
            }
            let front = self.front();
            if front.len() < need {
                return Ok(None);
            }
            match custom::ask(cut, front)? {
                Cutting::Need(more) => {
                    let need = front.len() + more;
                    self.begun.get_or_insert_default().need = need;
                }
                Cutting::Frame { length, strip } if length <= front.len() => {
                    // What it was shown beyond the frame came with this piece, and goes back to it.
                    let back = front.len() - length;
                    let taken = piece.len() - data.len();
                    if back > taken {
                        return Err(FrameError::Custom(custom::hindsight(length, need).into()));
                    }
                    let mut memory = allocate::<M>(length - strip)?;
                    memory.bytes().copy_from_slice(&front[strip..length]);
                    *data = &piece[taken - back..];
                    *self = Self::default();
                    return Ok(Some(Message::Whole(memory)));
                }
                Cutting::Frame { strip, .. } if strip > front.len() => {
                    self.begun.get_or_insert_default().need = strip;
                }
                Cutting::Frame { length, strip } => self.begin(strip, length - strip)?,
            }
        }
        Ok(self.fill(data))
    }

    /// All of `data` becomes the front of a frame of which `need` bytes are needed to go on.
    fn keep(&mut self, data: &mut &[u8], need: usize) -> Result<(), FrameError> {
        self.begun.get_or_insert_default().need = need;
        let all = data.len();
        self.take(data, all, need)
    }

    // --- the bytes of a begun frame ---

    fn front(&self) -> &[u8] {
        match &self.begun {
            Some(begun) if !begun.front.is_empty() => &begun.front,
            _ => &self.front[..usize::from(self.filled)],
        }
    }

    fn has_body(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.body.is_some())
    }

    /// Moves `count` bytes from `data` to the front, which never has more than `most`.
    fn take(&mut self, data: &mut &[u8], count: usize, most: usize) -> Result<(), FrameError> {
        let (taken, rest) = data.split_at(count);
        let filled = usize::from(self.filled);
        if self.begun.is_none() && filled + count <= INLINE {
            self.front[filled..filled + count].copy_from_slice(taken);
            self.filled += count as u8;
        } else {
            let front = &mut self.begun.get_or_insert_default().front;
            let spill = if front.is_empty() { filled } else { 0 };
            let total = front.len() + spill + count;
            if total > front.capacity() {
                let room = total.max((2 * front.capacity()).min(most));
                let refused = |_| FrameError::NoMemory { length: total as u64 };
                front.try_reserve_exact(room - front.len()).map_err(refused)?;
            }
            front.extend_from_slice(&self.front[..spill]);
            front.extend_from_slice(taken);
            self.filled = 0;
        }
        *data = rest;
        Ok(())
    }

    /// The length is known: the front keeps `skip` bytes, what it has beyond them begins the body.
    fn begin(&mut self, skip: usize, length: usize) -> Result<(), FrameError> {
        let mut memory = allocate::<M>(length)?;
        let early = &self.front()[skip..];
        let filled = early.len();
        memory.bytes()[..filled].copy_from_slice(early);
        let begun = self.begun.get_or_insert_default();
        if begun.front.is_empty() {
            self.filled = skip as u8;
        } else {
            begun.front.truncate(skip);
        }
        begun.body = Some(Body { memory, length, filled });
        Ok(())
    }

    /// Adds to the body; the message if that makes it whole.
    fn fill<'a>(&mut self, data: &mut &[u8]) -> Option<Message<'a, M>> {
        let body = self.begun.as_mut()?.body.as_mut()?;
        let take = (body.length - body.filled).min(data.len());
        body.memory.bytes()[body.filled..body.filled + take].copy_from_slice(&data[..take]);
        body.filled += take;
        *data = &data[take..];
        if body.filled < body.length {
            return None;
        }
        self.filled = 0;
        self.begun.take()?.body.map(|body| Message::Whole(body.memory))
    }
}

fn allocate<M: Memory>(length: usize) -> Result<M, FrameError> {
    M::allocate(length).ok_or(FrameError::NoMemory { length: length as u64 })
}
