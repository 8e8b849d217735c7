//! `Survey`: the connections of a server that come first by some column, out of very many.
//!
//! Owns the looking: in steps, between which the loop may turn, with no Python object for a connection that is not among
//! them. What is shown of those is Python's, `wireway.observe.table`.

use std::cell::RefCell;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wireway_core::op::Token;

use crate::connection::{Connection, Figures};
use crate::event_loop::Endpoint;

use super::ServerCore;

/// What connections are ordered by.
enum Key {
    /// Nothing is known; before all else.
    Unknown,
    Number(f64),
    Text(String),
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(one), Self::Number(two)) => one.total_cmp(two),
            (Self::Text(one), Self::Text(two)) => one.cmp(two),
            (Self::Unknown, Self::Unknown) => Ordering::Equal,
            (Self::Unknown, _) => Ordering::Less,
            (_, Self::Unknown) => Ordering::Greater,
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

/// One of those that come first: its key, what decides between equal ones, its token.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found(Key, u64, u64);

/// The first so many of what it is given; of equal ones the older come first.
enum Best {
    Largest(BinaryHeap<Reverse<Found>>),
    Smallest(BinaryHeap<Found>),
}

impl Best {
    fn new(largest: bool) -> Self {
        if largest { Self::Largest(BinaryHeap::new()) } else { Self::Smallest(BinaryHeap::new()) }
    }

    fn push(&mut self, limit: usize, key: Key, number: u64, token: Token) {
        match self {
            Self::Largest(heap) => {
                heap.push(Reverse(Found(key, u64::MAX - number, token.raw())));
                if heap.len() > limit {
                    heap.pop();
                }
            }
            Self::Smallest(heap) => {
                heap.push(Found(key, number, token.raw()));
                if heap.len() > limit {
                    heap.pop();
                }
            }
        }
    }

    fn sorted(self) -> Vec<Token> {
        let token = |found: Found| Token::from_raw(found.2);
        match self {
            Self::Largest(heap) => {
                heap.into_sorted_vec().into_iter().map(|Reverse(found)| token(found)).collect()
            }
            Self::Smallest(heap) => heap.into_sorted_vec().into_iter().map(token).collect(),
        }
    }
}

/// What a connection had carried: bytes in and out, messages in and out.
type Carried = [u64; 4];

struct State {
    best: Best,
    place: usize,
    matched: usize,
    /// By place among the loop's endpoints: whose, and what it had carried.
    carried: Vec<(u64, Carried)>,
}

/// A look at the connections of a server. Belongs to the loop's thread.
///
/// `column` is one of `wireway.observe.table.COLUMNS`; `matching` a part of the peer, of the user or of a group. With
/// `before`, a survey that is done, the rates since then are known; with `remember` this one can be such.
#[pyclass(frozen, module = "wireway._native")]
pub struct Survey {
    server: Py<ServerCore>,
    column: Column,
    largest: bool,
    limit: usize,
    matching: String,
    remember: bool,
    before: Option<Py<Self>>,
    at: f64,
    state: RefCell<State>,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for Survey {}
// SAFETY: as `LoopCore`.
unsafe impl Send for Survey {}

#[derive(Clone, Copy)]
enum Column {
    Id,
    Peer,
    User,
    Groups,
    Age,
    Idle,
    In,
    Out,
    MessagesIn,
    MessagesOut,
    /// Of `Carried`, a second.
    Rate(usize),
    Queued,
    Rtt,
    Retransmits,
    State,
    Handler,
    Handling,
}

impl Column {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "id" | "server" => Self::Id,
            "peer" => Self::Peer,
            "user" => Self::User,
            "groups" => Self::Groups,
            "age" => Self::Age,
            "idle" => Self::Idle,
            "in" => Self::In,
            "out" => Self::Out,
            "messages_in" => Self::MessagesIn,
            "messages_out" => Self::MessagesOut,
            "in_rate" => Self::Rate(0),
            "out_rate" => Self::Rate(1),
            "messages_in_rate" => Self::Rate(2),
            "messages_out_rate" => Self::Rate(3),
            "queued" => Self::Queued,
            "rtt" => Self::Rtt,
            "retransmits" => Self::Retransmits,
            "state" => Self::State,
            "handler" => Self::Handler,
            "handling" => Self::Handling,
            _ => return None,
        })
    }

    fn key(self, connection: &Connection, figures: &Figures, rates: Option<[f64; 4]>) -> Key {
        let number = |value: Option<f64>| value.map_or(Key::Unknown, Key::Number);
        match self {
            Self::Id => Key::Number(connection.number() as f64),
            Self::Peer => Key::Text(connection.peer_text()),
            Self::User => Key::Text(connection.user_text()),
            Self::Groups => Key::Text(connection.groups_text()),
            Self::Age => Key::Number(figures.age),
            Self::Idle => Key::Number(figures.idle),
            Self::In => Key::Number(figures.carried[0] as f64),
            Self::Out => Key::Number(figures.carried[1] as f64),
            Self::MessagesIn => Key::Number(figures.carried[2] as f64),
            Self::MessagesOut => Key::Number(figures.carried[3] as f64),
            Self::Rate(which) => number(rates.map(|rates| rates[which])),
            Self::Queued => Key::Number(figures.queued as f64),
            Self::Rtt => number(connection.kernel().and_then(|info| info.rtt())),
            Self::Retransmits => number(connection.kernel().map(|info| info.retransmits().into())),
            Self::State => number(connection.kernel().map(|info| info.state().into())),
            Self::Handler => Key::Number(figures.handler),
            Self::Handling => number(figures.handling),
        }
    }
}

/// A connection and its rates a second: bytes in and out, messages in and out; None if they are not known.
type Row = (Py<Connection>, Option<[f64; 4]>);

#[pymethods]
impl Survey {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keywords, in Python")]
    #[pyo3(signature = (server, column, *, largest, limit, matching = "", remember = false, before = None))]
    fn new(
        py: Python<'_>,
        server: Py<ServerCore>,
        column: &str,
        largest: bool,
        limit: usize,
        matching: &str,
        remember: bool,
        before: Option<Py<Self>>,
    ) -> PyResult<Self> {
        let Some(column) = Column::parse(column) else {
            return Err(PyValueError::new_err(format!("there is no column {column:?}")));
        };
        let at = server.get().core(py).get().now();
        let state = State { best: Best::new(largest), place: 0, matched: 0, carried: Vec::new() };
        let matching = matching.to_owned();
        let state = RefCell::new(state);
        Ok(Self { server, column, largest, limit, matching, remember, before, at, state })
    }

    /// Looks at so many more places; false when there are none left.
    fn step(&self, py: Python<'_>, most: usize) -> bool {
        let server = self.server.bind(py);
        let core = server.get().core(py).get();
        let now = core.now();
        let endpoints = core.endpoints.borrow();
        let mut state = self.state.borrow_mut();
        let end = endpoints.len().min(state.place.saturating_add(most));
        for place in state.place..end {
            let Some(Endpoint::Connection(connection)) = endpoints.get(place) else { continue };
            let connection = connection.get();
            if !connection.belongs_to(server) {
                continue;
            }
            let figures = connection.figures(now);
            if self.remember {
                if state.carried.len() <= place {
                    state.carried.resize(place + 1, (u64::MAX, [0; 4]));
                }
                state.carried[place] = (connection.number(), figures.carried);
            }
            if !self.matching.is_empty() && !connection.matches(&self.matching) {
                continue;
            }
            state.matched += 1;
            let rates = match self.column {
                Column::Rate(_) => self.rates(place, connection, &figures),
                _ => None,
            };
            let key = self.column.key(connection, &figures, rates);
            state.best.push(self.limit, key, connection.number(), connection.token());
        }
        state.place = end;
        end < endpoints.len()
    }

    /// Those that come first, in their order, as far as they are still there. Takes them.
    fn rows(&self, py: Python<'_>) -> Vec<Row> {
        let best = std::mem::replace(&mut self.state.borrow_mut().best, Best::new(self.largest));
        let core = self.server.get().core(py).get();
        let now = core.now();
        let endpoints = core.endpoints.borrow();
        let row = |token: Token| match endpoints.get(token.index()) {
            Some(Endpoint::Connection(found)) if found.get().token() == token => {
                let rates = self.rates(token.index(), found.get(), &found.get().figures(now));
                Some((found.clone_ref(py), rates))
            }
            _ => None,
        };
        best.sorted().into_iter().filter_map(row).collect()
    }

    /// How many match.
    #[getter]
    fn matched(&self) -> usize {
        self.state.borrow().matched
    }

    /// When it began, on the loop's clock, seconds.
    #[getter]
    fn at(&self) -> f64 {
        self.at
    }
}

impl Survey {
    fn rates(&self, place: usize, connection: &Connection, figures: &Figures) -> Option<[f64; 4]> {
        let before = self.before.as_ref()?.get();
        let passed = figures.at - before.at;
        let state = before.state.borrow();
        let (number, carried) = state.carried.get(place)?;
        let (then, passed) = if *number == connection.number() {
            (*carried, passed)
        } else {
            ([0; 4], passed.min(figures.age)) // it came since
        };
        (passed > 0.0).then(|| {
            std::array::from_fn(|which| {
                figures.carried[which].saturating_sub(then[which]) as f64 / passed
            })
        })
    }
}
