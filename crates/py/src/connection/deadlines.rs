//! When a connection has waited long enough: one place in the wheel, many reasons.
//!
//! Nothing is set when a message comes or goes. The wheel brings us here at the earliest deadline that
//! was known when it was last set; by then it has nearly always moved, and is set anew.
//!
//! | deadline | counts from |
//! |---|---|
//! | TLS handshake | the begin; no other but the lifetime counts before its end |
//! | first message | the begin or the end of `on_connect`, until the first whole message |
//! | idle, read, write | the last bytes either way, in, out |
//! | write stall | when something was first left unsent, and again each time the kernel takes some of it |
//! | soft mark | when more than that began to wait |
//! | linger | the beginning of the close |
//! | lifetime | the begin |
//! | heartbeat | the last bytes in |
//!
//! # A stalled loop closes nobody
//!
//! A peer is judged by when its bytes reached the kernel, not by when we read them. So a deadline that became due
//! while we did not look (a handler held the loop) is looked at again after the next wait, when what had come was
//! read; and before a peer is called silent the kernel is asked what it knows. A heartbeat that left late
//! is waited for as long as one that left in time.

use pyo3::prelude::*;
use wireway_core::sys::info;

use crate::event_loop::LoopCore;

use super::admission::HEADER_SECONDS;
use super::{Connection, Flag};

/// A deadline that must be looked at again is, after so many seconds.
const AGAIN: f64 = 0.001;
/// A heartbeat that leaves so many seconds late was kept by us.
const LATE: f64 = 0.1;

/// What is to be done at a deadline.
enum Due {
    Close(&'static str, &'static str, f64),
    Ping,
    Resume,
}

impl Connection {
    /// Sets the wheel to the next deadline, if there is one.
    pub(super) fn arm(&self, core: &LoopCore) {
        if self.flags.any(Flag::CLOSED) {
            return;
        }
        let (when, _) = self.next_due();
        if when < f64::INFINITY {
            core.reactor.wheel.borrow_mut().set(self.token.index(), when);
        }
    }

    /// Sees to it that the wheel brings us here at `when` or before.
    pub(super) fn arm_by(&self, core: &LoopCore, when: f64) {
        let mut wheel = core.reactor.wheel.borrow_mut();
        let index = self.token.index();
        if wheel.get(index).is_none_or(|set| set > when) {
            wheel.set(index, when);
        }
    }

    /// The wheel says that a deadline may be due.
    pub fn expired(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if self.flags.any(Flag::CLOSED) {
            return Ok(());
        }
        let now = core.get().now();
        let (when, due) = self.next_due();
        if when <= now {
            match due {
                Due::Close(code, _, seconds)
                    if self.is_excused(core.get(), code, when, seconds) => {}
                Due::Close(code, what, seconds) => {
                    let why = format!("{what} for {seconds} s");
                    if code == "slow-consumer" && self.server.get().would_close("soft") {
                        // Counted once for each time that it is over the mark.
                        self.extra(|extra| extra.soft_since = f64::INFINITY);
                        self.arm(core.get());
                        return Ok(());
                    }
                    if code == "linger-timeout" {
                        return self.end_lingering(slf, core);
                    }
                    return if self.flags.any(Flag::STALLED) || code == "heartbeat-timeout" {
                        self.end(slf, core, code, why, None)
                    } else {
                        self.begin_close(slf, core, code, why, None)
                    };
                }
                Due::Ping => {
                    let every =
                        self.server.get().options.heartbeat.as_ref().map_or(0.0, |it| it.every);
                    let heard = self.account.attended.get().max(self.account.last_in.get());
                    if now - every > heard + LATE {
                        self.account.attended.set(now - every);
                    }
                    self.flags.set(Flag::PINGED);
                    self.ping(slf, core)?;
                }
                Due::Resume => self.resume_rate(slf, core)?,
            }
        }
        let (when, _) = self.next_due();
        if when < f64::INFINITY {
            // Never at once again: in between is a wait.
            core.get().reactor.wheel.borrow_mut().set(self.token.index(), when.max(now + AGAIN));
        }
        Ok(())
    }

    /// Whether the peer did its part before `when`, and only we did not see it: then the deadline has moved, or is
    /// looked at again after the next wait.
    fn is_excused(&self, core: &LoopCore, code: &str, when: f64, seconds: f64) -> bool {
        if when > core.moment.get() && code != "lifetime" {
            return true;
        }
        if !core.time_flows() {
            return false;
        }
        match code {
            "idle-timeout" | "read-timeout" | "heartbeat-timeout" => self.was_heard(core, seconds),
            "write-stalled" => self.was_taken(core),
            _ => false,
        }
    }

    /// Whether the kernel had bytes of the peer's within so many seconds.
    fn was_heard(&self, core: &LoopCore, seconds: f64) -> bool {
        let (fd, now) = (self.conn.borrow().fd(), core.now());
        let waits = info::unread(fd) > 0;
        let silent = match info::tcp_info(fd).ok().and_then(|info| info.since_data()) {
            Some(silent) if silent < seconds => silent,
            // Not TCP, or they wait for us for so long already.
            _ if waits => 0.0,
            _ => return false,
        };
        let account = &self.account;
        account.last_in.set(account.last_in.get().max(now - silent));
        true
    }

    /// Whether the peer acknowledged some of what the kernel took, since it takes no more of it.
    fn was_taken(&self, core: &LoopCore) -> bool {
        let acknowledged = self.acknowledged();
        let now = core.now();
        self.extra(|extra| {
            let more = acknowledged > extra.acknowledged;
            if more {
                extra.acknowledged = acknowledged;
                extra.stalled_since = now;
            }
            more
        })
    }

    /// The bytes that the peer has acknowledged so far.
    fn acknowledged(&self) -> u64 {
        let conn = self.conn.borrow();
        let given = self.account.written.get().saturating_sub(conn.queued() as u64);
        given.saturating_sub(u64::from(info::unacknowledged(conn.fd())))
    }

    /// The earliest deadline, and what to do then.
    fn next_due(&self) -> (f64, Due) {
        let server = self.server.get();
        let limits = &server.options.deadlines;
        let account = &self.account;
        let (opened, last_in, last_out) =
            (account.opened.get(), account.last_in.get(), account.last_out.get());
        let mut earliest = (f64::INFINITY, Due::Resume);
        let mut by = |when: f64, due: Due| {
            if when < earliest.0 {
                earliest = (when, due);
            }
        };
        if self.flags.any(Flag::CLOSING) {
            let since = self.if_extra(|extra| extra.closing_since).unwrap_or(opened);
            let linger = limits.close_linger;
            by(
                since + linger,
                Due::Close("linger-timeout", "what was queued was not taken", linger),
            );
            return earliest;
        }
        let closing = |code, what, seconds| Due::Close(code, what, seconds);
        let life = limits.lifetime;
        by(opened + life, closing("lifetime", "it was open", life));
        if self.flags.any(Flag::SHAKING) && !self.flags.any(Flag::HEADER) {
            let shake = server.handshake_seconds();
            let what = "the TLS handshake was not done";
            by(account.attended.get() + shake, closing("tls-handshake-timeout", what, shake));
            return earliest;
        }
        if self.flags.any(Flag::THROTTLED)
            && let Some(when) = self.resumes_at()
        {
            by(when, Due::Resume);
        }
        if self.flags.any(Flag::STALLED) {
            let (since, soft) = self
                .if_extra(|extra| (extra.stalled_since, extra.soft_since))
                .unwrap_or((opened, 0.0));
            let stall = limits.write_stall;
            by(
                since.max(last_out) + stall,
                closing("write-stalled", "the peer took nothing of what waits", stall),
            );
            if soft > 0.0 {
                let seconds = server.options.soft_seconds;
                by(
                    soft + seconds,
                    closing("slow-consumer", "more than the soft mark waited", seconds),
                );
            }
        }
        // While we do not read, or work for the peer and do not wait for it, its silence is ours.
        let heard = account.attended.get().max(last_in);
        let ours = self.flags.any(Flag::PAUSED | Flag::HELD | Flag::PATIENT)
            || (self.flags.any(Flag::BUSY) && !self.flags.any(Flag::AWAITED));
        if !self.flags.any(Flag::SPOKEN) && !ours {
            let header = self.flags.any(Flag::HEADER);
            let first =
                limits.first_message.min(if header { HEADER_SECONDS } else { f64::INFINITY });
            let what = "no whole message came after the beginning";
            by(account.attended.get() + first, closing("first-message-timeout", what, first));
        }
        if !ours {
            let (read, idle) = (limits.idle_read, limits.idle);
            by(heard + read, closing("read-timeout", "nothing came", read));
            let what = "nothing came or went";
            by(heard.max(last_out) + idle, closing("idle-timeout", what, idle));
        }
        // A peer that waits for our handler answers heartbeats meanwhile, and we read them.
        if let Some(beat) = &server.options.heartbeat
            && !self.flags.any(Flag::PAUSED)
        {
            let silent = beat.every + beat.timeout;
            let what = "nothing came, no answer to a heartbeat either,";
            by(heard + silent, closing("heartbeat-timeout", what, silent));
            if !self.flags.any(Flag::PINGED) {
                let share = beat.share(self.number, account.messages_in.get());
                by(heard + beat.every * share, Due::Ping);
            }
        }
        let write = limits.idle_write;
        by(last_out + write, closing("write-timeout", "nothing went", write));
        earliest
    }

    /// Some of what was flushed was left unsent, or all has left.
    pub(super) fn note_stall(&self, core: &LoopCore, waits: bool) {
        if !waits {
            if self.flags.clear(Flag::STALLED) {
                self.trim();
            }
            return;
        }
        let options = &self.server.get().options;
        let watch_soft = options.soft < usize::MAX;
        if options.deadlines.write_stall == f64::INFINITY && !watch_soft {
            return;
        }
        let now = core.moment.get();
        let over = watch_soft && self.conn.borrow().queued() > options.soft;
        let fresh = !self.flags.any(Flag::STALLED);
        self.flags.set(Flag::STALLED);
        let acknowledged = if fresh { self.acknowledged() } else { 0 };
        let changed = self.extra(|extra| {
            if fresh {
                extra.stalled_since = now;
                extra.acknowledged = acknowledged;
                extra.soft_since = 0.0;
            }
            let crossed = over != (extra.soft_since > 0.0);
            if crossed {
                extra.soft_since = if over { now } else { 0.0 };
            }
            fresh || crossed
        });
        if changed {
            let (when, _) = self.next_due();
            self.arm_by(core, when);
        }
    }
}
