//! What a turn of the loop calls, with the interpreter at hand.
//!
//! Knows who is behind each token and nothing of what they do.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wireway_core::driver::Sink;
use wireway_core::frame::Memory;
use wireway_core::op::{Completion, Token};
use wireway_core::{reactor, sys};

use crate::event_loop::{Endpoint, LoopCore, Ready};
use crate::memory::NewBytes;
use crate::watch::Watches;

/// What room is made for is rounded up to this many bytes.
const ROOM_STEP: usize = 4096;
/// The most room that is made for one receive, bytes.
const LARGEST_ROOM: usize = 256 * 1024;

/// One run of a loop.
pub struct Host<'a, 'py> {
    core: &'a Bound<'py, LoopCore>,
    /// What must leave the loop: `KeyboardInterrupt`, `SystemExit`.
    pub error: Option<PyErr>,
    /// Whether the wait that comes may sleep, and so must let go of the GIL.
    sleeps: bool,
    /// Where the driver receives into just now, instead of its own buffer.
    room: Option<NewBytes>,
}

impl<'a, 'py> Host<'a, 'py> {
    /// A host for `core`.
    pub fn new(core: &'a Bound<'py, LoopCore>) -> Self {
        Self { core, error: None, sleeps: true, room: None }
    }

    /// Keeps the first error that must leave the loop.
    pub fn keep(&mut self, result: PyResult<()>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    fn run_one(&mut self, item: Ready) {
        let py = self.core.py();
        match item {
            Ready::Ours(handle) => {
                let result = handle.run(py);
                self.keep(result);
            }
            Ready::Stock(handle) => {
                let handle = handle.into_bound(py);
                let result = self.run_stock(&handle);
                self.keep(result);
            }
        }
    }

    /// Debug mode: warns of callbacks that held the loop for long.
    #[cold]
    fn time(&mut self, endpoint: &Endpoint, seconds: f64) {
        let object = match endpoint {
            Endpoint::Connection(connection) => connection.as_any(),
            Endpoint::Transport(transport) => transport.as_any(),
            Endpoint::Listener(listener) => listener.as_any(),
            Endpoint::Watch(_) | Endpoint::None => return,
        };
        let name = intern!(self.core.py(), "_debug_slow");
        let result = self.core.call_method1(name, (object, seconds)).map(drop);
        self.keep(result);
    }

    /// What came into the room that was given.
    fn filled(&mut self, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let room = self.room.take().ok_or_else(|| PyRuntimeError::new_err("no room was given"))?;
        room.finish_short(self.core.py(), count)
    }

    /// Runs a handle of the standard library's and, in debug mode, times it.
    fn run_stock(&self, handle: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.core.py();
        if handle.getattr(intern!(py, "_cancelled"))?.is_truthy()? {
            return Ok(());
        }
        if !self.core.get().debug.get() {
            return handle.call_method0(intern!(py, "_run")).map(drop);
        }
        self.core.call_method1(intern!(py, "_debug_run"), (handle,)).map(drop)
    }
}

impl Sink for Host<'_, '_> {
    #[inline]
    fn park(&mut self, block: &mut dyn FnMut()) {
        if !self.sleeps {
            return block();
        }
        let core = self.core.get();
        core.beat.asleep();
        // SAFETY: the GIL is held, and is taken back before anything of Python is touched: `block`
        // only makes system calls on memory that the driver owns.
        unsafe {
            let state = ffi::PyEval_SaveThread();
            block();
            core.beat.taking();
            ffi::PyEval_RestoreThread(state);
        }
        let now = core.now();
        core.moment.set(now);
        core.beat.awake(now);
    }

    fn room(&mut self, token: Token, hint: usize) -> Option<&mut [u8]> {
        let wanted = match self.core.get().endpoints.borrow().get(token.index())? {
            Endpoint::Connection(connection) => connection.get().wants_room(),
            Endpoint::Transport(transport) => transport.get().wants_room(),
            _ => false,
        };
        if !wanted {
            return None;
        }
        // A little more than last time: a message of the same size is then seen to be all there is.
        let length = (hint + 1).next_multiple_of(ROOM_STEP).min(LARGEST_ROOM);
        let room = self.room.insert(NewBytes::allocate(length)?);
        Some(room.bytes())
    }

    #[inline]
    fn complete(&mut self, token: Token, completion: Completion<'_>) {
        let (core, py) = (self.core.get(), self.core.py());
        let endpoint = match core.endpoints.borrow().get(token.index()) {
            Some(Endpoint::Connection(connection)) => {
                Endpoint::Connection(connection.clone_ref(py))
            }
            Some(Endpoint::Transport(transport)) => Endpoint::Transport(transport.clone_ref(py)),
            Some(Endpoint::Watch(fd)) => Endpoint::Watch(*fd),
            Some(Endpoint::Listener(listener)) => Endpoint::Listener(listener.clone_ref(py)),
            _ => return,
        };
        core.beat.handles(token.raw());
        let start = if core.debug.get() { sys::monotonic() } else { 0.0 };
        let result = match &endpoint {
            Endpoint::Connection(connection) => {
                let (this, slf) = (connection.get(), connection.bind(py));
                match completion {
                    Completion::Filled(count) => self
                        .filled(count)
                        .and_then(|data| this.received_whole(slf, self.core, &data)),
                    other => this.completed(slf, self.core, other),
                }
            }
            Endpoint::Transport(transport) => {
                let (this, slf) = (transport.get(), transport.bind(py));
                match completion {
                    Completion::Filled(count) => {
                        self.filled(count).and_then(|data| this.received_whole(slf, &data))
                    }
                    other => this.completed(slf, self.core, other),
                }
            }
            Endpoint::Watch(fd) => {
                if let Completion::Ready(interest) = completion {
                    Watches::ready(self.core, *fd, interest);
                }
                Ok(())
            }
            Endpoint::Listener(listener) => match completion {
                Completion::Accepted(result) => {
                    listener.get().accepted(listener.bind(py), self.core, result)
                }
                _ => Ok(()),
            },
            Endpoint::None => Ok(()),
        };
        self.keep(result);
        if start > 0.0 {
            self.time(&endpoint, sys::monotonic() - start);
        }
        core.reactor.flush_dirty(self);
    }
}

impl reactor::Host for Host<'_, '_> {
    type Timer = Ready;

    #[inline]
    fn hurried(&self) -> bool {
        let core = self.core.get();
        core.stopping.get() || self.error.is_some() || !core.ready.borrow().is_empty()
    }

    #[inline]
    fn now(&self) -> f64 {
        self.core.get().now()
    }

    fn time_flows(&self) -> bool {
        self.core.get().time_flows()
    }

    fn expired(&mut self, slot: usize) {
        let (core, py) = (self.core.get(), self.core.py());
        let connection = match core.endpoints.borrow().get(slot) {
            Some(Endpoint::Connection(connection)) => connection.clone_ref(py),
            _ => return,
        };
        let result = connection.get().expired(connection.bind(py), self.core);
        self.keep(result);
        core.reactor.flush_dirty(self);
    }

    fn sleeps(&mut self, sleeps: bool) {
        self.sleeps = sleeps;
        let core = self.core.get();
        let now = core.now();
        core.turns.note(now - core.moment.get(), 1);
        core.moment.set(now);
        core.beat.awake(now);
    }

    #[inline]
    fn woken(&mut self) {
        let result = self.core.py().check_signals();
        self.keep(result);
    }

    fn due(&mut self, timer: Ready) {
        let core = self.core.get();
        match &timer {
            Ready::Ours(handle) => {
                handle.left_heap();
                if handle.cancelled() {
                    core.reactor.timers.borrow_mut().note_popped();
                    return;
                }
            }
            Ready::Stock(handle) => {
                let py = self.core.py();
                let handle = handle.bind(py);
                // What the standard library does when a timer leaves its heap.
                let _ = handle.setattr(intern!(py, "_scheduled"), false);
                if timer.cancelled(py) {
                    core.reactor.timers.borrow_mut().note_popped();
                    return;
                }
            }
        }
        core.ready.borrow_mut().push_back(timer);
    }

    fn run(&mut self) {
        let core = self.core.get();
        core.beat.runs();
        let mut left = core.ready.borrow().len();
        while left > 0 && self.error.is_none() {
            left -= 1;
            // The borrow ends with the statement: the callback may push.
            let item = core.ready.borrow_mut().pop_front();
            let Some(item) = item else { break };
            self.run_one(item);
            core.reactor.flush_dirty(self);
        }
    }

    fn flush(&mut self, token: Token) {
        let (core, py) = (self.core.get(), self.core.py());
        let endpoint = match core.endpoints.borrow().get(token.index()) {
            Some(Endpoint::Connection(connection)) => {
                Endpoint::Connection(connection.clone_ref(py))
            }
            Some(Endpoint::Transport(transport)) => Endpoint::Transport(transport.clone_ref(py)),
            _ => return,
        };
        let result = match &endpoint {
            Endpoint::Connection(connection) => {
                connection.get().flush(connection.bind(py), self.core, token)
            }
            Endpoint::Transport(transport) => {
                transport.get().flush(transport.bind(py), self.core, token)
            }
            _ => Ok(()),
        };
        self.keep(result);
    }
}
