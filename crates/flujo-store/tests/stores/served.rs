//! What tests alone do with a server: they share one, ask it for TLS, and have it crash.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::server::{NOBODY, Server, Starter, starter};

impl Server {
    /// The one that all tests share that only want tables of their own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Without waiting for the disk: it outlives the end of a process all the same.
    pub(crate) fn start() -> Self {
        Self::with(&["fsync=off"])
    }

    /// That asks for TLS, with the certificate of the tests.
    pub(crate) fn with_tls() -> Self {
        let mut server = Self::made(&["fsync=off", "ssl=on"]);
        for (name, text) in [
            ("server.crt", include_str!("tls/server.crt")),
            ("server.key", include_str!("tls/server.key")),
        ] {
            let file = server.folder.join("data").join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            if starter() == Starter::Nobody {
                std::os::unix::fs::chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        std::fs::write(
            server.folder.join("data/pg_hba.conf"),
            "hostssl all all 127.0.0.1/32 trust\n",
        )
        .unwrap();
        server.begin();
        server
    }

    /// As when its machine loses power, but for what `kill` leaves: its data.
    pub(crate) fn crash(&mut self) {
        let data = self.folder.join("data");
        let mut process = self.process.take().unwrap();
        let postmaster = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
        let number = postmaster.lines().next().unwrap().to_owned();
        assert!(
            Command::new("kill")
                .args(["-QUIT", &number])
                .status()
                .unwrap()
                .success()
        );
        while Path::new(&format!("/proc/{number}/stat")).exists() && !ended(&number) {
            std::thread::yield_now();
        }
        // Its supervisor would remove everything when it is let go on.
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// A name for tables that nobody else has.
    pub(crate) fn schema() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("test {}", COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Whether a process waits to be noticed.
fn ended(number: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_none_or(|(_, fields)| fields.trim_start().starts_with('Z'))
}
