//! Who belongs to which group, and to which user: names to tokens. A token names one life of a slot, so
//! a member that is gone is never taken for its successor.

use std::collections::{HashMap, HashSet};

use wireway_core::op::Token;

/// Names and their members.
#[derive(Default)]
pub struct Groups(HashMap<Box<str>, HashSet<Token>>);

impl Groups {
    /// Adds a member; returns whether it was none before.
    pub fn join(&mut self, name: &str, member: Token) -> bool {
        match self.0.get_mut(name) {
            Some(members) => members.insert(member),
            None => self.0.entry(name.into()).or_default().insert(member),
        }
    }

    /// Takes a member away; a group without members is forgotten.
    pub fn leave(&mut self, name: &str, member: Token) {
        if let Some(members) = self.0.get_mut(name) {
            members.remove(&member);
            if members.is_empty() {
                self.0.remove(name);
            }
        }
    }

    /// The members, in no order.
    pub fn members(&self, name: &str) -> Vec<Token> {
        self.0.get(name).map(|members| members.iter().copied().collect()).unwrap_or_default()
    }

    /// Its memory, bytes: tables by their capacity, names by their length.
    pub fn heap_size(&self) -> usize {
        let entry = size_of::<(Box<str>, HashSet<Token>)>() + 1;
        let member = size_of::<Token>() + 1;
        let inside: usize =
            self.0.iter().map(|(name, members)| name.len() + members.capacity() * member).sum();
        self.0.capacity() * entry + inside
    }

    /// Each name and how many members it has.
    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, members)| (&**name, members.len()))
    }
}
