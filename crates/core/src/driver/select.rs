//! WIP select
use std::io;use std::os::fd::RawFd;use std::time::Duration;
use super::Capabilities;use super::readiness::{Event,Poller,Trigger};use crate::op::{Interest,Token};
/// x
pub struct Select;
impl Select { /// x
 pub fn new()->io::Result<Self>{Err(io::Error::from_raw_os_error(libc::ENOSYS))} }
impl Poller for Select{const EDGE:bool=false;
fn capabilities(&self)->Capabilities{unreachable!()}
fn add(&mut self,_:RawFd,_:Token,_:Interest,_:Trigger)->io::Result<()>{unreachable!()}
fn modify(&mut self,_:RawFd,_:Token,_:Interest)->io::Result<()>{unreachable!()}
fn remove(&mut self,_:RawFd,_:Token){}
fn wait(&mut self,_:Option<Duration>,_:&mut Vec<Event>)->io::Result<()>{unreachable!()}}
