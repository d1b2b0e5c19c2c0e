//! A real `PostgreSQL` server for tests and benchmarks: on a free port, with a folder of its own, ended with this process.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Ends with its input, which ends with the process that started it, however that ends.
const SUPERVISED: &str = r#"exec 3<&0; folder="$1"; signal="$2"; shift 2; "$@" </dev/null & server=$!
cat <&3 >/dev/null; kill -"$signal" $server; wait $server; [ -z "$folder" ] || rm -rf "$folder""#;

pub(crate) struct Server {
    pub(crate) folder: PathBuf,
    port: u16,
    settings: Vec<&'static str>,
    pub(crate) process: Option<Child>,
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Where Debian puts them, the newest last.
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut debian: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    debian.sort();
    folders.extend(debian.into_iter().rev());
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: scripts/services.sh does that"))
}

/// Who starts a server: it refuses those who may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starter {
    Ourselves,
    /// We, under a name that the server accepts.
    Renamed,
    /// Somebody else.
    Nobody,
}

pub(crate) const NOBODY: u32 = 65534;
const RENAMED: [&str; 3] = ["--user", "--map-user=65534", "--map-group=65534"];

pub(crate) fn starter() -> Starter {
    static STARTER: OnceLock<Starter> = OnceLock::new();
    *STARTER.get_or_init(|| {
        if Command::new("id").arg("-u").output().unwrap().stdout != b"0\n" {
            return Starter::Ourselves;
        }
        let renamed = Command::new("unshare").args(RENAMED).arg("true").output();
        if renamed.is_ok_and(|done| done.status.success()) {
            Starter::Renamed
        } else {
            Starter::Nobody
        }
    })
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = match starter() {
        Starter::Renamed => {
            let mut command = Command::new("unshare");
            command.args(RENAMED).arg(program);
            command
        }
        Starter::Ourselves | Starter::Nobody => Command::new(program),
    };
    if starter() == Starter::Nobody {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    command
}

impl Server {
    /// With settings.
    pub(crate) fn with(settings: &[&'static str]) -> Self {
        let mut server = Self::made(settings);
        server.begin();
        server
    }

    pub(crate) fn made(settings: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        if starter() == Starter::Nobody {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = command(program("initdb"))
            .args([
                "--auth=trust",
                "--username=flujo",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(folder.join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Self {
            folder,
            port,
            settings: settings.to_vec(),
            process: None,
        }
    }

    /// On the same port, with what it had.
    pub(crate) fn begin(&mut self) {
        let folder = self.folder.to_str().unwrap();
        let mut process = command("sh")
            .args(["-c", SUPERVISED, "sh", folder, "QUIT"])
            .arg(program("postgres"))
            .args(["-D", &format!("{folder}/data"), "-h", "127.0.0.1", "-k", folder])
            .args(["-p", &self.port.to_string(), "-c", "max_connections=300"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("ready to accept connections") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the server ended at once");
        }
        // Read on, so that it never waits for its log.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        self.process = Some(process);
    }

    pub(crate) fn address(&self) -> String {
        format!("postgresql://flujo:secret@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            drop(process.wait());
        }
    }
}
