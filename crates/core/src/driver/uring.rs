//! WIP
use super::*;
/// x
pub struct Uring;
impl Uring { /// x
pub fn new()->io::Result<Self>{Err(io::Error::from_raw_os_error(libc::ENOSYS))} }
impl Driver for Uring{
fn capabilities(&self)->Capabilities{unreachable!()}
fn attach(&self,_:RawFd,_:Role)->io::Result<Token>{unreachable!()}
fn detach(&self,_:Token,_:Fate){unreachable!()}
fn submit(&self,_:Token,_:Op)->io::Result<()>{unreachable!()}
fn send(&self,_:Token,_:&mut SendQueue)->Sent{unreachable!()}
fn wait(&self,_:Option<Duration>,_:&mut dyn Sink)->io::Result<()>{unreachable!()}
fn waker(&self)->Waker{unreachable!()}
}
