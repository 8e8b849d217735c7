//! The course of a loop's turns as the monitor sees it, and the verdict on one that lasts too long.
//!
//! Knows no thread and no lock: time, the beat and who looked are passed in.

use std::io::Write;
use std::sync::atomic::Ordering;

use super::kernel::{self, Usage};
use super::{ASLEEP, Beat, Event, NOBODY, TAKING, TURN, collection};

/// How often a stall is looked at, to know its end, seconds.
const FINE: f64 = 0.02;
/// Looks at the stack of one stall.
const LOOKS: u32 = 20;

/// What was true when a turn was first seen.
struct Turn {
    number: u64,
    taking: bool,
    /// When it began, seconds.
    began: f64,
    /// When the rest was read, seconds.
    seen: f64,
    usage: Option<Usage>,
    collected: f64,
    /// Seconds since in which the process was stopped, and in which there was no processor for the monitor.
    stopped: f64,
    starved: f64,
}

/// A turn that lasts too long.
struct Stall {
    /// When the reader was told.
    told: f64,
    next_look: f64,
    looks: u32,
    /// Since when the reader has been asked in vain for a look, seconds; and its looks until then.
    asked: Option<f64>,
    answered: u64,
    /// Seconds that it waited for the GIL so far.
    kept: f64,
    /// It was said on stderr that nobody gets the GIL.
    said: bool,
    token: u64,
    call: Option<String>,
}

impl Stall {
    /// The reader has looked so often.
    fn note_answer(&mut self, looked: u64, now: f64) {
        if looked != self.answered {
            self.answered = looked;
            self.kept += self.asked.take().map_or(0.0, |asked| now - asked);
        }
    }
}

/// The turns of one loop.
pub struct Course {
    after: f64,
    thread: i32,
    turn: Option<Turn>,
    stall: Option<Stall>,
    /// The lateness of this tick, seconds stopped and starved.
    late: (f64, f64),
}

impl Course {
    /// Of the loop in this thread. A turn of `after` seconds is a stall.
    pub fn new(after: f64, thread: i32) -> Self {
        Self { after, thread, turn: None, stall: None, late: (0.0, 0.0) }
    }

    /// The monitor woke so much later than it wanted.
    pub fn late(&mut self, stopped: f64, starved: f64) {
        self.late = (stopped, starved);
        if let Some(turn) = &mut self.turn {
            turn.stopped += stopped;
            turn.starved += starved;
        }
    }

    /// Looks at the beat; returns when to look again, seconds. `before` is the last look, `looked` how often the reader
    /// has looked.
    pub fn tick(
        &mut self,
        beat: &Beat,
        before: f64,
        now: f64,
        looked: u64,
        tell: &mut dyn FnMut(Event),
    ) -> f64 {
        let phase = beat.phase.load(Ordering::Relaxed);
        let (stopped, starved) = std::mem::take(&mut self.late);
        let (number, sleeps) = (phase / TURN, phase & ASLEEP != 0);
        let same = !sleeps && self.turn.as_ref().is_some_and(|turn| turn.number == number);
        if !same {
            let ended = self.stall.is_some();
            self.finish(now, looked, tell);
            self.turn = None;
            if !ended && stopped.max(starved) > self.after {
                tell(lateness(number, now, stopped, starved));
            }
        }
        let coarse = now + (self.after / 4.0).min(1.0);
        if sleeps {
            return coarse;
        }
        let thread = self.thread;
        let turn = self.turn.get_or_insert_with(|| {
            let since = f64::from_bits(beat.since.load(Ordering::Relaxed));
            let taking = phase & TAKING != 0;
            Turn {
                number,
                taking,
                began: if !taking && (before..=now).contains(&since) { since } else { now },
                seen: now,
                usage: kernel::usage(thread),
                collected: collection::seconds(now),
                stopped: 0.0,
                starved: 0.0,
            }
        });
        let lasted = now - turn.began;
        if lasted < self.after {
            return coarse.min(turn.began + self.after);
        }
        let fresh = self.stall.is_none();
        let stall = self.stall.get_or_insert(Stall {
            told: now,
            next_look: now,
            looks: 0,
            asked: None,
            answered: looked,
            kept: 0.0,
            said: false,
            token: NOBODY,
            call: None,
        });
        stall.note_answer(looked, now);
        if now >= stall.next_look && stall.looks < LOOKS {
            stall.looks += 1;
            stall.asked.get_or_insert(now);
            stall.next_look = now + self.after * f64::from(1 + stall.looks / 4);
            stall.token = beat.token.load(Ordering::Relaxed);
            stall.call = kernel::system_call(self.thread).or_else(|| stall.call.take());
            let (cause, detail) = verdict(turn, stall, self.thread, now);
            tell(Event {
                watch: 0,
                kind: if fresh { "begins" } else { "lasts" },
                turn: number,
                token: stall.token,
                began: turn.began,
                seconds: lasted,
                cause,
                detail,
            });
        }
        let grace = (self.after / 2.0).clamp(0.2, 1.0);
        if !stall.said && stall.asked.is_some_and(|asked| now - asked > grace) {
            stall.said = true;
            say(self.thread, lasted);
        }
        now + FINE
    }

    /// The turn is over, or nobody watches any more.
    pub fn finish(&mut self, now: f64, looked: u64, tell: &mut dyn FnMut(Event)) {
        let (Some(mut stall), Some(turn)) = (self.stall.take(), self.turn.take()) else { return };
        stall.note_answer(looked, now);
        let (cause, detail) = verdict(&turn, &stall, self.thread, now);
        tell(Event {
            watch: 0,
            kind: "over",
            turn: turn.number,
            token: stall.token,
            began: turn.began,
            seconds: now - turn.began,
            cause,
            detail,
        });
    }
}

/// The process did not run, and the loop has nothing to do with it.
fn lateness(turn: u64, now: f64, stopped: f64, starved: f64) -> Event {
    let (cause, detail) = share(stopped, starved);
    let seconds = stopped.max(starved);
    let began = now - seconds;
    Event { watch: 0, kind: "over", turn, token: NOBODY, began, seconds, cause, detail }
}

fn share(stopped: f64, starved: f64) -> (&'static str, String) {
    if stopped >= starved {
        ("stopped", "the whole process did not run: a signal, a debugger or the machine".into())
    } else {
        ("starved", "there was no processor for the process".into())
    }
}

/// Why the turn lasts, or lasted, so long: whatever took half of it.
fn verdict(turn: &Turn, stall: &Stall, thread: i32, now: f64) -> (&'static str, String) {
    let half = (now - turn.began) / 2.0;
    if turn.stopped.max(turn.starved) >= half {
        return share(turn.stopped, turn.starved);
    }
    let collected = collection::seconds(now) - turn.collected;
    if collected >= half && collected > 0.0 {
        let generation = collection::last_generation();
        let which =
            if collection::runs() { String::new() } else { format!(" of generation {generation}") };
        return ("gc", format!("{collected:.2} s of garbage collection{which}"));
    }
    // Read from when the turn was first seen, which may be a little after it began.
    let spent = kernel::usage(thread).zip(turn.usage);
    let half_seen = (now - turn.seen) / 2.0;
    let (ran, waited) = spent.map_or((0.0, 0.0), |(after, before)| {
        (after.ran - before.ran, after.waited - before.waited)
    });
    if waited >= half_seen && waited > 0.0 {
        return ("starved", format!("{waited:.2} s without a processor"));
    }
    if turn.taking {
        return ("gil", "another thread keeps the GIL".into());
    }
    let kept = stall.kept + stall.asked.map_or(0.0, |asked| now - asked);
    if stall.said && kept >= (now - stall.told) / 2.0 {
        return ("native", "native code keeps the GIL".into());
    }
    // On a busy machine neither need be half of it, and together they show that it did not wait for anything else.
    if ran + waited >= half_seen && ran + waited > 0.0 {
        return if ran >= waited {
            ("busy", format!("{ran:.2} s of processor time"))
        } else {
            ("starved", format!("{waited:.2} s without a processor"))
        };
    }
    let call = stall.call.as_deref();
    ("blocked", call.map_or_else(|| "it waits".into(), |call| format!("it waits in {call}")))
}

/// For whoever reads stderr: the GIL can not be had, so no logger can say it.
fn say(thread: i32, seconds: f64) {
    let what = if collection::runs() {
        "the garbage collector runs"
    } else {
        "native code keeps the GIL, so no Python stack can be read"
    };
    let text = format!(
        "wireway: the event loop in thread {thread} has not turned for {seconds:.1} s: {what}\n"
    );
    // Nobody is left to hear that stderr is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
