//! The Python face of `wireway-core`.
//!
//! ```text
//!   event_loop   LoopCore: scheduling, watching descriptors, running      server      framed servers
//!   listener     accepting, for protocols and for servers                 connection  one of their connections
//!   transport    StreamTransport: asyncio's TCP and Unix streams          step        async handlers without a Task
//!   framing      framings from Python, functions that cut, FrameSplitter
//!   handle       Handle and TimerHandle                                   errors      where every error is mapped
//!   memory       bytes for what was received and for what is sent       outcome     wireway.SendResult
//!   stall        a thread that sees when a loop no longer turns      tap           what is seen of connections
//!   http         requests of HTTP/1.1 and their answers, as ASGI has them
//!   load         runs of wireway-load, for `wireway bench`
//!   toml         where each key of a TOML text stands
//!   histogram    how long turns, handlers and requests take, in buckets
//!   interp       what we need of the interpreter: names, raw methods, contexts
//! ```
//!
//! Everything here runs with the GIL held, and on the loop's own thread while the loop runs; the
//! GIL is let go of only while the driver sleeps. That is why the classes below may be `Sync` with
//! cells inside: see [`event_loop::LoopCore`].

use pyo3::prelude::*;

mod connection;
mod errors;
mod event_loop;
mod framing;
mod handle;
mod histogram;
mod host;
mod http;
mod interp;
mod listener;
mod load;
mod memory;
mod outcome;
mod server;
mod stall;
mod step;
mod tap;
mod toml;
mod transport;
mod watch;

/// The extension module `wireway._native`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    handle::register(module)?;
    event_loop::register(module)?;
    transport::register(module)?;
    step::register(module)?;
    connection::register(module)?;
    stall::register(module)?;
    module.add_class::<framing::FrameSplitter>()?;
    server::tls::register(module)?;
    http::register(module)?;
    module.add_class::<load::LoadRun>()?;
    module.add_class::<histogram::PyHistogram>()?;
    module.add_class::<server::ServerCore>()?;
    module.add_class::<listener::Listener>()?;
    module.add_class::<tap::Tap>()?;
    module.add_class::<server::survey::Survey>()?;
    module.add_function(wrap_pyfunction!(event_loop::probe, module)?)?;
    module.add_function(wrap_pyfunction!(toml::toml_places, module)?)?;
    module.add_function(wrap_pyfunction!(event_loop::is_up_to_date, module)?)?;
    module.add("BACKENDS", event_loop::backend_names(py)?)?;
    Ok(())
}
