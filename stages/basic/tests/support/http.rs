//! The heads of HTTP messages, for the servers that tests start.

use std::io::{BufRead, Write};
use std::net::TcpStream;

/// Names and values, in their order.
pub type Headers = Vec<(String, String)>;

/// The first line of a request and its headers. None where the client hung up.
pub fn read_head(reader: impl BufRead) -> Option<(String, Headers)> {
    let mut lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next()?;
    let named = |line: String| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some((first, lines.filter_map(named).collect()))
}

/// The value of a header.
pub fn header<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Begins an answer whose body has so many bytes.
pub fn write_head(stream: &mut TcpStream, status: u16, headers: &Headers, bytes: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Test\r\nContent-Length: {bytes}\r\nConnection: close\r\n")?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")
}
