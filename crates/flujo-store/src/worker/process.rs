//! This process, and whether another one of this machine is still there.

use std::fs;

use flujo_core::store::Process;

/// This process. Where the system doesn't tell (elsewhere than on Linux), nothing is said about others either.
pub(super) fn here() -> Process {
    let read = |path| {
        fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let host = Some(read("/proc/sys/kernel/hostname")).filter(|name| !name.is_empty());
    let host = host
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "this machine".to_owned());
    Process {
        host: host.into(),
        boot: boot(&read("/proc/sys/kernel/random/boot_id")).into(),
        pid: std::process::id(),
        began: began("self").unwrap_or(0),
    }
}

/// The machine's boot and the container: process ids mean something within both.
fn boot(id: &str) -> String {
    match fs::read_link("/proc/self/ns/pid") {
        Ok(container) if !id.is_empty() => format!("{id} {}", container.display()),
        _ => String::new(),
    }
}

/// Whether it is certain that a process isn't there any more.
pub(super) fn is_gone(process: &Process, here: &Process) -> bool {
    let same_machine = !here.boot.is_empty() && (&process.host, &process.boot) == (&here.host, &here.boot);
    // Where others' processes are hidden, one that isn't seen may be there.
    let seen = fs::exists("/proc/1").unwrap_or(false);
    same_machine && seen && began(&process.pid.to_string()) != Some(process.began)
}

/// When a process began, in ticks since the boot; `None` when it isn't there, or has ended and waits to be noticed.
fn began(pid: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: the state is the first field, the beginning the twentieth.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{here, is_gone};
    use flujo_core::store::Process;

    #[test]
    fn a_process_that_runs_is_not_gone_and_one_that_ended_is() {
        let here = here();
        assert!(!is_gone(&here, &here));
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id();
        let other = Process {
            pid,
            began: super::began(&pid.to_string()).unwrap(),
            ..here.clone()
        };
        assert!(!is_gone(&other, &here));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&other, &here));
        // Its number may be another's now.
        let reused = Process {
            began: here.began + 1,
            ..here.clone()
        };
        assert!(is_gone(&reused, &here));
    }

    #[test]
    fn nothing_is_certain_of_another_machine_or_another_container() {
        let here = here();
        let gone = Process {
            pid: u32::MAX,
            ..here.clone()
        };
        assert!(is_gone(&gone, &here));
        for elsewhere in [
            Process {
                host: "elsewhere".into(),
                ..gone.clone()
            },
            Process {
                boot: "another boot".into(),
                ..gone.clone()
            },
        ] {
            assert!(!is_gone(&elsewhere, &here));
        }
    }
}
