//! A disk that loses power: of each file that `SQLite` writes in a folder it keeps what was there when it was last synced,
//! and that is what a power cut leaves.
//!
//! It is a layer over `SQLite`'s own files, the default one of the process from then on. For tests only.

#![cfg(unix)]

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::ffi;

/// The files of a folder, as they are on the disk.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Looks after the files that `SQLite` opens below this folder from now on.
    ///
    /// # Errors
    /// When there is no such folder, or `SQLite` doesn't take the layer.
    pub fn watch(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        register()?;
        state().watched.push(folder.clone());
        Ok(Self { folder })
    }

    /// Writes into another folder what a power cut would leave now.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn power_cut(&self, to: &Path) -> io::Result<()> {
        std::fs::create_dir_all(to)?;
        for (path, synced) in &state().synced {
            if let Ok(name) = path.strip_prefix(&self.folder) {
                std::fs::write(to.join(name), synced)?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct State {
    watched: Vec<PathBuf>,
    /// Files by where `SQLite` has them in memory.
    open: HashMap<usize, PathBuf>,
    synced: HashMap<PathBuf, Vec<u8>>,
    /// Methods of files, ours by theirs and theirs by ours.
    ours: HashMap<usize, usize>,
    theirs: HashMap<usize, usize>,
}

fn state() -> MutexGuard<'static, State> {
    static STATE: OnceLock<Mutex<State>> = OnceLock::new();
    let state = STATE.get_or_init(Mutex::default);
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The layer below, by its address; 0 when there is none.
static REAL: OnceLock<usize> = OnceLock::new();

fn real() -> *mut ffi::sqlite3_vfs {
    REAL.get().copied().unwrap_or(0) as *mut ffi::sqlite3_vfs
}

#[allow(unsafe_code)]
fn register() -> io::Result<()> {
    REAL.get_or_init(|| {
        // SAFETY: both calls take and give pointers that live as long as the process: SQLite's default layer is static,
        // ours is leaked. A copy of the default layer is one, since it holds only addresses and numbers.
        unsafe {
            let found = ffi::sqlite3_initialize();
            let real = ffi::sqlite3_vfs_find(std::ptr::null());
            if found != ffi::SQLITE_OK || real.is_null() {
                return 0;
            }
            let mut ours = Box::new(*real);
            ours.zName = c"flujo-power".as_ptr();
            ours.pNext = std::ptr::null_mut();
            ours.xOpen = Some(open);
            ours.xDelete = Some(delete);
            if ffi::sqlite3_vfs_register(Box::leak(ours), 1) != ffi::SQLITE_OK {
                return 0;
            }
            real as usize
        }
    });
    if real().is_null() {
        Err(io::Error::other("SQLite has no layer of files"))
    } else {
        Ok(())
    }
}

/// A file's path, where it has one.
#[allow(unsafe_code)]
fn path_of(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: SQLite hands over a text that ends with a zero and lives as long as the call.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

#[allow(unsafe_code)]
unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: the layer below is there, since this one was made from it; the arguments are what SQLite gave.
    let opened = unsafe {
        match (*real()).xOpen {
            Some(open) => open(real(), name, file, flags, out),
            None => ffi::SQLITE_CANTOPEN,
        }
    };
    let mut state = state();
    let path = path_of(name).filter(|path| state.watched.iter().any(|folder| path.starts_with(folder)));
    match path {
        Some(path) if opened == ffi::SQLITE_OK => {
            state.open.insert(file as usize, path);
            // SAFETY: a file that was opened has methods, which are static; our copy of them is leaked.
            unsafe {
                let theirs = (*file).pMethods;
                let ours = state.ours.get(&(theirs as usize)).copied().unwrap_or_else(|| {
                    let mut methods = Box::new(*theirs);
                    methods.xSync = Some(sync);
                    Box::into_raw(methods) as usize
                });
                state.ours.insert(theirs as usize, ours);
                state.theirs.insert(ours, theirs as usize);
                (*file).pMethods = ours as *const ffi::sqlite3_io_methods;
            }
        }
        _ => drop(state.open.remove(&(file as usize))),
    }
    opened
}

#[allow(unsafe_code)]
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: only files whose methods are ours come here, and of those the others' are known.
    let synced = unsafe {
        let theirs = state()
            .theirs
            .get(&((*file).pMethods as usize))
            .copied()
            .unwrap_or(0);
        let theirs = theirs as *const ffi::sqlite3_io_methods;
        match theirs.as_ref().and_then(|methods| methods.xSync) {
            Some(sync) => sync(file, flags),
            None => ffi::SQLITE_IOERR_FSYNC,
        }
    };
    let mut state = state();
    if let (ffi::SQLITE_OK, Some(path)) = (synced, state.open.get(&(file as usize)).cloned())
        && let Ok(bytes) = std::fs::read(&path)
    {
        state.synced.insert(path, bytes);
    }
    synced
}

#[allow(unsafe_code)]
unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, folder_too: c_int) -> c_int {
    // SAFETY: as for `open`.
    let deleted = unsafe {
        match (*real()).xDelete {
            Some(delete) => delete(real(), name, folder_too),
            None => ffi::SQLITE_IOERR_DELETE,
        }
    };
    if let Some(path) = path_of(name) {
        state().synced.remove(&path);
    }
    deleted
}

#[cfg(test)]
mod tests;
