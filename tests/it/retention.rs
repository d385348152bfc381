//! How long history is kept, and what keeps it longer.

use std::time::Duration;

use serde_json::json;

use crate::support::{Receiver, Script, Server, wait_until};

const HOUR: Duration = Duration::from_secs(3600);
/// A slice begins with an instant that no id has yet, up to this much ahead of the clock.
const MOMENT: Duration = Duration::from_millis(10);

async fn start() -> Server {
    Server::start_with(|config| {
        config.store.slice_hours = 1;
        config.store.retention_days = 1;
    })
    .await
}

fn slices(server: &Server) -> Vec<u32> {
    server.store().slices()
}

/// The names of the journal's files that are in use, in their order.
fn segments(server: &Server) -> Vec<String> {
    let path = server.config().store.path.join("journal");
    let entries = std::fs::read_dir(path).expect("it is there");
    let names = entries.map(|entry| entry.expect("it can be read").file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| name.ends_with(".segment"));
    names.sort();
    names
}

/// The same without those that began after this one: any commit may begin one when it is time.
fn slices_up_to(server: &Server, last: u32) -> Vec<u32> {
    let mut numbers = slices(server);
    numbers.retain(|number| *number <= last);
    numbers
}

/// Publishes, lets everything due be done, and lets an hour pass.
async fn publish_hourly(server: &Server, hours: usize) -> Vec<String> {
    let mut messages = Vec::new();
    for hour in 0..hours {
        messages.push(
            server
                .publish("invoice.paid", json!({ "hour": hour }))
                .await,
        );
        server.advance(MOMENT);
        server.settle().await;
        server.advance(HOUR);
    }
    messages
}

async fn status_of(server: &Server, message: &str) -> u16 {
    server
        .get(&format!("/api/v1/app/app/msg/{message}"))
        .await
        .status
}

#[actix_web::test]
async fn old_slices_vanish_from_the_disk_and_newer_ones_stay() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    server.endpoint(&receiver).await;
    let messages = publish_hourly(&server, 4).await;
    // The store may have begun the fifth by itself, to write down when the owner came last.
    server.prune().await;
    assert_eq!(
        slices_up_to(&server, 4),
        [1, 2, 3, 4],
        "nothing is a day old"
    );

    // Now the end of slice 2 is more than a day away, and that of slice 3 is not.
    let segments_before = segments(&server);
    server.advance(22 * HOUR + HOUR / 2);
    server.prune().await;
    assert_eq!(slices_up_to(&server, 4), [3, 4]);
    let statuses = |server: &Server| {
        let gets = messages.iter().map(|message| {
            let path = format!("/api/v1/app/app/msg/{message}");
            server.begin(awc::http::Method::GET, &path, &[], None)
        });
        let gets = Vec::from_iter(gets);
        async move {
            let mut statuses = Vec::new();
            for get in gets {
                statuses.push(get.await.status);
            }
            statuses
        }
    };
    assert_eq!(statuses(&server).await, [404, 404, 200, 200]);
    let path = format!("/api/v1/app/app/attempt/msg/{}", messages[0]);
    assert_eq!(server.get(&path).await.status, 404);
    let list = server.get("/api/v1/app/app/msg").await.expect(200);
    assert_eq!(list["data"].as_array().map(Vec::len), Some(2));

    // What was in them goes from the disk with the next checkpoint file, with nothing else to do.
    let server = server.restart().await;
    server.advance(HOUR / 4);
    let gone = || !segments(&server).contains(&segments_before[0]);
    wait_until("the first segment to be gone", gone).await;
    assert!(segments(&server).contains(segments_before.last().expect("there are some")));
    assert_eq!(slices_up_to(&server, 4), [3, 4]);
    assert_eq!(statuses(&server).await, [404, 404, 200, 200]);
    // Life goes on, also in the next slice.
    let more = publish_hourly(&server, 2).await;
    assert_eq!(server.outcomes(&more[1]).await, ["delivered"]);
    assert_eq!(receiver.count(), 6);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn the_server_prunes_by_itself() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    server.endpoint(&receiver).await;
    publish_hourly(&server, 2).await;
    assert_eq!(slices_up_to(&server, 2), [1, 2]);
    server.advance(30 * HOUR);
    let gone = || slices_up_to(&server, 2) == [2];
    wait_until("slice 1 to be gone", gone).await;
    // The newest stays for as long as nothing follows it.
    let newest = *slices(&server).last().expect("there is one");
    server.advance(300 * HOUR);
    server.prune().await;
    assert!(slices(&server).contains(&newest));
}

#[actix_web::test]
async fn a_slice_with_a_pending_delivery_stays_and_a_held_one_goes_with_it() {
    let failing = Receiver::scripted([Script::Status(500)], Script::Status(200)).await;
    let server = Server::start_with(|config| {
        config.store.slice_hours = 1;
        config.store.retention_days = 1;
        config.delivery.retry_delays_seconds = vec![3 * 86_400];
    })
    .await;
    let pending = server.endpoint(&failing).await;
    let held = server.endpoint(&failing).await;
    server.set_disabled("app", &held, true).await;
    let first = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    server.advance(HOUR + MOMENT);
    // In the second slice only a held one waits.
    server.set_disabled("app", &pending, true).await;
    let second = server.publish("invoice.paid", json!({})).await;
    server.advance(HOUR + MOMENT);
    server.set_disabled("app", &pending, false).await;
    server.settle().await;
    let third = server.publish("invoice.paid", json!({})).await;
    server.advance(MOMENT);
    server.settle().await;
    assert_eq!(slices(&server), [1, 2, 3]);
    assert_eq!(
        server.store().waiting_count(),
        4,
        "one retry and three held"
    );

    server.advance(40 * HOUR);
    server.prune().await;
    assert_eq!(slices_up_to(&server, 3), [1, 3]);
    assert_eq!(
        server.store().waiting_count(),
        2,
        "the retry, and the third"
    );
    assert_eq!(status_of(&server, &first).await, 200);
    assert_eq!(status_of(&server, &second).await, 404);

    assert_eq!(status_of(&server, &third).await, 200);

    // Once it is delivered, nothing keeps its slice; and the third is old by now.
    server.advance_to_next_due().await;
    server.prune().await;
    assert_eq!(slices_up_to(&server, 3), [0; 0]);
    assert_eq!(server.store().waiting_count(), 0);
    assert_eq!(status_of(&server, &first).await, 404);
    // That it was delivered the log cannot say: the store looks for what is old by itself, too.
    assert_eq!(failing.count(), 4, "what was held was never sent");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn directories_of_unknown_slices_are_deleted_at_the_start() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    server.endpoint(&receiver).await;
    let mut messages = publish_hourly(&server, 2).await;
    messages.push(server.publish("invoice.paid", json!({})).await);
    server.settle().await;
    let server = server
        .restart_with(|config| {
            let slices = config.store.path.join("slices");
            for leftover in ["00000004", "00000077"] {
                std::fs::create_dir(slices.join(leftover)).expect("room for a directory");
                std::fs::write(slices.join(leftover).join("db"), b"left over").expect("room");
            }
        })
        .await;
    assert_eq!(slices(&server), [1, 2, 3]);
    let more = publish_hourly(&server, 1).await;
    assert_eq!(slices_up_to(&server, 3), [1, 2, 3]);
    for message in messages.iter().chain(&more) {
        assert_eq!(status_of(&server, message).await, 200);
    }
    server.stop_and_verify().await;
}
