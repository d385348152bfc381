//! What a load balancer asks.

use awc::http::Method;
use serde_json::json;

use crate::support::{Receiver, Server, assert_error};

#[actix_web::test]
async fn a_server_that_can_accept_is_healthy_without_a_credential() {
    let server = Server::start().await;
    let nobody = [("authorization", "")];
    for path in ["/api/v1/health", "/api/v1/health/"] {
        let answer = server.call(Method::GET, path, &nobody, None).await;
        assert_eq!(answer.expect(200), json!({"status": "ok"}));
        let head = server.call(Method::HEAD, path, &nobody, None).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
    }
    for path in ["/api/v1/health/ping", "/api/v1/health/ping/"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = server.call(method, path, &nobody, None).await;
            assert_eq!((answer.status, answer.text.as_str()), (204, ""));
        }
    }
}

#[actix_web::test]
async fn without_room_on_the_disk_it_says_why_and_takes_no_messages() {
    let server = Server::start_with(|config| config.store.min_free_bytes = u64::MAX).await;
    let receiver = Receiver::ok().await;
    server.endpoint(&receiver).await;
    // The disk is looked at soon after the start.
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    while server.get("/api/v1/health").await.status == 200 {
        assert!(std::time::Instant::now() < deadline, "still healthy");
    }
    let message = json!({"eventType": "a", "payload": {}});
    for answer in [
        server.get("/api/v1/health").await,
        server.post("/api/v1/app/app/msg", message).await,
    ] {
        assert_error(&answer, 503, "unavailable");
        let reason = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(reason.contains("min_free_bytes"), "{reason}");
        let seconds = answer.header("retry-after").expect("when to come again");
        assert!(seconds.parse::<u32>().unwrap() > 0);
    }
    assert_eq!(server.get("/api/v1/health/ping").await.status, 204);
    server.get("/api/v1/app/app/endpoint").await.expect(200);
    assert_eq!(server.store().waiting_count(), 0);
}
