//! Owns one connection's TLS: records in, plaintext out, plaintext in, records out. Does not know a socket.
//!
//! Long because: it is one state machine, and every way in and out of it keeps the same few fields.
//!
//! rustls is used without buffering of its own (its `unbuffered` module): ciphertext is decrypted in a buffer of
//! the thread, which is given back before `receive` returns. What a session keeps at rest is rustls' state; a
//! record of which only a part came is kept until the rest comes, and plaintext that was sent before the end of
//! the handshake until then.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::UnbufferedStatus;
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};

use super::failure::{plain_alert, sniff};
use super::identity::take_asked;
use super::rounds::{Sealed, Step, farewell, seal, step};
use super::{ClientTls, ServerTls, TlsError, code};

/// The most plaintext in one record (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
/// More than any record adds to its plaintext: header 5, nonce 8, tag 16, type 1.
const OVERHEAD: usize = 32;
/// Room for any message of rustls' own after the handshake: a key update, an alert.
const OWN: usize = 96;
const HEADER: usize = 5;
/// What the thread's buffer may keep between calls.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What was agreed, and who the peer is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// "TLSv1.2" or "TLSv1.3"; empty until it is agreed.
    pub version: &'static str,
    /// As IANA writes it, `TLS_AES_128_GCM_SHA256`; empty until it is agreed.
    pub cipher: String,
    /// The application protocol.
    pub alpn: Option<Vec<u8>>,
    /// Of a server: what the client asked for, lower case. Of a client: what it asked for, an IP address too.
    pub server_name: Option<String>,
    /// Whether an earlier session was resumed: no certificates were sent then, `peer_certificates` are those of
    /// the earlier one.
    pub resumed: bool,
    /// DER, the peer's own first; see [`Certificate`](super::certificate::Certificate).
    pub peer_certificates: Vec<Vec<u8>>,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// One connection. Belongs to one thread at a time.
pub struct Session {
    side: Side,
    /// The part of a record (or of a handshake message) that came.
    partial: Vec<u8>,
    /// Ciphertext that nobody took yet.
    out: Vec<u8>,
    /// Plaintext from before the end of the handshake.
    early: Vec<u8>,
    name: Option<Box<str>>,
    handshaking: bool,
    begun: bool,
    peer_closed: bool,
    closing: bool,
    closed: bool,
    failed: Option<Box<TlsError>>,
}

impl Session {
    /// A server's side of a new connection.
    pub fn server(tls: &ServerTls) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(tls.config.clone())
            .map_err(|error| TlsError::of(&error, true))?;
        Ok(Session::new(Side::Server(Box::new(connection)), None))
    }

    /// A client's side of a new connection. Its ClientHello is in [`outgoing`](Session::outgoing) at once.
    ///
    /// `server_name`: a host name or an IP address, what the server's certificate must be for.
    ///
    /// # Errors
    ///
    /// `tls-options` when `server_name` is neither.
    pub fn client(tls: &ClientTls, server_name: &str) -> Result<Self, TlsError> {
        // The dot at the end of an absolute name is not part of a certificate's (RFC 6066, section 3).
        let bare = server_name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(server_name);
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        let name = ServerName::try_from(bare.to_string()).map_err(|_| {
            TlsError::options(format!(
                "server_name: {server_name:?} is neither a host name nor an IP address"
            ))
        })?;
        let connection = UnbufferedClientConnection::new(Arc::clone(&tls.config), name)
            .map_err(|error| TlsError::of(&error, false))?;
        let mut session = Session::new(Side::Client(Box::new(connection)), Some(bare.into()));
        session.turn(&mut [], &mut |_| ())?;
        Ok(session)
    }

    fn new(side: Side, name: Option<Box<str>>) -> Self {
        Session {
            side,
            partial: Vec::new(),
            out: Vec::new(),
            early: Vec::new(),
            name,
            handshaking: true,
            begun: false,
            peer_closed: false,
            closing: false,
            closed: false,
            failed: None,
        }
    }

    /// Takes bytes from the wire; calls `plain` with what they decrypt to, in order, at most 16 KiB at a time.
    ///
    /// # Errors
    ///
    /// The connection is over. Take what is [`outgoing`](Session::outgoing) all the same (the alert that tells
    /// the peer), then close. `plain` has had what came before the error. Every later call gives the same error.
    pub fn receive(&mut self, data: &[u8], plain: &mut dyn FnMut(&[u8])) -> Result<(), TlsError> {
        if let Some(error) = &self.failed {
            return Err(TlsError::clone(error));
        }
        if self.peer_closed {
            return Ok(()); // "Any data received after a closure alert has been received MUST be ignored."
        }
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(data);
            if self.begun && incomplete(&self.partial) {
                return Ok(());
            }
        }
        let mut buffer = BUFFER.take();
        buffer.clear();
        if self.partial.is_empty() {
            buffer.extend_from_slice(data);
        } else {
            buffer.extend_from_slice(&self.partial);
            self.partial.clear();
        }
        let said = match self.begin(&buffer) {
            Ok(()) if self.begun => self.turn(&mut buffer, plain),
            Ok(()) => Ok(0),
            Err(error) => Err(error),
        };
        match &said {
            Ok(used) if *used < buffer.len() && !self.peer_closed => {
                self.partial.extend_from_slice(&buffer[*used..]);
            }
            _ => self.partial = Vec::new(),
        }
        if buffer.capacity() <= SCRATCH {
            BUFFER.set(buffer);
        }
        match said {
            Ok(_) => Ok(()),
            Err(error) => {
                self.early = Vec::new();
                self.failed = Some(Box::new(error.clone()));
                Err(error)
            }
        }
    }

    /// Looks at the first bytes of all.
    fn begin(&mut self, data: &[u8]) -> Result<(), TlsError> {
        if self.begun {
            return Ok(());
        }
        if let Some(error) = sniff(data, self.is_server()) {
            self.out.extend_from_slice(&plain_alert(&error));
            return Err(error);
        }
        self.begun = data.len() >= HEADER;
        Ok(())
    }

    /// Lets rustls work until it has nothing to do; gives how many bytes of `data` are done with.
    fn turn(&mut self, data: &mut [u8], plain: &mut dyn FnMut(&[u8])) -> Result<usize, TlsError> {
        let mut used = 0;
        loop {
            let rest = &mut data[used..];
            let (out, closed) = (&mut self.out, &mut self.peer_closed);
            let (discard, step) = match &mut self.side {
                Side::Server(connection) => {
                    let UnbufferedStatus { discard, state } = connection.process_tls_records(rest);
                    (
                        discard,
                        state.map(|state| step::<ServerConnectionData>(state, out, closed, plain)),
                    )
                }
                Side::Client(connection) => {
                    let UnbufferedStatus { discard, state } = connection.process_tls_records(rest);
                    (
                        discard,
                        state.map(|state| step::<ClientConnectionData>(state, out, closed, plain)),
                    )
                }
            };
            used += discard;
            if self.handshaking {
                if self.is_server() {
                    if let Some(name) = take_asked() {
                        self.name = Some(name);
                    }
                }
                self.handshaking = self.common().is_handshaking();
            }
            match step {
                Ok(Ok(Step::Again)) => {}
                Ok(Ok(Step::Enough)) => return Ok(used),
                Ok(Ok(Step::Ready)) => {
                    self.flush();
                    return Ok(used);
                }
                Ok(Err(error)) => return Err(error),
                Err(error) => {
                    self.alerts();
                    return Err(self.failure(&error));
                }
            }
        }
    }

    /// What an error of rustls is to us. A first message that can't be read is no TLS.
    fn failure(&mut self, error: &Error) -> TlsError {
        let server = self.is_server();
        let unread = matches!(error, Error::InvalidMessage(_) | Error::InappropriateMessage { .. });
        if !unread || self.common().protocol_version().is_some() {
            return TlsError::of(error, server);
        }
        let peer = if server { "client" } else { "server" };
        let text =
            format!("what the {peer} sent is not TLS: it begins like a record and can't be read");
        let error = TlsError::new(code::GARBAGE, text);
        if self.out.is_empty() {
            self.out.extend_from_slice(&plain_alert(&error));
        }
        error
    }

    /// After an error: what rustls still wants to say. It is asked only while it has something, since it would
    /// look at its input otherwise.
    fn alerts(&mut self) {
        let mut ignored = false;
        while self.common().wants_write() {
            let out = &mut self.out;
            let said = match &mut self.side {
                Side::Server(connection) => {
                    connection.process_tls_records(&mut []).state.map(|state| {
                        step::<ServerConnectionData>(state, out, &mut ignored, &mut |_| ())
                    })
                }
                Side::Client(connection) => {
                    connection.process_tls_records(&mut []).state.map(|state| {
                        step::<ClientConnectionData>(state, out, &mut ignored, &mut |_| ())
                    })
                }
            };
            if !matches!(said, Ok(Ok(Step::Again))) {
                return;
            }
        }
    }

    /// Encrypts what waited for the end of the handshake, and says goodbye if that waited too.
    fn flush(&mut self) {
        if self.handshaking {
            return;
        }
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            let mut out = std::mem::take(&mut self.out);
            self.encrypt(&early, &mut out);
            self.out = out;
        }
        if self.closing {
            self.goodbye();
        }
    }

    /// Encrypts. What is sent before the end of the handshake waits for it; after [`close`](Session::close) or
    /// an error nothing is sent.
    pub fn send(&mut self, plain: &[u8]) {
        let mut out = std::mem::take(&mut self.out);
        self.send_into(plain, &mut out);
        self.out = out;
    }

    /// As [`send`](Session::send), straight into the buffer that goes to the socket. What waited in
    /// [`outgoing`](Session::outgoing) goes before it.
    pub fn send_into(&mut self, plain: &[u8], into: &mut Vec<u8>) {
        if plain.is_empty() || self.closing || self.failed.is_some() {
            return;
        }
        if self.handshaking {
            self.early.extend_from_slice(plain);
            return;
        }
        if !self.out.is_empty() {
            into.append(&mut self.out);
        }
        self.encrypt(plain, into);
    }

    fn encrypt(&mut self, plain: &[u8], into: &mut Vec<u8>) {
        let size = plain.len() + plain.len().div_ceil(RECORD) * OVERHEAD + OWN;
        let mut at = into.len();
        into.resize(at + size, 0);
        loop {
            let target = &mut into[at..];
            // What is still to be read is shown to rustls again, since it remembers places in it.
            let input = &mut self.partial[..];
            let (discard, said) = match &mut self.side {
                Side::Server(connection) => seal::<ServerConnectionData>(
                    connection.process_tls_records(input),
                    plain,
                    target,
                ),
                Side::Client(connection) => seal::<ClientConnectionData>(
                    connection.process_tls_records(input),
                    plain,
                    target,
                ),
            };
            self.partial.drain(..discard);
            match said {
                Sealed::Records(written) => return into.truncate(at + written),
                Sealed::Before(written) => {
                    at += written;
                    into.resize(at + size, 0);
                }
                Sealed::Needs(size) => into.resize(at + size, 0),
                Sealed::Never => {
                    into.truncate(at);
                    self.closing = true;
                    return;
                }
            }
        }
    }

    /// Moves the ciphertext that must go to the socket behind `into`; gives how many bytes.
    pub fn outgoing(&mut self, into: &mut Vec<u8>) -> usize {
        let length = self.out.len();
        let mut out = std::mem::take(&mut self.out);
        if into.is_empty() && into.capacity() < length {
            *into = out;
        } else {
            into.append(&mut out);
        }
        length
    }

    /// Whether [`outgoing`](Session::outgoing) has anything.
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether nothing can be sent yet. [`send`](Session::send) keeps what it gets until then.
    pub fn is_handshaking(&self) -> bool {
        self.handshaking
    }

    /// Says goodbye (`close_notify`): nothing is sent after it, receiving goes on. During the handshake it waits for
    /// its end, behind what was sent until then.
    pub fn close(&mut self) {
        if self.closing || self.failed.is_some() {
            return;
        }
        self.closing = true;
        if !self.handshaking {
            self.goodbye();
        }
    }

    fn goodbye(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        let at = out.len();
        let mut room = OWN;
        out.resize(at + room, 0);
        let mut start = at;
        loop {
            let input = &mut self.partial[..];
            let target = &mut out[start..];
            let (discard, said) = match &mut self.side {
                Side::Server(connection) => {
                    farewell::<ServerConnectionData>(connection.process_tls_records(input), target)
                }
                Side::Client(connection) => {
                    farewell::<ClientConnectionData>(connection.process_tls_records(input), target)
                }
            };
            self.partial.drain(..discard);
            match said {
                Sealed::Records(written) => {
                    out.truncate(start + written);
                    break;
                }
                Sealed::Before(written) => {
                    start += written;
                    out.resize(start + room, 0);
                }
                Sealed::Needs(size) => {
                    room = size;
                    out.resize(start + room, 0);
                }
                Sealed::Never => {
                    out.truncate(start);
                    break;
                }
            }
        }
        self.out = out;
    }

    /// Whether the peer said goodbye: nothing more comes.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// The stream from the peer ended (the socket said so).
    ///
    /// # Errors
    ///
    /// `tls-truncated` when the peer did not say goodbye before: what it sent last may be missing, and somebody on
    /// the way may have cut it (RFC 8446, section 6.1). Or the error that there was already.
    pub fn end(&mut self) -> Result<(), TlsError> {
        if let Some(error) = &self.failed {
            return Err(TlsError::clone(error));
        }
        if self.peer_closed {
            return Ok(());
        }
        let peer = if self.is_server() { "client" } else { "server" };
        let text = if !self.begun && self.partial.is_empty() {
            format!("the {peer} closed the connection before it sent a byte of TLS")
        } else if self.handshaking {
            format!("the {peer} closed the connection in the middle of the TLS handshake")
        } else if self.partial.is_empty() {
            format!(
                "the {peer} closed the connection without a close_notify: what it sent last may be missing"
            )
        } else {
            format!("the {peer} closed the connection in the middle of a TLS record")
        };
        let error = TlsError::new(code::TRUNCATED, text);
        self.partial = Vec::new();
        self.failed = Some(Box::new(error.clone()));
        Err(error)
    }

    /// What ended it, if something went wrong.
    pub fn fault(&self) -> Option<&TlsError> {
        self.failed.as_deref()
    }

    /// What was agreed so far. Makes copies: for when somebody asks.
    pub fn facts(&self) -> Facts {
        let common = self.common();
        let certificates = common.peer_certificates().unwrap_or_default();
        Facts {
            version: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "",
            },
            cipher: common
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .map(|name| name.replacen("TLS13_", "TLS_", 1))
                .unwrap_or_default(),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            server_name: self.name.as_deref().map(String::from),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            peer_certificates: certificates.iter().map(|der| der.to_vec()).collect(),
        }
    }

    /// Bytes that this session holds in buffers of its own: nothing, at rest. rustls' state is not counted.
    pub fn buffered(&self) -> usize {
        self.partial.capacity() + self.out.capacity() + self.early.capacity()
    }

    /// Memory of the connection behind it, bytes, without what that allocates in turn.
    pub fn own_size(&self) -> usize {
        match &self.side {
            Side::Server(connection) => size_of_val(&**connection),
            Side::Client(connection) => size_of_val(&**connection),
        }
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    fn is_server(&self) -> bool {
        matches!(self.side, Side::Server(_))
    }
}

/// Whether the record at the front is not whole. Only asked for what rustls has not looked at: between two
/// calls that is the front of `partial`, unless a handshake message is spread over records.
fn incomplete(data: &[u8]) -> bool {
    data.len() < HEADER || data.len() < HEADER + usize::from(u16::from_be_bytes([data[3], data[4]]))
}
