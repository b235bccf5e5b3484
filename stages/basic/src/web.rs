//! What all who speak over the network share: whom they trust.

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// How programs name themselves to servers.
pub const USER_AGENT: &str = concat!("neftpipe/", env!("CARGO_PKG_VERSION"));

/// The certificates of `SSL_CERT_FILE` where it is set, else Mozilla's.
///
/// # Errors
/// Where the file cannot be read or holds none.
pub fn trusted() -> Result<TlsConfig, Failure> {
    let certificates = match std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        Some(path) => of_file(path.as_ref())?,
        None => RootCerts::WebPki,
    };
    Ok(TlsConfig::builder().root_certs(certificates).build())
}

fn of_file(path: &std::path::Path) -> Result<RootCerts, Failure> {
    let pem = std::fs::read(path)
        .map_err(|error| io_failure("read", path, &error).with_hint("SSL_CERT_FILE names the certificates to trust"))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Failure::environment(format!("{}: SSL_CERT_FILE holds no certificate", path.display())));
    }
    Ok(RootCerts::from(certificates))
}
