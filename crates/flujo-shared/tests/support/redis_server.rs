//! A real Redis server for a test: on a free port, with a folder of its own, ended with the test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

pub(crate) struct RedisProcess {
    port: u16,
    settings: Vec<String>,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl RedisProcess {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With settings as on its command line.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = Self {
            port,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            folder: tempfile::tempdir().unwrap(),
            process: None,
        };
        server.start_again();
        server
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// On the same port, empty.
    pub(crate) fn start_again(&mut self) {
        let mut process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .args(&self.settings)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is not installed: scripts/services.sh does that");
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("Ready to accept connections") {
            line.clear();
            assert!(
                said.read_line(&mut line).unwrap() > 0,
                "redis-server ended at once"
            );
        }
        // Read on, so that it never waits for its log.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        self.process = Some(process);
    }

    /// It answers nobody until it goes on.
    pub(crate) fn stands_still(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn goes_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &process])
                .status()
                .unwrap()
                .success()
        );
    }

    /// As when the machine loses power.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
