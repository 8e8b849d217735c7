//! The stall watch: a thread of its own that sees when a loop no longer turns, and why.
//!
//! ```text
//!   loop's thread            monitor: a thread without Python         reader: a Python thread
//!   Beat: turn, asleep? -->  the same turn for `after` seconds?  -->  `next()`: takes the GIL, reads the stack of
//!   relaxed stores           what the kernel says of the thread       the loop's thread, logs; tells the loop later
//! ```
//!
//! The monitor never takes the GIL: it also sees code that never gives it away, and says so on stderr when the
//! reader can not get it. Garbage collection is told by marks in `gc.callbacks`; a stopped process by the monitor
//! itself being late. The reader and what a stall looks like to a user are `wireway.observe.stalls`.
//!
//! Knows no server: a watch is of a loop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wireway_core::sys;

use crate::connection::Connection;
use crate::event_loop::{Endpoint, LoopCore};

mod collection;
mod course;
mod kernel;

pub use collection::stall_mark;
use course::Course;

/// It sleeps in the driver, or does not run.
const ASLEEP: u64 = 1;
/// It waits for the GIL after a sleep.
const TAKING: u64 = 2;
/// The turns are counted above those bits.
const TURN: u64 = 4;
/// No connection.
const NOBODY: u64 = u64::MAX;

/// What a loop shows of itself. Written by its thread alone, and read by the monitor: nothing else depends on it, so
/// the stores are relaxed.
pub struct Beat {
    phase: AtomicU64,
    /// When the turn began, seconds, as bits.
    since: AtomicU64,
    /// The token of the connection whose completion is handled.
    token: AtomicU64,
}

impl Default for Beat {
    fn default() -> Self {
        Self {
            phase: AtomicU64::new(ASLEEP),
            since: AtomicU64::new(0),
            token: AtomicU64::new(NOBODY),
        }
    }
}

impl Beat {
    /// A turn begins, at `now` on the loop's clock.
    #[inline]
    pub fn awake(&self, now: f64) {
        self.since.store(now.to_bits(), Ordering::Relaxed);
        let phase = self.phase.load(Ordering::Relaxed);
        self.phase.store((phase | (TURN - 1)) + 1, Ordering::Relaxed);
    }

    /// The loop is about to sleep, or to stop.
    #[inline]
    pub fn asleep(&self) {
        self.phase.store(self.phase.load(Ordering::Relaxed) | ASLEEP, Ordering::Relaxed);
    }

    /// The sleep is over, and the GIL is not ours yet.
    #[inline]
    pub fn taking(&self) {
        let phase = self.phase.load(Ordering::Relaxed);
        self.phase.store(((phase | (TURN - 1)) + 1) | TAKING, Ordering::Relaxed);
    }

    /// A completion of this connection is handled now.
    #[inline]
    pub fn handles(&self, token: u64) {
        self.token.store(token, Ordering::Relaxed);
    }

    /// Callbacks run now.
    #[inline]
    pub fn runs(&self) {
        self.token.store(NOBODY, Ordering::Relaxed);
    }
}

/// What the reader is told: `kind` is "begins", "lasts" or "over".
struct Event {
    watch: u64,
    kind: &'static str,
    turn: u64,
    token: u64,
    /// On CLOCK_MONOTONIC, seconds.
    began: f64,
    seconds: f64,
    cause: &'static str,
    detail: String,
}

/// One loop that is watched, for one server.
struct Watched {
    number: u64,
    beat: Arc<Beat>,
    /// How often the reader had the GIL and looked.
    looked: Arc<AtomicU64>,
    course: Course,
}

#[derive(Default)]
struct Room {
    watched: Vec<Watched>,
    events: VecDeque<Event>,
    numbers: u64,
    stopped: bool,
}

/// What the monitor, the reader and the loops share.
#[derive(Default)]
struct Shared {
    room: Mutex<Room>,
    /// For the monitor: somebody came or went, or it is to stop.
    changed: Condvar,
    /// For the reader: there is an event, or it is to stop.
    told: Condvar,
}

impl Shared {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The monitor's life.
    fn watch(&self) {
        let mut room = self.room();
        let me = sys::thread_id();
        let mut before = sys::monotonic();
        let mut planned = f64::INFINITY;
        let mut waited = kernel::usage(me).map(|usage| usage.waited);
        while !room.stopped {
            let now = sys::monotonic();
            let late = now - planned;
            if late > 0.0 {
                // Late is stopped, unless it waited for a processor.
                let usage = kernel::usage(me).map(|usage| usage.waited);
                let starved = usage.zip(waited).map_or(0.0, |(after, before)| after - before);
                waited = usage;
                for one in &mut room.watched {
                    one.course.late((late - starved).max(0.0), starved.min(late));
                }
            }
            let Room { watched, events, .. } = &mut *room;
            let mut next = now + 1.0;
            for one in watched.iter_mut() {
                let number = one.number;
                let looked = one.looked.load(Ordering::Relaxed);
                let wake = one.course.tick(&one.beat, before, now, looked, &mut |mut event| {
                    event.watch = number;
                    events.push_back(event);
                });
                next = next.min(wake);
            }
            if !room.events.is_empty() {
                self.told.notify_all();
            }
            before = now;
            planned = next.max(now + 0.001);
            let left = std::time::Duration::from_secs_f64(planned - now);
            // Woken before its time it is not late.
            let woken = self.changed.wait_timeout(room, left);
            room = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// One monitor thread, for all the loops that are watched with it.
#[pyclass(frozen, module = "wireway._native")]
pub struct StallMonitor(Arc<Shared>);

#[pymethods]
impl StallMonitor {
    /// Starts the thread.
    #[new]
    fn new() -> PyResult<Self> {
        let shared = Arc::<Shared>::default();
        let own = shared.clone();
        std::thread::Builder::new().name("wireway-stalls".into()).spawn(move || own.watch())?;
        Ok(Self(shared))
    }

    /// Ends it. What is still to be told is told first.
    fn stop(&self) {
        self.0.room().stopped = true;
        self.0.changed.notify_all();
        self.0.told.notify_all();
    }

    /// Waits for what the next stall does: (watch, "begins" | "lasts" | "over", turn, token, began on
    /// CLOCK_MONOTONIC, seconds, cause, detail). None after `stop`. For one thread, which is not a loop's.
    #[allow(clippy::type_complexity)]
    fn next(
        &self,
        py: Python<'_>,
    ) -> Option<(u64, &'static str, u64, u64, f64, f64, &'static str, String)> {
        let event = py.detach(|| {
            let mut room = self.0.room();
            loop {
                if let Some(event) = room.events.pop_front() {
                    break Some(event);
                }
                if room.stopped {
                    break None;
                }
                room = self.0.told.wait(room).unwrap_or_else(PoisonError::into_inner);
            }
        })?;
        let Event { watch, kind, turn, token, began, seconds, cause, detail } = event;
        Some((watch, kind, turn, token, began, seconds, cause, detail))
    }

    /// Watches the loop that runs in this thread: a turn that lasts `after` seconds is a stall.
    fn watch(&self, core: &Bound<'_, LoopCore>, after: f64) -> PyResult<StallWatch> {
        let mut room = self.0.room();
        if room.stopped {
            return Err(PyRuntimeError::new_err("the monitor has ended"));
        }
        room.numbers += 1;
        let number = room.numbers;
        let (beat, looked) = (core.get().beat.clone(), Arc::new(AtomicU64::new(0)));
        room.watched.push(Watched {
            number,
            beat: beat.clone(),
            looked: looked.clone(),
            course: Course::new(after, sys::thread_id()),
        });
        self.0.changed.notify_all();
        Ok(StallWatch { shared: self.0.clone(), number, beat, looked, core: core.clone().unbind() })
    }
}

/// One loop that is watched.
#[pyclass(frozen, module = "wireway._native")]
pub struct StallWatch {
    shared: Arc<Shared>,
    number: u64,
    beat: Arc<Beat>,
    looked: Arc<AtomicU64>,
    core: Py<LoopCore>,
}

#[pymethods]
impl StallWatch {
    /// Its name in events.
    #[getter]
    fn number(&self) -> u64 {
        self.number
    }

    /// Whether that turn still lasts. If so the monitor takes it that somebody looks at it now. Any thread.
    fn still(&self, turn: u64) -> bool {
        let phase = self.beat.phase.load(Ordering::Relaxed);
        let still = phase / TURN == turn && phase & ASLEEP == 0;
        if still {
            self.looked.fetch_add(1, Ordering::Relaxed);
        }
        still
    }

    /// The connection that the loop works for: whose messages are handled, or whose handler that Task is, or whose
    /// token it is. Any thread: the loop's own stands while we hold the GIL.
    fn party(
        &self,
        token: u64,
        task: Option<&Bound<'_, PyAny>>,
        py: Python<'_>,
    ) -> Option<Py<Connection>> {
        let endpoints = self.core.get().endpoints.try_borrow().ok()?;
        let connections = || {
            endpoints.iter().filter_map(|endpoint| match endpoint {
                Endpoint::Connection(connection) => Some(connection),
                _ => None,
            })
        };
        connections()
            .find(|connection| connection.get().is_at_work(task))
            .or_else(|| connections().find(|connection| connection.get().token().raw() == token))
            .map(|connection| connection.clone_ref(py))
    }

    /// Ends the watch. A stall that lasts is over with it.
    fn close(&self) {
        let mut room = self.shared.room();
        let Some(place) = room.watched.iter().position(|one| one.number == self.number) else {
            return;
        };
        let mut gone = room.watched.swap_remove(place);
        let number = self.number;
        let events = &mut room.events;
        gone.course.finish(
            sys::monotonic(),
            gone.looked.load(Ordering::Relaxed),
            &mut |mut event| {
                event.watch = number;
                events.push_back(event);
            },
        );
        self.shared.told.notify_all();
    }
}

/// Adds the classes and the mark.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<StallMonitor>()?;
    module.add_class::<StallWatch>()?;
    module.add_function(wrap_pyfunction!(stall_mark, module)?)
}

/// The generation that `gc` names.
fn generation(info: &Bound<'_, PyDict>) -> u64 {
    let item = info.get_item(pyo3::intern!(info.py(), "generation"));
    item.ok().flatten().and_then(|value| value.extract().ok()).unwrap_or(0)
}
