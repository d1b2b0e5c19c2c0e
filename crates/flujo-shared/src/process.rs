//! What a fork must not carry over: connections and locks belong to the process that made them.

use std::sync::OnceLock;

/// One value for each process that uses it. A process that a fork has made gets a fresh one; what its parent had is neither
/// used nor closed by it, since closing would end what the parent still works with.
#[derive(Debug)]
pub struct PerProcess<T: Default> {
    process: u32,
    value: T,
    child: OnceLock<Box<PerProcess<T>>>,
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> Self {
        Self {
            process: std::process::id(),
            value: T::default(),
            child: OnceLock::new(),
        }
    }
}

impl<T: Default> PerProcess<T> {
    /// This process's value.
    pub fn get(&self) -> &T {
        let process = std::process::id();
        let mut own = self;
        while own.process != process {
            own = own.child.get_or_init(Box::default);
        }
        &own.value
    }
}

impl<T: Default> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            std::mem::forget(std::mem::take(&mut self.value));
        }
    }
}
