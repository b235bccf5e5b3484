//! `https://…`: resuming, retrying, refusing.

use std::net::TcpListener;

use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::FailureClass::{Data, Environment};
use serde_json::json;

use crate::server::{Answer, Server};
use crate::worker::{Download, sha256};

const ROWS: &str = r#"[{"instruction": "i", "output": "o"}]"#;

fn download(server: &Server, path: &str) -> Download {
    Download::new(json!({"from": format!("{}{path}", server.url)}))
}

#[test]
fn a_file_is_brought_and_what_it_was_is_said() {
    let server = Server::start(|_| Answer::new(200, ROWS));
    let done = download(&server, "/a/rows.json?x=1").run();
    assert_eq!(done.artifact(), ArtifactType::Dataset);
    assert_eq!(done.lines("rows.jsonl"), [json!({"instruction": "i", "output": "o"})]);
    let file = json!({"path": "rows.json", "bytes": ROWS.len(), "sha256": sha256(ROWS.as_bytes())});
    assert_eq!(done.resolved()["files"], json!([file]));
    assert_eq!(server.asked()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let whole = body.clone();
    let server = Server::start(move |asked| match (asked.before, asked.header("range")) {
        (0, _) => Answer::new(200, &body).header("ETag", "\"v1\"").cut(200_000),
        (1, Some("bytes=200000-")) if asked.header("if-range") == Some("\"v1\"") => {
            Answer::new(206, &body[200_000..]).header("Content-Range", "bytes 200000-299999/300000")
        }
        _ => Answer::new(400, "unexpected"),
    });
    let done = download(&server, "/x.dat").run();
    assert_eq!(done.artifact(), ArtifactType::Files);
    assert_eq!(std::fs::read(done.path("x.dat")).unwrap(), whole);
    assert_eq!(done.success().measured["downloaded_bytes"], 300_000);
}

#[test]
fn a_later_attempt_goes_on_where_an_earlier_one_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let partial = dir.path().join("partial");
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let whole = body.clone();
    let server = Server::start(move |asked| match (asked.before, asked.header("range")) {
        (0, _) => Answer::new(200, &body).header("ETag", "\"v1\"").cut(200_000),
        (1, _) => Answer::new(410, "gone for a while"),
        (2, Some("bytes=200000-")) if asked.header("if-range") == Some("\"v1\"") => {
            Answer::new(206, &body[200_000..]).header("Content-Range", "bytes 200000-299999/300000")
        }
        _ => Answer::new(400, "unexpected"),
    });
    download(&server, "/x.dat").partial(&partial).run().fails(Environment, &["410"]);
    assert_eq!(std::fs::metadata(partial.join("x.dat")).unwrap().len(), 200_000);

    let done = download(&server, "/x.dat").partial(&partial).run();
    assert_eq!(std::fs::read(done.path("x.dat")).unwrap(), whole);
    assert_eq!(done.success().measured["downloaded_bytes"], 100_000);
    assert_eq!(done.resolved()["files"][0]["sha256"], sha256(&whole));
    assert!(!partial.exists(), "what is done leaves nothing half-done");
}

#[test]
fn a_file_that_was_brought_whole_is_not_brought_again() {
    let dir = tempfile::tempdir().unwrap();
    let partial = dir.path().join("partial");
    std::fs::create_dir_all(&partial).unwrap();
    let server = Server::start(|asked| match (asked.header("range"), asked.header("if-range")) {
        (Some("bytes=5-"), Some("\"v1\"")) => Answer::new(416, ""),
        _ => Answer::new(200, "other").header("ETag", "\"v2\""),
    });
    let leave = |etag: &str| {
        std::fs::create_dir_all(&partial).unwrap();
        std::fs::write(partial.join("x.txt"), "whole").unwrap();
        let version = json!({"url": format!("{}/x.txt", server.url), "etag": etag, "bytes": 5});
        std::fs::write(partial.join("x.txt.version.json"), version.to_string()).unwrap();
    };
    leave("\"v1\"");
    assert_eq!(download(&server, "/x.txt").partial(&partial).run().text("x.txt"), "whole");
    leave("\"v0\"");
    assert_eq!(download(&server, "/x.txt").partial(&partial).run().text("x.txt"), "other");
}

#[test]
fn what_was_refused_is_not_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let partial = dir.path().join("partial");
    let server = Server::start(|_| Answer::new(200, ROWS).header("ETag", "\"v1\""));
    let params = json!({"from": format!("{}/rows.json", server.url), "sha256": "0".repeat(64)});
    Download::new(params).partial(&partial).run().fails(Data, &["rows.json"]);
    assert!(!partial.exists());
}

#[test]
fn a_file_that_changed_in_between_is_begun_anew() {
    let server = Server::start(|asked| match asked.before {
        0 => Answer::new(200, "old old old").header("ETag", "\"v1\"").cut(4),
        _ => Answer::new(200, "new").header("ETag", "\"v2\""),
    });
    assert_eq!(download(&server, "/x.txt").run().text("x.txt"), "new");
}

#[test]
fn passing_troubles_are_retried_and_lasting_ones_given_up() {
    let server = Server::start(|asked| match asked.before {
        0 => Answer::new(429, "").header("Retry-After", 0),
        1 => Answer::new(503, "").header("Retry-After", 0),
        _ => Answer::new(200, ROWS),
    });
    assert_eq!(download(&server, "/rows.json").run().lines("rows.jsonl").len(), 1);

    let server = Server::start(|_| Answer::new(503, "").header("Retry-After", 0));
    download(&server, "/rows.json").run().fails(Environment, &["given up after 5 attempts", "503"]);
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn an_absent_source_and_a_refused_port_are_the_environment_s() {
    let server = Server::start(|_| Answer::new(404, "no such thing"));
    download(&server, "/x.json").run().fails(Environment, &["404", "no such thing", "absent"]);
    assert_eq!(server.asked().len(), 1);

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(); // free again at once
    let done = Download::new(json!({"from": format!("http://127.0.0.1:{port}/x.json")})).run();
    done.fails(Environment, &["cannot be reached", "HTTPS_PROXY"]);
}

#[test]
fn a_wrong_checksum_names_both() {
    let server = Server::start(|_| Answer::new(200, ROWS));
    let wanted = "0".repeat(64);
    let params = json!({"from": format!("{}/rows.json", server.url), "sha256": wanted});
    Download::new(params).run().fails(Data, &["rows.json", &sha256(ROWS.as_bytes()), &wanted]);
}

#[test]
fn a_pinned_source_that_changed_is_refused() {
    let server = Server::start(|_| Answer::new(200, ROWS));
    let first = download(&server, "/rows.json").run();
    let mut pin = first.resolved();
    let same = download(&server, "/rows.json").resolved(&pin).run();
    assert_eq!(same.resolved(), pin);
    pin["files"][0]["sha256"] = json!("f".repeat(64));
    download(&server, "/rows.json").resolved(&pin).run().fails(Data, &["rows.json", &"f".repeat(64), "--refresh"]);
}

#[test]
fn offline_nothing_is_asked() {
    let server = Server::start(|_| Answer::new(200, ROWS));
    download(&server, "/rows.json").offline().run().fails(Environment, &["--offline"]);
    assert!(server.asked().is_empty());
}

#[test]
fn a_request_to_stop_is_obeyed() {
    use neftpipe_protocol::request::StageResult;
    // The pause that the server asks for is far longer than the test may take.
    let server = Server::start(|_| Answer::new(503, "").header("Retry-After", 100));
    let result = download(&server, "/rows.json").run_until("download_retried");
    assert!(matches!(result, StageResult::Interrupted), "{result:?}");
}
