//! Limits: how fast, how many, and from where.
//!
//! ```text
//!   bucket   how fast something may happen        nets     which addresses a list names
//!   gate     which peers may come in              struck   which addresses misbehaved, and bans
//!   refusal  why one may not
//! ```
//!
//! Does no I/O, reads no clock (time is passed in, as seconds that do not run backwards), and knows no
//! connection: who asks keeps what belongs to one.

mod bucket;
mod gate;
mod nets;
mod refusal;
mod struck;

pub use bucket::{Bucket, Rate, Verdict};
pub use gate::{FLAPPING, Gate, GateOptions};
pub use nets::{Net, NetError, Nets};
pub use refusal::{Admission, DryRun, Reason, Refusal};
pub use struck::Ban;
