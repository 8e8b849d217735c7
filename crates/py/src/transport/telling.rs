//! What a transport tells of itself: its socket, and the names of both ends, which outlive the connection.

use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::connection::{ip_name, socket_name};
use crate::interp;

use super::StreamTransport;

/// What was told already.
#[derive(Default)]
pub(super) struct Told {
    peer: Option<Py<PyAny>>,
    local: Option<Py<PyAny>>,
    socket: Option<Py<PyAny>>,
}

impl StreamTransport {
    pub(super) fn python_socket<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(socket) = self.socket.borrow().as_ref() {
            return Ok(Some(socket.bind(py).clone()));
        }
        // From here on the socket object owns the descriptor.
        let Some(fd) = self.conn.borrow_mut().disown() else {
            return Ok(None);
        };
        let raw = fd.into_raw_fd();
        let arguments = PyDict::new(py);
        arguments.set_item(intern!(py, "fileno"), raw)?;
        match interp::python_socket(py)?.call((), Some(&arguments)) {
            Ok(socket) => {
                *self.socket.borrow_mut() = Some(socket.clone().unbind());
                Ok(Some(socket))
            }
            Err(error) => {
                // SAFETY: no socket object took the descriptor: it goes back to the connection's end.
                drop(unsafe { OwnedFd::from_raw_fd(raw) });
                Err(error)
            }
        }
    }

    /// The socket in the wrapping that lets nobody read or write past the transport.
    pub(super) fn wrapped_socket<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.tell(
            py,
            |told| &mut told.socket,
            || {
                let socket = match self.python_socket(py)? {
                    Some(socket) => socket,
                    None => self.closed_socket(py)?,
                };
                interp::transport_socket(py)?.call1((socket,)).map(Some)
            },
        )
    }

    /// Nobody asked for the socket while it was open: another of its kind, closed. Without a free descriptor
    /// it is one of no kind.
    fn closed_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (family, protocol) = match self.peer {
            Some(SocketAddr::V4(_)) => (libc::AF_INET, libc::IPPROTO_TCP),
            Some(SocketAddr::V6(_)) => (libc::AF_INET6, libc::IPPROTO_TCP),
            None => (libc::AF_UNIX, 0),
        };
        let class = interp::python_socket(py)?;
        let Ok(socket) = class.call1((family, libc::SOCK_STREAM, protocol)) else {
            return class.call_method1(intern!(py, "__new__"), (class,));
        };
        socket.call_method0(intern!(py, "close"))?;
        Ok(socket)
    }

    pub(super) fn peer_name<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.tell(
            py,
            |told| &mut told.peer,
            || match self.peer {
                Some(address) => ip_name(py, address).map(Some),
                None => socket_name(py, self.fd(), true),
            },
        )
    }

    pub(super) fn local_name<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.tell(py, |told| &mut told.local, || socket_name(py, self.fd(), false))
    }

    /// What was told before, or what `find` finds now.
    fn tell<'py>(
        &self,
        py: Python<'py>,
        place: impl Fn(&mut Told) -> &mut Option<Py<PyAny>>,
        find: impl FnOnce() -> PyResult<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(told) = self.told.borrow_mut().as_mut()
            && let Some(value) = place(told)
        {
            return Ok(Some(value.bind(py).clone()));
        }
        let found = find()?;
        if let Some(value) = &found {
            let mut told = self.told.borrow_mut();
            *place(told.get_or_insert_default()) = Some(value.clone().unbind());
        }
        Ok(found)
    }
}
