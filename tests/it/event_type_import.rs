//! Event types from OpenAPI documents.

use serde_json::{Value, json};

use crate::support::{Server, assert_invalid, keys, texts};

const IMPORT: &str = "/api/v1/event-type/import/openapi";

const YAML: &str = r##"
openapi: 3.1.0
info: {title: t, version: "1"}
x-shared: &shared
  type: string
webhooks:
  order.created:
    post:
      description: |
        An order came.
      x-svix-group-name: orders
      x-svix-feature-flags: [beta]
      requestBody:
        content:
          application/json:
            schema: {$ref: "#/components/schemas/Order"}
            example: {id: "1"}
      responses:
        200: {description: ok}
  order.paid:
    post:
      summary: Paid
      deprecated: true
components:
  schemas:
    Order:
      type: object
      properties:
        id: *shared
        parent: {$ref: "#/components/schemas/Order"}
"##;

#[actix_web::test]
async fn webhooks_become_event_types_all_at_once() {
    let server = Server::start().await;
    for (name, archived) in [("order.paid", true), ("other", false), ("gone", true)] {
        let body = json!({
            "name": name, "description": "old", "archived": archived,
            "example": {"old": 1}, "channels": ["c"],
        });
        server.post("/api/v1/event-type", body).await.expect(201);
    }
    let dry = json!({"specRaw": YAML, "dryRun": true, "replaceAll": true});
    let dry = server.post(IMPORT, dry).await.expect(200);
    assert_eq!(dry["data"]["modified"], json!([]));
    let order = &dry["data"]["to_modify"][0];
    assert_eq!(
        keys(order),
        [
            "deprecated",
            "description",
            "featureFlag",
            "featureFlags",
            "groupName",
            "name",
            "schemas"
        ]
    );
    assert_eq!(order["name"], "order.created");
    let list = server.get("/api/v1/event-type").await.expect(200);
    assert_eq!(texts(&list, "name"), ["other"], "nothing was done yet");

    server.advance(std::time::Duration::from_secs(60));
    let body = json!({"specRaw": YAML});
    let done = server.post(IMPORT, body).await.expect(200);
    assert_eq!(
        done,
        json!({"data": {"modified": ["order.created", "order.paid"]}})
    );
    let order = server.get("/api/v1/event-type/order.created").await;
    let order = order.expect(200);
    assert_eq!(order["description"], "An order came.\n");
    assert_eq!(order["groupName"], "orders");
    assert_eq!(order["featureFlags"], json!(["beta"]));
    assert_eq!(order["example"], json!({"id": "1"}));
    let node = json!({"type": "object", "properties":
        {"id": {"type": "string"}, "parent": {"$ref": "#/$defs/Order"}}});
    let mut whole = node.clone();
    whole["$defs"] = json!({"Order": node});
    assert_eq!(order["schemas"], json!({"1": whole}));
    let paid = server
        .get("/api/v1/event-type/order.paid")
        .await
        .expect(200);
    assert_eq!(paid["archived"], false);
    assert_eq!(
        (&paid["description"], &paid["deprecated"]),
        (&json!("Paid"), &json!(true))
    );
    assert_eq!(paid["example"], json!({"old": 1}), "nothing was said of it");
    assert_eq!(paid["updatedAt"], server.now().to_string());

    let spec = json!({"openapi": "3.0.3", "x-webhooks": {"new": {"post": {}}}});
    let body = json!({"spec": spec, "replaceAll": true});
    let done = server.post(IMPORT, body).await.expect(200);
    assert_eq!(
        done["data"]["modified"],
        json!(["new", "order.created", "order.paid", "other"])
    );
    let server = server.restart().await;
    let list = server.get("/api/v1/event-type").await.expect(200);
    assert_eq!(texts(&list, "name"), ["new"]);
}

#[actix_web::test]
async fn a_bad_document_changes_nothing_and_its_place_is_named() {
    let server = Server::start().await;
    let good = json!({"openapi": "3.1.0", "webhooks": {"a": {"post": {}}}});
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &('b'..='h')
            .map(|name| {
                let before = (name as u8 - 1) as char;
                format!(
                    "{name}: &{name} [{}]\n",
                    vec![format!("*{before}"); 10].join(",")
                )
            })
            .collect::<String>();
    let deep = "[".repeat(100_000);
    for (body, place) in [
        (json!({}), "body.spec"),
        (json!({"spec": good, "specRaw": "{}"}), "body.spec"),
        (json!({"spec": []}), "body.spec"),
        (json!({"specRaw": "{"}), "body.specRaw"),
        (json!({"specRaw": "a: [1"}), "body.specRaw"),
        (json!({"specRaw": ""}), "body.specRaw"),
        (json!({"specRaw": bomb}), "body.specRaw"),
        (json!({"specRaw": format!("a: {deep}")}), "body.specRaw"),
        (json!({"specRaw": "a: 1\n---\nb: 2\n"}), "body.specRaw"),
        (json!({"spec": {}}), "body.spec"),
        (
            json!({"spec": {"webhooks": {"a": {"post": {}}, "b": {"post": {"description": 1,
                "requestBody": {"content": {"application/json": {"schema": 1}}}}}}}}),
            "body.spec.webhooks.b.post.requestBody.content.application/json.schema",
        ),
    ] {
        let refused = server.post(IMPORT, body.clone()).await;
        assert_invalid(&refused, &[place]);
    }
    let list = server.get("/api/v1/event-type").await.expect(200);
    assert_eq!(list["data"], json!([]));
    let long = json!({"specRaw": "x".repeat(3 << 20)});
    assert_eq!(server.post(IMPORT, long).await.status, 413);
    let body = json!({"spec": good, "dryRun": null, "replaceAll": Value::Null});
    server.post(IMPORT, body).await.expect(200);
}
