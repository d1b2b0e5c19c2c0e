//! One process from start to end: fed, drained, bounded, and killed together with what it started.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::process::{ExitStatus, Stdio};

use flujo_core::agent::AgentError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};

use super::Invocation;
use crate::payload::excerpt;

/// The most bytes of standard error that are kept, from its end.
const STDERR_TAIL: usize = 8 * 1024;

/// The most characters of standard error that a message repeats.
const STDERR_EXCERPT: usize = 1_000;

/// Runs the program and returns what it wrote to standard output. Dropping the future kills it.
pub(super) async fn run(invocation: Invocation) -> Result<Vec<u8>, AgentError> {
    let program = invocation.program.clone();
    let max_output_bytes = invocation.max_output_bytes;
    let mut process = Process::start(&invocation)?;
    let stdin = process.child.stdin.take();
    let stdout = process.child.stdout.take();
    let stderr = process.child.stderr.take();
    let broken = |what: &str, error: std::io::Error| {
        AgentError::new(format!("the command `{program}`: {what} failed: {error}")).because(error)
    };

    let drained = tokio::try_join!(
        async {
            feed(stdin, invocation.stdin)
                .await
                .map_err(|error| broken("writing its input", error))
        },
        async {
            match read_bounded(stdout, max_output_bytes).await {
                Ok(Some(output)) => Ok(output),
                Ok(None) => Err(AgentError::permanent(format!(
                    "the command `{program}` wrote more than {max_output_bytes} bytes and was killed; raise \
                     `max_output_bytes` if that much is expected"
                ))),
                Err(error) => Err(broken("reading its output", error)),
            }
        },
        async {
            read_tail(stderr)
                .await
                .map_err(|error| broken("reading its error output", error))
        },
    );
    let ((), output, stderr) = drained?;
    // The group is killed only while its leader hasn't been waited for: until then its number can't belong to others.
    let status = process
        .wait()
        .await
        .map_err(|error| broken("waiting for its end", error))?;
    if status.success() {
        Ok(output)
    } else {
        Err(failed(&program, status, &stderr))
    }
}

fn failed(program: &str, status: ExitStatus, stderr: &[u8]) -> AgentError {
    let end = match status.code() {
        Some(code) => format!("ended with exit code {code}"),
        None => format!("was ended by {}", signal(status)),
    };
    let stderr = String::from_utf8_lossy(stderr);
    let skipped = stderr.chars().count().saturating_sub(STDERR_EXCERPT);
    let tail: String = stderr.chars().skip(skipped).collect();
    let tail = excerpt(&tail, STDERR_EXCERPT);
    let said = if tail.is_empty() {
        "it wrote nothing to standard error".to_owned()
    } else {
        format!("its last words: {tail}")
    };
    AgentError::new(format!("the command `{program}` {end}; {said}"))
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    status
        .signal()
        .map_or_else(|| "a signal".to_owned(), |signal| format!("signal {signal}"))
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> String {
    "the system".to_owned()
}

/// A running program that takes its whole process group with it when dropped.
struct Process {
    child: Child,
    running: bool,
}

impl Process {
    fn start(invocation: &Invocation) -> Result<Self, AgentError> {
        let mut command = tokio::process::Command::new(&invocation.program);
        command
            .args(&invocation.args)
            .env_clear()
            .envs(invocation.env.iter().map(|(name, value)| (name, value)))
            .stdin(if invocation.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(cwd) = &invocation.cwd {
            command.current_dir(cwd);
        }
        #[cfg(unix)]
        command.process_group(0);
        match command.spawn() {
            Ok(child) => Ok(Self { child, running: true }),
            Err(error) => Err(cannot_start(&invocation.program, error)),
        }
    }

    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.running = false;
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        #[cfg(unix)]
        if self.running {
            let group = self
                .child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(rustix::process::Pid::from_raw);
            if let Some(group) = group {
                // It fails only when nothing of the group is left.
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

fn cannot_start(program: &str, error: std::io::Error) -> AgentError {
    let cure = match error.kind() {
        ErrorKind::NotFound => "; install it, or give its full path",
        ErrorKind::PermissionDenied => "; make the file executable",
        ErrorKind::ArgumentListTooLong => "; pass long data by `stdin: input`",
        _ => "",
    };
    let message = format!("the command `{program}` can't be started: {error}{cure}");
    let passing = matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory | ErrorKind::ResourceBusy
    );
    let failure = if passing {
        AgentError::new(message)
    } else {
        AgentError::permanent(message)
    };
    failure.because(error)
}

/// Writes the whole input and closes it. A program may stop reading early.
async fn feed(stdin: Option<ChildStdin>, input: Option<Vec<u8>>) -> std::io::Result<()> {
    let (Some(mut stdin), Some(input)) = (stdin, input) else {
        return Ok(());
    };
    let written = async {
        stdin.write_all(&input).await?;
        stdin.shutdown().await
    };
    match written.await {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Everything up to the end, or `None` as soon as it is more than `limit` bytes.
async fn read_bounded(
    stream: Option<impl AsyncRead + Unpin>,
    limit: usize,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut output = Vec::new();
    if let Some(stream) = stream {
        stream.take(limit as u64 + 1).read_to_end(&mut output).await?;
    }
    Ok((output.len() <= limit).then_some(output))
}

/// The last bytes, with everything before them read and dropped.
async fn read_tail(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let Some(mut stream) = stream else {
        return Ok(Vec::new());
    };
    let mut tail = VecDeque::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(tail.into());
        }
        tail.extend(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(STDERR_TAIL));
    }
}
