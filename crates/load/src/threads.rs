//! The threads of a run: they connect, begin together, and their figures are added up.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;

use crate::figures::Figures;
use crate::options::{Address, Options, Share, Shared};
use crate::run::Run;

/// Makes the connections, and the load. Ends early, with the figures so far, when every connection was lost.
///
/// # Errors
/// No connection could be made, or all were lost before anything came back.
pub fn run(options: &Options, shared: &Shared) -> io::Result<Figures> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &options.addresses {
        let (figures, refused) = at(options, address, shared)?;
        match refused {
            Some(error) if figures.connected == 0 => last = error,
            _ => {
                return match &figures.ended {
                    Some(why) if shared.messages.load(Ordering::Relaxed) == 0 => {
                        Err(io::Error::new(io::ErrorKind::ConnectionReset, why.clone()))
                    }
                    _ => Ok(figures),
                };
            }
        }
    }
    Err(last)
}

type Part = (Figures, Option<io::Error>);

fn at(options: &Options, address: &Address, shared: &Shared) -> io::Result<Part> {
    let threads = options.threads.clamp(1, options.connections.max(1));
    let together = Barrier::new(threads);
    let parts: Mutex<Vec<io::Result<Part>>> = Mutex::new(Vec::new());
    let work = |number| {
        let share = Share::new(options, number, threads);
        let part = match Run::new(options, address, share, shared) {
            Ok(run) => run.drive(&together),
            Err(error) => {
                together.wait();
                Err(error)
            }
        };
        parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    };
    thread::scope(|scope| {
        for number in 1..threads {
            scope.spawn(move || work(number));
        }
        work(0);
    });
    let mut whole: Option<Part> = None;
    for part in parts.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let (figures, refused) = part?;
        match &mut whole {
            None => whole = Some((figures, refused)),
            Some((sum, first)) => {
                sum.add(&figures);
                *first = first.take().or(refused);
            }
        }
    }
    whole.ok_or_else(|| io::Error::other("no thread ran"))
}
