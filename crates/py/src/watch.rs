//! `add_reader` and `add_writer`: other people's descriptors, watched level-triggered.
//!
//! A table by descriptor number. A number that a native transport has attached (the standard
//! library's `sendfile` does this) is watched through a duplicate: a back end knows a number once.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::driver::Fate;
use wireway_core::op::{Interest, Op, Role, Token};

use crate::errors::os_error;
use crate::event_loop::{Endpoint, LoopCore, Ready};
use crate::handle::Handle;
use crate::interp;

/// The handles of a watched descriptor.
pub type ReaderAndWriter = (Option<Py<PyAny>>, Option<Py<PyAny>>);

struct Watch {
    token: Token,
    duplicate: Option<OwnedFd>,
    /// What was given in the place of a number. Once it is closed it has none, and is known by itself.
    object: Option<Py<PyAny>>,
    reader: Option<Handle>,
    writer: Option<Handle>,
}

impl Watch {
    fn interest(&self) -> Interest {
        let mut interest = Interest::NONE;
        if self.reader.is_some() {
            interest = interest.with(Interest::READ);
        }
        if self.writer.is_some() {
            interest = interest.with(Interest::WRITE);
        }
        interest
    }

    fn place(&mut self, writer: bool) -> &mut Option<Handle> {
        if writer { &mut self.writer } else { &mut self.reader }
    }
}

/// The watched descriptors of a loop.
#[derive(Default)]
pub struct Watches {
    table: RefCell<Vec<Option<Box<Watch>>>>,
}

/// A descriptor number, or what `fileno()` says.
fn number(fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let number: RawFd = match fd.extract() {
        Ok(number) => number,
        Err(error) => match fd.call_method0(intern!(fd.py(), "fileno")) {
            Ok(number) => number.extract()?,
            Err(_) => return Err(error),
        },
    };
    if number < 0 {
        return Err(PyValueError::new_err(format!("Invalid file descriptor: {number}")));
    }
    Ok(number)
}

impl Watches {
    /// Adds or replaces the reader or writer of a descriptor and returns its handle.
    pub fn add<'py>(
        slf: &Bound<'py, LoopCore>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        writer: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, py) = (slf.get(), slf.py());
        core.check()?;
        let given = (!fd.is_instance_of::<PyInt>()).then(|| fd.clone().unbind());
        let fd = number(fd)?;
        let arguments: Vec<*mut ffi::PyObject> = args.iter().map(|a| a.as_ptr()).collect();
        let context = interp::copy_context(py)?;
        let (object, callback) = (slf.as_ptr(), callback.as_ptr());
        // SAFETY: all are live objects held by the caller.
        let handle = unsafe { Handle::new(py, object, callback, &arguments, context)?.repeats() };
        let former = core.watches.put(core, fd, given, handle.share(), writer)?;
        if let Some(former) = former {
            former.cancel();
        }
        // SAFETY: a new reference to a live object.
        Ok(unsafe { Bound::from_owned_ptr(py, handle.into_ptr()) })
    }

    fn put(
        &self,
        core: &LoopCore,
        fd: RawFd,
        object: Option<Py<PyAny>>,
        handle: Handle,
        writer: bool,
    ) -> PyResult<Option<Handle>> {
        let index = fd as usize;
        let mut table = self.table.borrow_mut();
        if table.len() <= index {
            table.resize_with(index + 1, || None);
        }
        let fresh = table[index].is_none();
        if fresh {
            let duplicate = if core.stream_slot(fd).is_some() {
                // SAFETY: the transport keeps the descriptor open; it is borrowed for this statement.
                let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
                Some(borrowed.try_clone_to_owned().map_err(|error| os_error(&error))?)
            } else {
                None
            };
            let watched = duplicate.as_ref().map_or(fd, AsRawFd::as_raw_fd);
            let driver = &core.reactor.driver;
            let token = driver.attach(watched, Role::Watched).map_err(|error| os_error(&error))?;
            table[index] = Some(Box::new(Watch {
                token,
                duplicate,
                object: None,
                reader: None,
                writer: None,
            }));
            core.place(token, Endpoint::Watch(fd));
        }
        let Some(watch) = table[index].as_mut() else {
            return Ok(None);
        };
        let former = watch.place(writer).replace(handle);
        let (token, interest) = (watch.token, watch.interest());
        if let Err(error) = core.reactor.driver.submit(token, Op::Watch(interest)) {
            let refused = std::mem::replace(watch.place(writer), former);
            let gone = if fresh { table[index].take() } else { None };
            drop(table);
            if gone.is_some() {
                core.reactor.driver.detach(token, Fate::Keep);
                core.displace(token);
            }
            drop(refused);
            return Err(os_error(&error));
        }
        let earlier = std::mem::replace(&mut watch.object, object);
        // Dropping it may run code: not while the table is borrowed.
        drop(table);
        drop(earlier);
        Ok(former)
    }

    /// Removes the reader or writer of a descriptor; false if there was none.
    pub fn remove(
        slf: &Bound<'_, LoopCore>,
        fd: &Bound<'_, PyAny>,
        writer: bool,
    ) -> PyResult<bool> {
        let core = slf.get();
        if core.is_closed() {
            return Ok(false);
        }
        core.check_thread()?;
        let fd = match number(fd) {
            Ok(fd) => fd,
            Err(error) => core.watches.find(fd).ok_or(error)?,
        };
        Ok(core.watches.take(core, fd, writer))
    }

    /// The number under which an object is watched that was closed meanwhile.
    fn find(&self, object: &Bound<'_, PyAny>) -> Option<RawFd> {
        let table = self.table.borrow();
        let same = |watch: &Option<Box<Watch>>| {
            let known = watch.as_ref().and_then(|watch| watch.object.as_ref());
            known.is_some_and(|known| known.is(object))
        };
        table.iter().position(same).and_then(|index| RawFd::try_from(index).ok())
    }

    fn take(&self, core: &LoopCore, fd: RawFd, writer: bool) -> bool {
        let mut table = self.table.borrow_mut();
        let Some(Some(watch)) = table.get_mut(fd as usize) else {
            return false;
        };
        let handle = watch.place(writer).take();
        let (token, interest) = (watch.token, watch.interest());
        let gone = if interest.is_empty() { table[fd as usize].take() } else { None };
        drop(table);
        if let Some(gone) = gone {
            core.reactor.driver.detach(token, Fate::Keep);
            core.displace(token);
            drop(gone.duplicate);
        } else {
            // Less interest than before; where the descriptor was closed meanwhile, none is left.
            let _ = core.reactor.driver.submit(token, Op::Watch(interest));
        }
        handle.is_some_and(|handle| {
            handle.cancel();
            true
        })
    }

    /// The reader and writer of a descriptor.
    pub fn handles(&self, py: Python<'_>, fd: RawFd) -> Option<ReaderAndWriter> {
        let table = self.table.borrow();
        let watch = table.get(usize::try_from(fd).ok()?)?.as_ref()?;
        let object = |handle: &Option<Handle>| {
            handle.as_ref().map(|handle| {
                // SAFETY: a new reference to a live object.
                unsafe { Bound::from_owned_ptr(py, handle.share().into_ptr()) }.unbind()
            })
        };
        Some((object(&watch.reader), object(&watch.writer)))
    }

    /// A watched descriptor is ready: its handles run in this turn.
    pub fn ready(slf: &Bound<'_, LoopCore>, fd: RawFd, interest: Interest) {
        let core = slf.get();
        let table = core.watches.table.borrow();
        let Some(Some(watch)) = table.get(fd as usize) else {
            return;
        };
        let mut cancelled = [false; 2];
        for (writer, wanted, handle) in
            [(0, Interest::READ, &watch.reader), (1, Interest::WRITE, &watch.writer)]
        {
            if interest.contains(wanted)
                && let Some(handle) = handle
            {
                if handle.cancelled() {
                    cancelled[writer] = true;
                } else {
                    core.ready.borrow_mut().push_back(Ready::Ours(handle.share()));
                }
            }
        }
        drop(table);
        for (writer, cancelled) in cancelled.into_iter().enumerate() {
            if cancelled {
                core.watches.take(core, fd, writer == 1);
            }
        }
    }

    /// Ends everything.
    pub fn clear(&self, core: &LoopCore) {
        // Taken out first: what a handle held may run code.
        for watch in self.table.take().into_iter().flatten() {
            core.reactor.driver.detach(watch.token, Fate::Keep);
            for handle in [watch.reader, watch.writer].into_iter().flatten() {
                handle.forget();
            }
        }
    }

    /// Shows the collector the handles.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(table) = self.table.try_borrow() {
            for watch in table.iter().flatten() {
                visit.call(&watch.object)?;
                for handle in [&watch.reader, &watch.writer].into_iter().flatten() {
                    handle.traverse(visit)?;
                }
            }
        }
        Ok(())
    }
}
