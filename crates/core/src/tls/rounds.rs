//! Owns one round with rustls: doing what its state asks for, while reading and while encrypting. Does not know
//! whose connection it is, a server's or a client's.

use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};

use super::{TlsError, code};

/// What one round of rustls said.
pub(super) enum Step {
    Again,
    Enough,
    /// Traffic may flow; nothing more to read.
    Ready,
}

/// Does what a state of rustls asks for.
pub(super) fn step<Data>(
    state: ConnectionState<'_, '_, Data>,
    out: &mut Vec<u8>,
    peer_closed: &mut bool,
    plain: &mut dyn FnMut(&[u8]),
) -> Result<Step, TlsError> {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) if record.payload.is_empty() => {}
                    Ok(record) => plain(record.payload),
                    Err(error) => {
                        return Err(TlsError::new(code::ERROR, format!("TLS failed: {error}")));
                    }
                }
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut message) => {
            append(out, |room| message.encode(room).map_err(needs));
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => {
            *peer_closed = true;
            Ok(Step::Again)
        }
        ConnectionState::WriteTraffic(_) => Ok(Step::Ready),
        // Early data is never offered, so never read.
        _ => Ok(Step::Enough),
    }
}

/// Appends what `write` writes when it is told how much room there is; 0 bytes when it never fits.
fn append(out: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>) {
    let at = out.len();
    let mut room = 0;
    loop {
        out.resize(at + room, 0);
        match write(&mut out[at..]) {
            Ok(written) => return out.truncate(at + written),
            Err(Some(size)) if size > room => room = size,
            Err(_) => return out.truncate(at),
        }
    }
}

fn needs(error: EncodeError) -> Option<usize> {
    match error {
        EncodeError::InsufficientSize(size) => Some(size.required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

/// What came of an attempt to encrypt.
pub(super) enum Sealed {
    /// Written: all of it.
    Records(usize),
    /// Written: a message of rustls' own that goes before it. Try again.
    Before(usize),
    /// So much room. Try again.
    Needs(usize),
    /// It can't be: the sending half is over.
    Never,
}

fn sealed<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    target: &mut [u8],
    write: impl FnOnce(WriteTraffic<'_, Data>, &mut [u8]) -> Result<usize, EncryptError>,
) -> (usize, Sealed) {
    let said = match status.state {
        Ok(ConnectionState::WriteTraffic(traffic)) => match write(traffic, target) {
            Ok(written) => Sealed::Records(written),
            Err(EncryptError::InsufficientSize(size)) => Sealed::Needs(size.required_size),
            Err(EncryptError::EncryptExhausted) => Sealed::Never,
        },
        Ok(ConnectionState::EncodeTlsData(mut message)) => match message.encode(target) {
            Ok(written) => Sealed::Before(written),
            // `message` is lost with this: rustls gives each only once. There is always room for it, as only
            // key updates and alerts come here.
            Err(_) => Sealed::Never,
        },
        Ok(ConnectionState::TransmitTlsData(sent)) => {
            sent.done();
            Sealed::Before(0)
        }
        Ok(ConnectionState::PeerClosed) => Sealed::Before(0),
        _ => Sealed::Never,
    };
    (status.discard, said)
}

pub(super) fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    target: &mut [u8],
) -> (usize, Sealed) {
    sealed(status, target, |mut traffic, target| traffic.encrypt(plain, target))
}

pub(super) fn farewell<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    target: &mut [u8],
) -> (usize, Sealed) {
    sealed(status, target, |mut traffic, target| traffic.queue_close_notify(target))
}
