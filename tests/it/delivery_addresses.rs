//! The addresses that requests come from, as the operator states them.

use awc::http::Method;
use postrider::config;
use serde_json::json;

use crate::support::{Receiver, Server, assert_error};

const PATH: &str = "/api/v1/delivery-addresses";
const SESSION: &str = "/api/v1/session";

#[actix_web::test]
async fn whoever_has_a_credential_reads_what_the_operator_states() {
    let server = Server::start_with(|config| {
        let stated = ["203.0.113.7", "198.51.100.0/28", "2001:db8::/64"];
        let stated = stated.map(|one| config::SourceAddress::try_from(one.to_owned()));
        config.delivery.source_addresses = stated.map(Result::unwrap).to_vec();
    })
    .await;
    let receiver = Receiver::ok().await;
    server
        .endpoint_of("app", json!({ "url": receiver.url() }))
        .await;
    let link = server
        .post("/api/v1/auth/app-portal-access/app", json!({}))
        .await
        .expect(200);
    let link = link["token"].as_str().expect("a text").to_owned();
    let publisher = server
        .post("/api/v1/token", json!({ "name": "p", "role": "publisher" }))
        .await
        .expect(201);
    let publisher = publisher["token"].as_str().expect("a text").to_owned();
    for token in [server.token.clone(), link, publisher] {
        let shown = server.call_as(&token, Method::GET, PATH, None).await;
        assert_eq!(
            shown.expect(200),
            json!({ "data": ["203.0.113.7", "198.51.100.0/28", "2001:db8::/64"] })
        );
        // The pages are told with the rest of what they need.
        let session = server.call_as(&token, Method::GET, SESSION, None).await;
        assert_eq!(
            session.expect(200)["sourceAddresses"],
            json!(["203.0.113.7", "198.51.100.0/28", "2001:db8::/64"])
        );
    }
    let nobody = server.call_as("", Method::GET, PATH, None).await;
    assert_error(&nobody, 401, "authentication_failed");
}

#[actix_web::test]
async fn nothing_is_stated_by_default() {
    let server = Server::start().await;
    assert_eq!(server.get(PATH).await.expect(200), json!({ "data": [] }));
    let session = server.get(SESSION).await.expect(200);
    assert_eq!(session["sourceAddresses"], json!([]));
}
