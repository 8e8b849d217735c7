//! The load generator of the benchmarks: one thread, one epoll, one run, one JSON object.
//!
//! ```text
//!   options   the command line            window    warm-up, measured window, end; the figures
//!   echo      framed and raw echo         latency   histogram
//!   churn     short connections           usage     processor time, from /proc
//!   idle      connections that wait       pattern   the bytes sent, and expected back
//!   broadcast one speaks, all hear        connect   opening many
//!   heartbeats  pings are answered        sys       system calls, all unsafe
//!   secured   echo and handshakes of TLS
//!   http      requests of HTTP/1.1
//! ```
//!
//! It must not be the limit of what it measures: when its own core was busy and the server's was not,
//! it says `"generator_bound": true`.

mod broadcast;
mod churn;
mod connect;
mod echo;
mod heartbeats;
mod http;
mod idle;
mod latency;
mod options;
mod pattern;
mod secured;
mod sys;
mod usage;
mod window;

use std::process::ExitCode;

use options::{HELP, Options, Workload};

fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("wireway-loadgen: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("wireway-loadgen: {}: {error}", options.address);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> std::io::Result<serde_json::Value> {
    if let Some(core) = options.core {
        sys::pin(core)?;
    }
    let wanted = options.connections as u64 + 64;
    let allowed = sys::raise_descriptor_limit(wanted);
    if allowed < wanted {
        let text = format!(
            "{wanted} descriptors are needed, the limit is {allowed}: raise it (ulimit -n {wanted})"
        );
        return Err(std::io::Error::other(text));
    }
    match options.workload {
        Workload::Echo => echo::run(options),
        Workload::Churn => churn::run(options),
        Workload::Idle => idle::run(options),
        Workload::Broadcast => broadcast::run(options),
        Workload::Heartbeats => heartbeats::run(options),
        Workload::Http => http::run(options),
        Workload::Tls | Workload::Handshakes => secured::run(options),
    }
}
