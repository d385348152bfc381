//! Answers that are long: pages end in time, and readers that take nothing hold little and not for
//! long.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use awc::http::Method;
use postrider::config::Config;
use serde_json::json;

use crate::support::{DEADLINE, Receiver, Server, assert_error, texts, wait_until};

const MESSAGES: &str = "/api/v1/app/app/msg";

/// All ids of a list by following its iterators, and how long the longest page was.
async fn read_through(server: &Server, path: &str) -> (Vec<Vec<String>>, usize) {
    let (mut pages, mut longest) = (Vec::new(), 0);
    let mut iterator = String::new();
    loop {
        let join = if path.contains('?') { '&' } else { '?' };
        let answer = server
            .get(&format!("{path}{join}limit=250&iterator={iterator}"))
            .await;
        longest = longest.max(answer.text.len());
        let page = answer.expect(200);
        pages.push(texts(&page, "id"));
        if page["done"] == true {
            return (pages, longest);
        }
        iterator = page["iterator"].as_str().expect("more comes").to_owned();
        assert!(pages.len() < 100, "it does not end");
    }
}

fn assert_reads(pages: &[Vec<String>], expected: &[String], sizes: &[usize]) {
    assert_eq!(pages.concat(), expected);
    assert_eq!(Vec::from_iter(pages.iter().map(Vec::len)), sizes);
}

#[actix_web::test]
async fn a_page_ends_where_it_has_its_bytes_and_goes_on_from_there() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.limits.page_bytes = 10_000).await;
    let header = "h".repeat(3_000);
    let body = json!({ "url": receiver.url(), "headers": { "x-a": header } });
    for _ in 0..7 {
        server.endpoint_of("app", body.clone()).await;
    }
    let mut ids = Vec::new();
    // One of them is longer than a page.
    for length in [3_000, 3_000, 3_000, 30_000, 3_000, 3_000] {
        let payload = json!({ "text": "t".repeat(length) });
        ids.push(server.publish("a", payload).await);
        server.advance(std::time::Duration::from_millis(10));
    }
    server.settle().await;
    ids.reverse();
    let (pages, longest) = read_through(&server, MESSAGES).await;
    assert_reads(&pages, &ids, &[2, 1, 3]);
    assert!(longest < 31_000, "{longest}");
    let (pages, _) = read_through(&server, &format!("{MESSAGES}?with_content=false")).await;
    assert_reads(&pages, &ids, &[6]);

    // The same of what was sent to an endpoint, of attempts with their messages, and of endpoints.
    let list = server
        .get("/api/v1/app/app/endpoint?limit=1")
        .await
        .expect(200);
    let endpoint = list["data"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/msg");
    let (pages, _) = read_through(&server, &path).await;
    assert_reads(&pages, &ids, &[2, 1, 2, 1]);
    let path = format!("/api/v1/app/app/attempt/endpoint/{endpoint}");
    let (without, _) = read_through(&server, &path).await;
    assert_eq!(without.concat().len(), 6);
    let (pages, _) = read_through(&server, &format!("{path}?with_msg=true")).await;
    assert_eq!(pages.concat(), without.concat());
    assert!(pages.len() > without.len(), "{pages:?}");
    let (pages, longest) = read_through(&server, "/api/v1/app/app/endpoint").await;
    assert_eq!(pages.concat().len(), 7);
    assert!(pages.len() > 1 && longest < 11_000, "{longest}");
    let (pages, _) = read_through(&server, "/api/v1/app/app/endpoint?order=descending").await;
    assert_eq!(pages.concat().len(), 7);

    // Back from the last one.
    let oldest = ids.last().expect("six");
    let path = format!("{MESSAGES}?iterator=-{oldest}");
    let back = server.get(&path).await.expect(200);
    assert_eq!(texts(&back, "id"), ids[3..5]);
    assert_eq!(back["done"], false);
    let before = back["prevIterator"].as_str().expect("more comes");
    let path = format!("{MESSAGES}?iterator={before}");
    let back = server.get(&path).await.expect(200);
    assert_eq!(texts(&back, "id"), ids[2..3]);
}

/// A reader that asks and takes nothing of the answer, which is in the server's memory by then.
async fn ask_and_read_nothing(server: &Server, token: &str, path: &str) -> TcpStream {
    let address = server.url("");
    let address = address.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).expect("the server listens");
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    connection.write_all(request.as_bytes()).expect("a request");
    let begins = tokio::task::spawn_blocking(move || {
        connection
            .set_read_timeout(Some(DEADLINE))
            .expect("not zero");
        connection.peek(&mut [0]).expect("the answer begins");
        connection
    });
    begins.await.expect("no panic")
}

/// Two applications, one of them with a page of 24 MB, and a key of that one.
async fn with_a_large_page(change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = Server::start_with(|config| {
        config.limits.page_bytes = 64 << 20;
        // It asks again and again, and by the manual clock all of that is within one second.
        config.limits.requests_per_customer_second_max = 0;
        change(config);
    })
    .await;
    server.application("app").await;
    server.application("other").await;
    let payload = json!({ "text": "t".repeat(1_000_000) });
    for _ in 0..24 {
        server.publish_to("app", "a", payload.clone()).await;
    }
    server.publish_to("other", "a", payload).await;
    let key = json!({ "name": "k", "role": "application", "applicationId": "app" });
    let key = server.post("/api/v1/token", key).await.expect(201);
    let key = key["token"].as_str().expect("a token").to_owned();
    (server, key)
}

#[actix_web::test]
async fn readers_that_take_nothing_hold_their_share_until_they_are_gone() {
    let (server, key) = with_a_large_page(|config| {
        // Far longer than this takes.
        config.server.answer_stall_seconds = 600;
        // More than one whole page, and less than that and another short one.
        config.limits.answers_per_customer_bytes = 24 << 20;
    })
    .await;
    let reader = ask_and_read_nothing(&server, &key, &format!("{MESSAGES}?limit=250")).await;
    let list = async || {
        let short = "/api/v1/app/app/msg?limit=2";
        server.call_as(&key, Method::GET, short, None).await
    };
    let answer = list().await;
    assert_error(&answer, 429, "too_many");
    assert!(
        answer.text.contains("limits.answers_per_customer_bytes"),
        "{}",
        answer.text
    );
    // It is this customer's alone.
    let own = server.get("/api/v1/app/other/msg").await.expect(200);
    assert_eq!(own["data"].as_array().map(Vec::len), Some(1));
    drop(reader);
    wait_until("the share to be free again", || {
        server.metrics().answer_bytes.get() == 0
    })
    .await;
    let cut_off = &server.metrics().slow_readers_cut_off;
    assert_eq!(cut_off.stalled.get(), 0, "it went away by itself");
    assert_eq!(list().await.status, 200);
}

#[actix_web::test]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let (server, key) = with_a_large_page(|config| config.server.answer_stall_seconds = 1).await;
    let mut reader = ask_and_read_nothing(&server, &key, &format!("{MESSAGES}?limit=250")).await;
    wait_until("the reader to be cut off", || {
        server.metrics().answer_bytes.get() == 0
    })
    .await;
    let cut_off = &server.metrics().slow_readers_cut_off;
    assert_eq!((cut_off.stalled.get(), cut_off.pace.get()), (1, 0));
    let mut answer = Vec::new();
    // Whether that is an end or an error is the system's to say.
    let _ = reader.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert!(answer.len() < 24_000_000, "{} bytes came", answer.len());
}

#[actix_web::test]
async fn a_reader_that_takes_too_little_a_second_is_cut_off_and_counted() {
    let (server, key) = with_a_large_page(|_| ()).await;
    let cut_off = || server.metrics().slow_readers_cut_off.pace.get();
    let mut reader = ask_and_read_nothing(&server, &key, &format!("{MESSAGES}?limit=250")).await;
    assert_eq!(cut_off(), 0);
    // An answer of 24 MB may take 25 minutes.
    server.advance(Duration::from_secs(3600));
    let reading = tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        // The system may report the end as an error.
        let _ = reader.read_to_end(&mut answer);
        answer
    });
    let answer = reading.await.expect("no panic");
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert!(answer.len() < 24_000_000, "{} bytes came", answer.len());
    assert_eq!(cut_off(), 1);
    let short = format!("{MESSAGES}?limit=1");
    let list = server.call_as(&key, Method::GET, &short, None).await;
    assert_eq!(list.status, 200);
    assert_eq!(cut_off(), 1, "a reader that takes all is not counted");
}
