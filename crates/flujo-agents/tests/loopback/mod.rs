//! An HTTP server on the loopback address that answers from a script, with every fault a script can name.

use std::sync::{Arc, Mutex};

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest};
use flujo_core::value::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
pub(crate) enum Reply {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends these bytes and then nothing more, with the connection left open.
    Stall(Vec<u8>),
    /// Sends the first bytes, then the second ones again and again.
    Endless(Vec<u8>, Vec<u8>),
}

/// A reply with a status line, headers and a body of stated length.
pub(crate) fn reply(status: &str, headers: &[&str], body: &str) -> Reply {
    let headers = headers
        .iter()
        .fold(String::new(), |all, header| all + header + "\r\n");
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .into(),
    )
}

/// A server that answers one request after the other from its script and keeps what it was sent.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let script: Vec<Reply> = script.into_iter().collect();
        tokio::spawn(async move {
            for reply in script {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                match reply {
                    Reply::Bytes(bytes) => {
                        stream.write_all(&bytes).await.ok();
                        stream.shutdown().await.ok();
                    }
                    Reply::Stall(bytes) => {
                        stream.write_all(&bytes).await.ok();
                        stream.read_to_end(&mut Vec::new()).await.ok();
                    }
                    Reply::Endless(head, again) => {
                        stream.write_all(&head).await.ok();
                        while stream.write_all(&again).await.is_ok() {}
                    }
                }
            }
        });
        Self { url, requests }
    }

    /// The head and body of the request at `index`.
    pub(crate) fn request(&self, index: usize) -> String {
        self.requests.lock().unwrap()[index].clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        if read == 0 {
            return text;
        }
    }
}

/// Runs an agent on `input`.
pub(crate) async fn run(agent: &dyn Agent, input: impl Into<Value>) -> Result<AgentOutput, AgentError> {
    agent
        .run(AgentRequest {
            input: input.into(),
            ..AgentRequest::default()
        })
        .await
}

/// An address where nothing listens.
pub(crate) async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
