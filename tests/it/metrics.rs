//! `/metrics`: what it shows, that its labels do not grow, and who may read it.

use std::collections::BTreeSet;

use awc::http::Method;
use serde_json::json;

use crate::support::{Receiver, Server, assert_error};

/// Families and their types.
const FAMILIES: [(&str, &str); 45] = [
    ("postrider_answer_bytes", "gauge"),
    ("postrider_attempts", "counter"),
    ("postrider_attempts_in_flight", "gauge"),
    ("postrider_auth_failures", "counter"),
    ("postrider_auth_failures_refused", "counter"),
    ("postrider_backup_bytes", "counter"),
    ("postrider_backup_completed_at_seconds", "gauge"),
    ("postrider_backup_failing", "gauge"),
    ("postrider_backup_lag_seconds", "gauge"),
    ("postrider_backup_requests", "counter"),
    ("postrider_backup_verified_timestamp_seconds", "gauge"),
    ("postrider_backup_verify_failures", "counter"),
    ("postrider_blob_files", "gauge"),
    ("postrider_attempts_put_off", "counter"),
    ("postrider_breakers_opened", "counter"),
    ("postrider_build", "info"),
    ("postrider_commit_batch_size", "histogram"),
    ("postrider_journal_ahead_bytes", "gauge"),
    ("postrider_checkpoints", "counter"),
    ("postrider_commit_seconds", "histogram"),
    ("postrider_connections_refused", "counter"),
    ("postrider_deliveries_held", "gauge"),
    ("postrider_endpoints_disabled", "counter"),
    ("postrider_endpoints_held", "gauge"),
    ("postrider_deliveries_waiting", "gauge"),
    ("postrider_erasures", "gauge"),
    ("postrider_lanes_resting", "gauge"),
    ("postrider_lanes_waiting_for_host", "gauge"),
    ("postrider_messages_accepted", "counter"),
    ("postrider_notify_failing", "gauge"),
    ("postrider_notify_mails", "counter"),
    ("postrider_oldest_due_seconds", "gauge"),
    ("postrider_publish_to_receipt_seconds", "histogram"),
    ("postrider_reads_under_way", "gauge"),
    ("postrider_reads_waiting", "gauge"),
    ("postrider_requests_refused", "counter"),
    ("postrider_schema_checks", "counter"),
    ("postrider_sessions", "gauge"),
    ("postrider_sessions_crowded_out", "counter"),
    ("postrider_sign_ins", "counter"),
    ("postrider_slices_opened", "counter"),
    ("postrider_slow_readers_cut_off", "counter"),
    ("postrider_store_bytes", "gauge"),
    ("postrider_store_problems", "gauge"),
    ("postrider_unknown_event_types", "counter"),
];

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("{series} is not in {text}"));
    value.trim().parse().expect("a number")
}

fn label_names(text: &str) -> BTreeSet<&str> {
    let labels = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('{')?.1.split_once('}'))
        .flat_map(|(labels, _)| labels.split(','));
    labels
        .filter_map(|label| Some(label.split_once('=')?.0))
        .collect()
}

#[actix_web::test]
async fn what_happened_is_counted() {
    let receiver = Receiver::answering([200, 500, 410]).await;
    let server = Server::start().await;
    let before = server.get("/metrics").await;
    assert_eq!(before.status, 200);
    assert_eq!(
        before.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let types: Vec<(&str, &str)> = before
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let found: BTreeSet<_> = types.iter().copied().collect();
    assert_eq!(found, BTreeSet::from(FAMILIES));
    assert_eq!(types.len(), FAMILIES.len(), "each once");
    assert!(before.text.ends_with("# EOF\n"));

    server.send_to(&receiver, "first", json!({})).await;
    server.publish("second", json!({})).await;
    server.settle().await;
    let text = server.get("/metrics").await.text;
    let is = |series: &str, expected: f64| assert_eq!(value(&text, series), expected, "{series}");
    is("postrider_messages_accepted_total", 2.0);
    is("postrider_attempts_total{outcome=\"delivered\"}", 1.0);
    is("postrider_attempts_total{outcome=\"wrong_answer\"}", 1.0);
    is("postrider_attempts_total{outcome=\"timeout\"}", 0.0);
    is("postrider_deliveries_waiting", 1.0);
    is("postrider_attempts_in_flight", 0.0);
    is("postrider_blob_files", 0.0);
    is("postrider_publish_to_receipt_seconds_count", 1.0);
    assert!(value(&text, "postrider_commit_seconds_count") >= 4.0);
    assert!(value(&text, "postrider_commit_batch_size_count") >= 4.0);

    // 410 disables the endpoint; what it did not take still waits.
    server.advance_to_next_due().await;
    let text = server.get("/metrics").await.text;
    assert_eq!(value(&text, "postrider_deliveries_waiting"), 1.0);
    assert_eq!(
        value(&text, "postrider_attempts_total{outcome=\"wrong_answer\"}"),
        2.0
    );
    let mut server = server;
    server.leftovers_are_fine();
}

#[actix_web::test]
async fn labels_do_not_grow_with_what_customers_do() {
    let receiver = Receiver::answering((400..420).filter(|status| *status != 410)).await;
    let server = Server::start_with(|config| config.delivery.retry_delays_seconds.clear()).await;
    let series = async || {
        let text = server.get("/metrics").await.text;
        let is_series = |line: &&str| !line.starts_with('#');
        let names = text
            .lines()
            .filter(is_series)
            .map(|line| line.rsplit_once(' ').unwrap().0);
        (names.map(str::to_owned).collect::<BTreeSet<_>>(), text)
    };
    let (before, _) = series().await;
    let endpoint = server.endpoint(&receiver).await;
    for number in 0..25 {
        server.publish(&format!("type-{number}"), json!({})).await;
        server.settle().await;
    }
    let (after, text) = series().await;
    assert_eq!(after, before);
    let expected = BTreeSet::from([
        "lacking", "le", "limit", "outcome", "reason", "surface", "version",
    ]);
    assert_eq!(label_names(&text), expected);
    assert!(!text.contains(&endpoint) && !text.contains("type-"));
}

#[actix_web::test]
async fn only_an_owner_reads_metrics() {
    let server = Server::start().await;
    server.application("app").await;
    let body = json!({"name": "t", "role": "application", "applicationId": "app"});
    let token = server.post("/api/v1/token", body).await.expect(201);
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    for path in ["/metrics", "/metrics/"] {
        for (authorization, status, code) in [
            (bearer.as_str(), 403, "forbidden"),
            ("Bearer pr_wrong", 401, "authentication_failed"),
            ("", 401, "authentication_failed"),
        ] {
            let headers = [("authorization", authorization)];
            let answer = server.call(Method::GET, path, &headers, None).await;
            assert_error(&answer, status, code);
        }
        assert_eq!(server.get(path).await.status, 200);
    }
}
