//! A small HTTP client: one agent, retries of what may pass, errors that say what to do.
//!
//! It knows neither the hub nor the file that an answer goes to. Proxies are taken from the environment
//! (`HTTPS_PROXY`, `NO_PROXY`, …), as are the certificates to trust (`SSL_CERT_FILE`).

use std::io::ErrorKind;
use std::time::Duration;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::Job;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::download::Halt;
use crate::web;

/// Attempts in a row that bring nothing before a source is given up.
const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// Longest wait for a connection, and for the next bytes of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to get.
#[derive(Debug, Clone, Default)]
pub struct Get {
    /// The address.
    pub url: String,
    /// Bearer token; it is never sent on to another host.
    pub token: Option<String>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// Why an address yielded nothing.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server answered, but not with what was asked.
    #[error("{url}: the server answered {status}{}", message.as_deref().map(|m| format!(": {m}")).unwrap_or_default())]
    Status {
        /// The address.
        url: String,
        /// The answer's status.
        status: StatusCode,
        /// The hub's name of the error (`GatedRepo`, `EntryNotFound`, …).
        code: Option<String>,
        /// The server's explanation.
        message: Option<String>,
    },
    /// No connection.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// It went wrong again and again.
    #[error("{url}: given up after {ATTEMPTS} attempts: {reason}")]
    GaveUp {
        /// The address.
        url: String,
        /// What went wrong last.
        reason: String,
    },
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let hint = match &error {
            HttpError::Status { status, .. } if matches!(status.as_u16(), 404 | 410) => {
                "the source is absent: check its address"
            }
            HttpError::Status { status, .. } if matches!(status.as_u16(), 401 | 403) => {
                "the server wants credentials, or refuses this address"
            }
            HttpError::Status { .. } => "look at the address in a browser, and try again later",
            HttpError::Unreachable { .. } => {
                "check the address, the network and the proxy settings (HTTPS_PROXY, NO_PROXY)"
            }
            HttpError::GaveUp { .. } => "try again later",
        };
        Self::environment(error.to_string()).with_hint(hint)
    }
}

/// Why one attempt failed.
#[derive(Debug)]
pub enum Trouble {
    /// Another attempt may do better.
    Passing {
        /// What went wrong.
        reason: String,
        /// Pause that the server asks for.
        retry_after: Option<Duration>,
        /// Whether the attempt brought some bytes, so that it does not count as one of those in a row.
        progressed: bool,
    },
    /// No attempt would do better.
    Lasting(HttpError),
    /// It is not the network's fault.
    Halt(Halt),
}

impl Trouble {
    /// A passing trouble.
    pub fn passing(reason: impl Into<String>, progressed: bool) -> Self {
        Self::Passing { reason: reason.into(), retry_after: None, progressed }
    }
}

/// Why retrying ended.
#[derive(Debug)]
pub enum Stopped {
    /// The address yields nothing.
    Http(HttpError),
    /// Asked to stop, or failed for another reason.
    Halt(Halt),
}

impl From<Stopped> for Halt {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Http(error) => Failure::from(error).into(),
            Stopped::Halt(halt) => halt,
        }
    }
}

/// The client.
pub struct Client {
    agent: Agent,
}

impl Client {
    /// A client that trusts what the environment says.
    ///
    /// # Errors
    /// Where `SSL_CERT_FILE` cannot be read.
    pub fn new() -> Result<Self, Failure> {
        let config = Agent::config_builder()
            .user_agent(web::USER_AGENT)
            .http_status_as_error(false)
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .tls_config(web::trusted()?)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build();
        Ok(Self { agent: config.new_agent() })
    }

    /// Sends one request. Answers that another attempt may better are [`Trouble::Passing`].
    ///
    /// # Errors
    /// Anything but a success.
    pub fn send(&self, get: &Get) -> Result<Response<Body>, Trouble> {
        // Files are verified byte by byte, so nothing on the way may compress them.
        let mut request = self.agent.get(&get.url).header("Accept-Encoding", "identity");
        if let Some(token) = &get.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in &get.headers {
            request = request.header(*name, value);
        }
        let mut response = request.call().map_err(|error| trouble(&get.url, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
            let retry_after = header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            let reason = format!("the server answered {status}");
            return Err(Trouble::Passing { reason, retry_after, progressed: false });
        }
        let (code, message) = (header("x-error-code"), header("x-error-message"));
        let message = message.or_else(|| response.body_mut().read_to_string().ok().and_then(|body| short(&body)));
        Err(Trouble::Lasting(HttpError::Status { url: get.url.clone(), status, code, message }))
    }
}

/// Tries until it succeeds, a trouble lasts, or too many attempts in a row bring nothing.
///
/// # Errors
/// The last trouble.
pub fn with_retries<T>(job: &Job, url: &str, mut attempt: impl FnMut() -> Result<T, Trouble>) -> Result<T, Stopped> {
    let mut in_a_row = 0;
    loop {
        let (reason, retry_after, progressed) = match attempt() {
            Ok(value) => return Ok(value),
            Err(Trouble::Lasting(error)) => return Err(Stopped::Http(error)),
            Err(Trouble::Halt(halt)) => return Err(Stopped::Halt(halt)),
            Err(Trouble::Passing { reason, retry_after, progressed }) => (reason, retry_after, progressed),
        };
        in_a_row = if progressed { 1 } else { in_a_row + 1 };
        if in_a_row >= ATTEMPTS {
            return Err(Stopped::Http(HttpError::GaveUp { url: url.to_owned(), reason }));
        }
        let pause = retry_after.unwrap_or(FIRST_PAUSE * 2_u32.pow(in_a_row - 1)).min(LONGEST_PAUSE);
        job.warn("download_retried", format!("{url}: {reason}; trying again in {} ms", pause.as_millis()));
        wait(job, pause).map_err(Stopped::Halt)?;
    }
}

/// Sleeps, but not through a request to stop.
fn wait(job: &Job, pause: Duration) -> Result<(), Halt> {
    const NAP: Duration = Duration::from_millis(50);
    let mut left = pause;
    while !left.is_zero() {
        if job.should_stop() {
            return Err(Halt::Interrupted);
        }
        let nap = left.min(NAP);
        std::thread::sleep(nap);
        left -= nap;
    }
    Ok(())
}

/// Refused connections and unknown hosts last; timeouts, resets and the like pass.
fn trouble(url: &str, error: &ureq::Error) -> Trouble {
    let lasting = |reason: String| Trouble::Lasting(HttpError::Unreachable { url: url.to_owned(), reason });
    match error {
        ureq::Error::Timeout(_) => Trouble::passing(error.to_string(), false),
        ureq::Error::Io(io) if io.kind() != ErrorKind::ConnectionRefused => Trouble::passing(error.to_string(), false),
        ureq::Error::Protocol(_) => Trouble::passing(error.to_string(), false),
        ureq::Error::ConnectionFailed => lasting("the connection failed".to_owned()),
        ureq::Error::HostNotFound => lasting("the host is unknown".to_owned()),
        _ => lasting(error.to_string()),
    }
}

/// The first line of a server's explanation, where it is text for people.
fn short(body: &str) -> Option<String> {
    let line = body.trim().lines().next().unwrap_or_default().trim();
    (!line.is_empty() && !line.starts_with('<') && line.len() <= 300).then(|| line.to_owned())
}
