//! One message to many: framed once, kept once, queued by reference for each.

use std::rc::Rc;

use pyo3::intern;
use pyo3::prelude::*;
use wireway_core::op::Token;

use crate::connection::Connection;
use crate::event_loop::{Endpoint, LoopCore};
use crate::framing;
use crate::memory::Shared;

use super::ServerCore;
use super::options::WhenSlow;

/// Who it is for.
pub enum To<'a> {
    All,
    Group(&'a str),
    User(&'a str),
}

/// How it goes where the peer is slow.
#[derive(Default)]
pub struct Manner {
    /// A newer message with this key makes this one worthless.
    pub key: Option<Rc<[u8]>>,
    /// Instead of what the server was told.
    pub when_slow: Option<WhenSlow>,
}

impl<'a> To<'a> {
    /// A group, or everybody.
    pub fn group(name: Option<&'a str>) -> Self {
        name.map_or(Self::All, Self::Group)
    }
}

impl ServerCore {
    /// Queues `message` for everybody it is for. Returns for how many.
    pub(super) fn fan_out(
        &self,
        slf: &Bound<'_, Self>,
        message: &Bound<'_, PyAny>,
        to: To<'_>,
        exclude: &[Py<Connection>],
        manner: &Manner,
    ) -> PyResult<usize> {
        let py = slf.py();
        let core = self.core(py);
        core.get().check_thread()?;
        // A list of its own: what a send sets off may change the group.
        let members = match to {
            To::All => self.everybody(slf),
            To::Group(name) => self.groups.borrow().members(name),
            To::User(name) => self.users.borrow().members(name),
        };
        let excluded: Vec<Token> = exclude.iter().map(|each| each.get().token()).collect();
        let shared = Shared::new(framing::encoded(&self.framing, message)?);
        let mut queued = 0;
        for member in members {
            if excluded.contains(&member) {
                continue;
            }
            let Some(connection) = living(py, core.get(), member) else { continue };
            let (this, slf) = (connection.get(), connection.bind(py));
            let own = if this.is_reframed() {
                Some(Shared::new(this.with_framing(|own| framing::encoded(own, message))?))
            } else {
                None
            };
            if this.post(slf, core, own.as_ref().unwrap_or(&shared), manner)?.is_some() {
                queued += 1;
            }
        }
        Ok(queued)
    }

    fn everybody(&self, slf: &Bound<'_, Self>) -> Vec<Token> {
        let endpoints = self.core.get().endpoints.borrow();
        endpoints
            .iter()
            .filter_map(|endpoint| match endpoint {
                Endpoint::Connection(connection) if connection.get().belongs_to(slf) => {
                    Some(connection.get().token())
                }
                _ => None,
            })
            .collect()
    }

    /// Those of `tokens` that are open.
    pub(super) fn living(&self, py: Python<'_>, tokens: &[Token]) -> Vec<Py<Connection>> {
        let core = self.core.get();
        tokens.iter().filter_map(|&token| living(py, core, token)).collect()
    }

    /// A connection joins a group; false if it was in it.
    pub fn join(&self, group: &str, member: Token) -> bool {
        self.groups.borrow_mut().join(group, member)
    }

    /// A connection leaves a group.
    pub fn leave(&self, group: &str, member: Token) {
        self.groups.borrow_mut().leave(group, member);
    }

    /// A connection becomes one of a user's, and stops to be one of another's.
    pub fn bind_user(&self, former: Option<&str>, user: Option<&str>, member: Token) {
        let mut users = self.users.borrow_mut();
        if let Some(former) = former {
            users.leave(former, member);
        }
        if let Some(user) = user {
            users.join(user, member);
        }
    }
}

impl ServerCore {
    /// More waits to be sent in all connections of the loop than may, `bytes` of it since just now: the
    /// greediest one ends. What the present turn sends may leave with it, and is judged after it.
    #[cold]
    pub fn spend_less(
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        bytes: usize,
    ) -> PyResult<()> {
        let this = slf.get();
        let budget = this.options.queued_bytes;
        if this.options.dry_run.contains("queued_bytes") {
            // Counted when it is crossed, once.
            if core.get().reactor.pool.queued() - bytes > budget {
                return Ok(());
            }
        } else if let Some(greediest) = greediest(slf.py(), core.get())
            && greediest.get().is_pressed()
        {
            return greediest.get().end_greedy(greediest.bind(slf.py()), core, budget);
        }
        if !this.spending.replace(true) {
            let judge = slf.getattr(intern!(slf.py(), "_spend_less"))?;
            core.call_method1(intern!(slf.py(), "call_soon"), (judge,))?;
        }
        Ok(())
    }

    /// The turn that went over the budget has ended: who still holds too much, ends.
    pub(super) fn judge_spending(&self, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        self.spending.set(false);
        let budget = self.options.queued_bytes;
        while core.get().reactor.pool.queued() > budget && !self.would_close("queued_bytes") {
            let Some(greediest) = greediest(core.py(), core.get()) else { break };
            greediest.get().end_greedy(greediest.bind(core.py()), core, budget)?;
        }
        Ok(())
    }
}

/// The connection that has the most waiting, if any has something.
fn greediest(py: Python<'_>, core: &LoopCore) -> Option<Py<Connection>> {
    let endpoints = core.endpoints.borrow();
    let connections = endpoints.iter().filter_map(|endpoint| match endpoint {
        Endpoint::Connection(connection) => Some(connection),
        _ => None,
    });
    let greediest = connections.max_by_key(|connection| connection.get().waiting())?;
    (greediest.get().waiting() > 0).then(|| greediest.clone_ref(py))
}

fn living(py: Python<'_>, core: &LoopCore, token: Token) -> Option<Py<Connection>> {
    match core.endpoints.borrow().get(token.index())? {
        Endpoint::Connection(connection) if connection.get().token() == token => {
            Some(connection.clone_ref(py))
        }
        _ => None,
    }
}

impl Connection {
    /// Leaves every group and its user: the connection ended.
    pub fn leave_all(&self, server: &ServerCore) {
        let (groups, user) = self.memberships();
        for group in groups {
            server.leave(&group, self.token());
        }
        if let Some(user) = user {
            server.bind_user(Some(&user), None, self.token());
        }
    }
}
