//! The ring itself: making one that the kernel accepts, filling it, entering it.

use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, squeue};

/// Submission entries. A turn with more work submits in between.
const ENTRIES: u32 = 1024;
/// Completion entries. More are kept by the kernel (`IORING_FEAT_NODROP`) and flushed when we enter.
const COMPLETIONS: u32 = 8192;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;

/// One completion, copied out of the ring.
#[derive(Clone, Copy)]
pub struct Entry {
    /// What we wrote into the submission.
    pub data: u64,
    /// The result: a count, a descriptor, or minus an errno.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

/// A ring, bound to the thread that first enters it.
pub struct Ring {
    /// The ring of the crate.
    pub raw: IoUring,
    deferred: bool,
}

impl Ring {
    /// The best ring that this kernel gives: task work run only when we enter (6.1), else when the
    /// kernel next returns to us (5.19), else whenever it likes.
    ///
    /// # Errors
    ///
    /// EPERM under seccomp or `kernel.io_uring_disabled`, ENOSYS before 5.1.
    pub fn new() -> io::Result<Self> {
        Self::with(ENTRIES, COMPLETIONS)
    }

    /// One that is only to be looked at.
    ///
    /// # Errors
    ///
    /// As [`Ring::new`].
    pub fn small() -> io::Result<Self> {
        Self::with(2, 4)
    }

    /// Whether task work runs only when we enter.
    pub fn is_deferred(&self) -> bool {
        self.deferred
    }

    fn with(entries: u32, completions: u32) -> io::Result<Self> {
        let build = |deferred: bool, cooperative: bool| {
            let mut builder = IoUring::builder();
            builder.setup_clamp().setup_cqsize(completions).dontfork();
            if deferred {
                // Disabled until the thread that runs the loop is known: it becomes the one issuer.
                builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
                builder.setup_r_disabled().setup_submit_all();
            } else if cooperative {
                builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
            }
            builder.build(entries)
        };
        let refused = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
        let (raw, deferred) = match build(true, false) {
            Err(error) if refused(&error) => match build(false, true) {
                Err(error) if refused(&error) => (build(false, false)?, false),
                other => (other?, false),
            },
            other => (other?, true),
        };
        Ok(Self { raw, deferred })
    }

    /// Makes the calling thread the issuer.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn enable(&self) -> io::Result<()> {
        if self.deferred { self.raw.submitter().register_enable_rings() } else { Ok(()) }
    }

    /// Queues one entry, submitting what is queued if there is no room.
    ///
    /// # Safety
    ///
    /// Memory that the entry names must stay as it is until its completion is reaped.
    ///
    /// # Errors
    ///
    /// What the kernel says to the submission.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the caller's promise.
            if unsafe { self.raw.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.enter(0, Some(Duration::ZERO))?;
        }
    }

    /// Whether entering would do anything: entries to submit, task work to run, a full queue to flush.
    #[inline]
    pub fn needs_enter(&mut self) -> bool {
        let deferred = self.deferred;
        let queue = self.raw.submission();
        !queue.is_empty() || !deferred || queue.taskrun() || queue.cq_overflow()
    }

    /// Submits what is queued and waits for `want` completions, at most `timeout`.
    ///
    /// # Errors
    ///
    /// What leaves the ring unusable; a signal, the end of the timeout, and a kernel that is busy
    /// flushing are empty successes.
    pub fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let submit = {
            let mut queue = self.raw.submission();
            queue.sync();
            queue.len() as u32
        };
        let mut flags = ENTER_GETEVENTS;
        let want = if timeout == Some(Duration::ZERO) { 0 } else { want };
        let spec = timeout
            .map(|timeout| Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        let result = match (&spec, want) {
            (Some(spec), 1..) => {
                flags |= ENTER_EXT_ARG;
                let arguments = SubmitArgs::new().timespec(spec);
                // SAFETY: the arguments live through the call; the flags say what they are.
                unsafe {
                    self.raw.submitter().enter(
                        submit,
                        want,
                        flags,
                        Some(&*(&raw const arguments).cast::<[u64; 3]>()),
                    )
                }
            }
            // SAFETY: no argument is passed.
            _ => unsafe { self.raw.submitter().enter::<libc::sigset_t>(submit, want, flags, None) },
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Moves every completion that is there into `entries`.
    #[inline]
    pub fn reap(&mut self, entries: &mut Vec<Entry>) {
        entries.extend(self.raw.completion().map(|entry| Entry {
            data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// Whether completions wait to be reaped.
    #[inline]
    pub fn has_completions(&mut self) -> bool {
        !self.raw.completion().is_empty()
    }
}
