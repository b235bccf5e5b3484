//! A small web server of this process: answers by a function, and remembers what it was asked.

#[path = "../support/http.rs"]
mod http;

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use http::{Headers, header, read_head, write_head};

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: Headers,
    /// How often this path was asked for before.
    pub before: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// An answer.
pub struct Answer {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
    /// Bytes of the body after which the connection is closed.
    cut: usize,
}

impl Answer {
    pub fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self { status, headers: Vec::new(), body: body.as_ref().to_vec(), cut: usize::MAX }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn cut(mut self, bytes: usize) -> Self {
        self.cut = bytes;
        self
    }

    fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        write_head(stream, self.status, &self.headers, self.body.len())?;
        stream.write_all(&self.body[..self.body.len().min(self.cut)])?;
        stream.flush()
    }
}

/// The server; it lives as long as the test's process.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Self {
        Self::start_on("127.0.0.1:0", answer)
    }

    /// Starts on a host of this machine's loopback network.
    pub fn start_on(address: &str, answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream, &log) else { continue };
                // A client that hangs up early is no concern of the server's.
                let _ = answer(&request).write(&mut stream);
            }
        });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }
}

fn read(stream: &TcpStream, log: &Mutex<Vec<Asked>>) -> Option<Asked> {
    let (first, headers) = read_head(BufReader::new(stream))?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut log = log.lock().unwrap();
    let before = log.iter().filter(|asked| asked.path == path).count();
    let asked = Asked { path, headers, before };
    log.push(asked.clone());
    Some(asked)
}
