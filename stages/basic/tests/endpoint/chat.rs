//! A chat service of this process: answers by a function, remembers what it was asked, and can misbehave.

#[path = "../support/http.rs"]
mod http;

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use http::{Headers, header, read_head, write_head};

/// An answer.
pub struct Reply {
    status: u16,
    headers: Headers,
    body: String,
    /// Bytes of the body after which the connection is closed.
    cut: usize,
    /// Pause in the middle of the body.
    slow: Duration,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), cut: usize::MAX, slow: Duration::ZERO }
    }

    /// A completion with this message.
    fn message(message: Value, logprobs: Value) -> Self {
        Self::choice(&json!({"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}))
    }

    /// A completion with this choice.
    pub fn choice(choice: &Value) -> Self {
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101});
        Self::status(200)
            .body(&json!({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).to_string())
    }

    pub fn text(text: &str) -> Self {
        Self::message(json!({"role": "assistant", "content": text}), Value::Null)
    }

    pub fn call(name: &str, arguments: &str) -> Self {
        let call = json!({"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}});
        Self::message(json!({"role": "assistant", "content": null, "tool_calls": [call]}), Value::Null)
    }

    /// A first token with these log-probabilities of m and M.
    pub fn labels(m: f64, other: f64) -> Self {
        let top =
            json!([{"token": "m", "logprob": m}, {"token": "M", "logprob": other}, {"token": "Both", "logprob": -9.0}]);
        let said = if m > other { "m" } else { "M" };
        let content = json!([{"token": said, "logprob": m.max(other), "top_logprobs": top}]);
        Self::message(json!({"role": "assistant", "content": said}), json!({ "content": content }))
    }

    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn cut(mut self, bytes: usize) -> Self {
        self.cut = bytes;
        self
    }

    pub fn slow(mut self, pause: Duration) -> Self {
        self.slow = pause;
        self
    }

    fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        write_head(stream, self.status, &self.headers, self.body.len())?;
        let (head, tail) = self.body.as_bytes()[..self.body.len().min(self.cut)].split_at(self.body.len().min(10));
        stream.write_all(head)?;
        stream.flush()?;
        thread::sleep(self.slow);
        stream.write_all(tail)
    }
}

/// The service; it lives as long as the test's process.
pub struct Chat {
    url: String,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    asked: Vec<Value>,
    authorizations: Vec<String>,
}

impl Chat {
    /// Answers by the request's body and how often the same was asked before.
    pub fn start(reply: impl Fn(&Value, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (log, reply) = (Arc::new(Mutex::new(Log::default())), Arc::new(reply));
        let shared = Arc::clone(&log);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (log, reply) = (Arc::clone(&shared), Arc::clone(&reply));
                thread::spawn(move || {
                    let Some((body, before)) = read(&stream, &log) else { return };
                    // A client that hangs up early is no concern of the server's.
                    let _ = reply(&body, before).write(&mut stream);
                });
            }
        });
        Self { url, log }
    }

    pub fn base_url(&self) -> &str {
        &self.url
    }

    /// Bodies of the requests, in order.
    pub fn asked(&self) -> Vec<Value> {
        self.log.lock().unwrap().asked.clone()
    }

    pub fn authorizations(&self) -> Vec<String> {
        self.log.lock().unwrap().authorizations.clone()
    }
}

fn read(stream: &TcpStream, log: &Mutex<Log>) -> Option<(Value, usize)> {
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader)?;
    assert_eq!(first, "POST /v1/chat/completions HTTP/1.1");
    let mut bytes = vec![0; header(&headers, "content-length")?.parse().ok()?];
    reader.read_exact(&mut bytes).ok()?;
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let mut log = log.lock().unwrap();
    let before = log.asked.iter().filter(|asked| **asked == body).count();
    log.asked.push(body.clone());
    log.authorizations.extend(header(&headers, "authorization").map(str::to_owned));
    Some((body, before))
}

/// Waits until the process whose id stands in a file has ended.
pub fn wait_for_end(file: &Path) {
    let pid = std::fs::read_to_string(file).unwrap();
    let began = Instant::now();
    while Path::new("/proc").join(pid.trim()).exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "the server {} goes on", pid.trim());
        thread::sleep(Duration::from_millis(50));
    }
}
