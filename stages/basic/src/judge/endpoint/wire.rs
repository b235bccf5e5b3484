//! One request to a chat service, and what its answer means: an answer, a trouble that passes, or one that lasts.
//!
//! It knows the protocol of OpenAI-compatible servers, not what is asked. The key is a header and nothing else: wherever a
//! server's words are kept or shown, it is struck out.

use std::ffi::OsString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use neftpipe_protocol::Failure;
use neftpipe_protocol::judging::Usage;
use neftpipe_protocol::params::judge::Endpoint;
use serde_json::Value;
use ureq::http::{HeaderMap, StatusCode};
use ureq::{Agent, Body};

use crate::web;

/// The vendor's own address.
const DEFAULT_URL: &str = "https://api.openai.com/v1";
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// What stands for the key.
const STRUCK: &str = "[key]";

/// A chat service.
pub struct Service {
    agent: Agent,
    url: String,
    key: Option<String>,
    /// Longest wait for an answer.
    patience: Duration,
}

/// An answer, and how much may be asked next.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The first choice; null where the service will never answer this.
    pub choice: Value,
    /// Tokens that it counted, where it said.
    pub usage: Option<Usage>,
    /// Pause that its rate limit asks for before anything else is asked.
    pub pause: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// Another attempt may do better.
    Passing {
        /// What went wrong.
        reason: String,
        /// Pause that the server asks for.
        retry_after: Option<Duration>,
    },
    /// No attempt would do better, of this request or another.
    Lasting(Failure),
}

impl Service {
    /// The service of these parameters; `port` is that of a server that was started here.
    ///
    /// # Errors
    /// Where the key's variable is not set.
    pub fn new(endpoint: &Endpoint, port: Option<u16>) -> Result<Self, Failure> {
        let url = match (&endpoint.base_url, port) {
            (Some(url), Some(port)) => url.replace("{port}", &port.to_string()),
            (Some(url), None) => url.clone(),
            (None, Some(port)) => format!("http://127.0.0.1:{port}/v1"),
            (None, None) => DEFAULT_URL.to_owned(),
        };
        let patience = Duration::from_secs(endpoint.timeout_seconds);
        let mut config = Agent::config_builder();
        if is_local(&url) {
            config = config.proxy(None); // no proxy leads to this machine
        }
        let agent = config
            .user_agent(web::USER_AGENT)
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(web::trusted()?)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(patience))
            .build()
            .new_agent();
        Ok(Self { agent, url: url.trim_end_matches('/').to_owned(), key: key(endpoint)?, patience })
    }

    /// Its address, without what may be secret in it.
    pub fn address(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        is_local(&self.url)
    }

    /// Whether it answers at all: what it lists is not looked at.
    pub fn is_up(&self) -> bool {
        let request = self.agent.get(format!("{}/models", self.url));
        request.call().is_ok_and(|response| !response.status().is_server_error())
    }

    /// Asks once.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn ask(&self, body: &Value) -> Result<Answer, Trouble> {
        let mut request = self.agent.post(format!("{}/chat/completions", self.url));
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(body).map_err(|error| self.no_answer(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = self.text(response.body_mut()).map_err(|error| self.no_answer(&error))?;
        match status.is_success() {
            true => read(&text, &headers),
            false => Err(self.refusal(status, &headers, &text)),
        }
        .or_else(|trouble| never_answered(trouble, status, &text))
    }

    fn text(&self, body: &mut Body) -> Result<String, ureq::Error> {
        let text = body.read_to_string()?;
        Ok(match &self.key {
            Some(key) => text.replace(key, STRUCK),
            None => text,
        })
    }

    fn no_answer(&self, error: &ureq::Error) -> Trouble {
        let lasting = |why: &str| {
            Trouble::Lasting(
                Failure::environment(format!("{}: {why}", self.address()))
                    .with_hint("check `endpoint.base_url`, the network and the proxy settings (HTTPS_PROXY, NO_PROXY)"),
            )
        };
        let passing = |reason| Trouble::Passing { reason, retry_after: None };
        match error {
            ureq::Error::HostNotFound => lasting("the host is unknown"),
            ureq::Error::BadUri(_) => lasting("it is no address"),
            ureq::Error::Tls(_) | ureq::Error::TlsRequired => lasting(&error.to_string()),
            ureq::Error::Timeout(_) => {
                passing(format!("there was no whole answer within {} s", self.patience.as_secs()))
            }
            _ => passing(error.to_string()),
        }
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, text: &str) -> Trouble {
        let said = said(text);
        let is_passing = matches!(status.as_u16(), 408 | 409 | 425 | 429) || status.is_server_error();
        if is_passing && !text.contains("insufficient_quota") {
            let reason =
                format!("the server answered {status}{}", said.map_or(String::new(), |said| format!(": {said}")));
            return Trouble::Passing { reason, retry_after: retry_after(headers) };
        }
        let what = said.unwrap_or_else(|| "it gave no reason".to_owned());
        let hint = match status.as_u16() {
            401 | 403 => "`endpoint.key_env` names the environment variable that holds the key",
            404 => "check `endpoint.base_url` and `endpoint.model`",
            429 => "the account has no money left: what was paid for is kept, and another run goes on",
            _ => "the service does not take this request: check `endpoint.model` and the annotator",
        };
        Trouble::Lasting(Failure::environment(format!("{}: {status}: {what}", self.address())).with_hint(hint))
    }
}

fn is_local(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default();
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host.starts_with(name))
}

fn key(endpoint: &Endpoint) -> Result<Option<String>, Failure> {
    let Some(name) = &endpoint.key_env else { return Ok(None) };
    let value = std::env::var_os(name).filter(|value| !value.is_empty()).map(OsString::into_string);
    match value {
        Some(Ok(key)) => Ok(Some(key.trim().to_owned())),
        Some(Err(_)) => Err(Failure::environment(format!("endpoint.key_env: the variable {name} is no text"))),
        None => Err(Failure::environment(format!("endpoint.key_env: the variable {name} is not set"))
            .with_hint(format!("export {name}=… in the shell that starts the run"))),
    }
}

/// A refusal of this one comparison that no attempt changes: it is too long, or the service will not read it.
fn never_answered(trouble: Trouble, status: StatusCode, text: &str) -> Result<Answer, Trouble> {
    const SAYINGS: [&str; 5] =
        ["context_length", "context length", "Please reduce", "content_filter", "different prompt"];
    match trouble {
        Trouble::Lasting(_)
            if status == StatusCode::BAD_REQUEST && SAYINGS.iter().any(|saying| text.contains(saying)) =>
        {
            Ok(Answer { choice: Value::Null, usage: Some(Usage::default()), pause: None })
        }
        trouble => Err(trouble),
    }
}

fn read(text: &str, headers: &HeaderMap) -> Result<Answer, Trouble> {
    let passing = |reason: String| Trouble::Passing { reason, retry_after: None };
    let mut body: Value =
        serde_json::from_str(text).map_err(|error| passing(format!("the answer is no JSON: {error}")))?;
    let count = |name: &str| body.pointer(&format!("/usage/{name}")).and_then(Value::as_u64);
    let usage = count("prompt_tokens")
        .map(|prompt_tokens| Usage { prompt_tokens, completion_tokens: count("completion_tokens").unwrap_or(0) });
    match body.pointer_mut("/choices/0").map(Value::take) {
        Some(choice) if choice.get("message").is_some() => Ok(Answer { choice, usage, pause: pause(headers) }),
        _ => Err(passing(format!("the answer holds no message: {}", said(text).unwrap_or_default()))),
    }
}

/// A server's explanation, where there is one.
fn said(text: &str) -> Option<String> {
    const LONGEST: usize = 300;
    let body: Option<Value> = serde_json::from_str(text).ok();
    let message = body.as_ref().and_then(|body| body.pointer("/error/message").or(body.get("error"))?.as_str());
    let line = message.unwrap_or_else(|| text.trim().lines().next().unwrap_or_default()).trim();
    (!line.is_empty() && !line.starts_with('<')).then(|| line.chars().take(LONGEST).collect())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(milliseconds) = header("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(milliseconds / 1000.0).ok();
    }
    let text = header("retry-after")?;
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => until(text),
    }
}

/// How long until an HTTP date: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn until(date: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_once(", ")?.1.split([' ', ':']);
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next().and_then(|month| MONTHS.iter().position(|&name| name == month))? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = || words.next()?.parse::<i64>().ok();
    let (hours, minutes, seconds) = (clock()?, clock()?, clock()?);
    // Days since 1970 by the civil calendar, years beginning in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let then = days * 86_400 + hours * 3600 + minutes * 60 + seconds;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() as i64;
    Some(Duration::from_secs(u64::try_from(then - now).unwrap_or(0)))
}

/// The pause that a rate limit asks for which is used up.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let header = |name: String| headers.get(name)?.to_str().ok().map(str::trim);
    let used_up = |what: &str| {
        let left: i64 = header(format!("x-ratelimit-remaining-{what}"))?.parse().ok()?;
        if left > 0 { None } else { span(header(format!("x-ratelimit-reset-{what}"))?) }
    };
    used_up("requests").max(used_up("tokens"))
}

/// A span as servers write it: `1s`, `6m0s`, `20ms`, or seconds.
fn span(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let value: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        seconds += value
            * match &rest[digits..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (ureq::http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn spans_and_dates_are_read_as_servers_write_them() {
        let millis = |text: &str| span(text).map(|span| span.as_millis());
        assert_eq!(
            ["1s", "6m0s", "20ms", "1h2m3.5s", "0.25"].map(millis),
            [1000, 360_000, 20, 3_723_500, 250].map(Some)
        );
        assert_eq!(["", "soon", "5d"].map(millis), [Some(0), None, None]);
        assert_eq!(until("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let far = until("Thu, 01 Jan 2099 00:00:00 GMT").unwrap().as_secs();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((far + now).abs_diff(4_070_908_800) < 5);
    }

    #[test]
    fn limits_that_are_used_up_ask_for_a_pause() {
        assert_eq!(
            pause(&headers(&[("x-ratelimit-remaining-requests", "1"), ("x-ratelimit-reset-requests", "9s")])),
            None
        );
        let used_up = headers(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "2s")]);
        assert_eq!(pause(&used_up), Some(Duration::from_secs(2)));
        assert_eq!(retry_after(&headers(&[("retry-after", "3")])), Some(Duration::from_secs(3)));
        assert_eq!(
            retry_after(&headers(&[("retry-after-ms", "250"), ("retry-after", "3")])),
            Some(Duration::from_millis(250))
        );
    }

    #[test]
    fn answers_without_a_message_may_come_right() {
        let empty = HeaderMap::new();
        assert!(matches!(read("{\"choices\": [", &empty), Err(Trouble::Passing { .. })));
        assert!(matches!(read("{\"choices\": []}", &empty), Err(Trouble::Passing { .. })));
        let text =
            r#"{"choices": [{"message": {"content": "m"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}"#;
        let answer = read(text, &empty).unwrap();
        assert_eq!(answer.usage, Some(Usage { prompt_tokens: 7, completion_tokens: 1 }));
    }
}
