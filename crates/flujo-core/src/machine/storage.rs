//! The buffers of a machine: they outlive it, so that another one need not allocate them.

use std::collections::VecDeque;
use std::fmt;

use super::frame::Frame;
use super::{Command, Domain, Machine};

/// Empty buffers for the frames and commands of a machine. It holds nothing of the run that it comes from.
pub struct Storage<D: Domain> {
    stack: Vec<Frame<D>>,
    commands: VecDeque<Command<D>>,
}

impl<D: Domain> Default for Storage<D> {
    fn default() -> Self {
        Self {
            stack: Vec::new(),
            commands: VecDeque::new(),
        }
    }
}

impl<D: Domain> fmt::Debug for Storage<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("frames", &self.stack.capacity())
            .field("commands", &self.commands.capacity())
            .finish()
    }
}

impl<D: Domain> Machine<D> {
    /// Gives buffers to a machine that has not begun; one that has keeps its own.
    pub fn furnish(&mut self, storage: Storage<D>) {
        if self.state.stack.capacity() == 0 && self.commands.capacity() == 0 {
            (self.state.stack, self.commands) = (storage.stack, storage.commands);
        }
    }

    /// Takes the buffers of a machine that has ended, emptied. Of one that hasn't it takes nothing.
    pub fn retire(&mut self) -> Storage<D> {
        if !self.state.finished {
            return Storage::default();
        }
        let mut storage = Storage {
            stack: std::mem::take(&mut self.state.stack),
            commands: std::mem::take(&mut self.commands),
        };
        storage.stack.clear();
        storage.commands.clear();
        storage
    }
}
