//! The end of an accept: nobody whom the kernel has let in already is turned away.
//!
//! A multishot accept takes connections off the backlog by itself. Detaching the listener would close those that are on
//! their way, and their peers would see a reset; so they are waited for, which takes no time: a cancelled accept
//! completes within the call that submits the cancel.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use super::requests::Inner;
use super::slot::kind;
use crate::op::Token;

/// Calls within which the kernel must have ended it. One is enough, as far as was seen.
const LAST_ACCEPTS: usize = 8;

impl Inner {
    /// Ends an accept now: what it has brought, and what was set aside while it was not wanted.
    pub fn stop_accepting(&mut self, token: Token) -> io::Result<Vec<OwnedFd>> {
        let Some(slot) = self.slot(token) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        slot.wanted &= !kind::ACCEPT;
        let stash = slot.stash.as_mut().map(|stash| std::mem::take(&mut stash.accepted));
        let mut taken: Vec<OwnedFd> = stash.unwrap_or_default().into();
        if self.forked() {
            return Ok(taken);
        }
        self.bind()?;
        self.list(token);
        self.arm()?;
        let mut entries = Vec::new();
        for _ in 0..LAST_ACCEPTS {
            if self.slot(token).is_none_or(|slot| slot.armed & kind::ACCEPT == 0) {
                break;
            }
            self.ring.enter(0, Some(Duration::ZERO))?;
            self.ring.reap(&mut entries);
            for entry in entries.drain(..) {
                let ours = (entry.data >> 56) as u8 == kind::ACCEPT
                    && self.token(entry.data) == Some(token);
                if !ours {
                    // The next wait delivers it.
                    self.left.push(entry);
                    continue;
                }
                self.disarm(token, kind::ACCEPT, entry.flags);
                if entry.result >= 0 {
                    // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
                    taken.push(unsafe { OwnedFd::from_raw_fd(entry.result) });
                }
            }
        }
        Ok(taken)
    }
}
