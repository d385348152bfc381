//! A relay that is away, hangs, puts off or refuses: nothing is lost, and nothing comes twice.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::can_mail;
use crate::process::until;
use crate::relay::{Relay, Setup, WITHIN, reserved_port};
use crate::world::{OPERATOR, World, counted, problems, stop, wait_no_problem, wait_problem};

fn plain(port: u16) -> Setup {
    Setup {
        tls: "none",
        port,
        ..Setup::default()
    }
}

#[test]
fn a_relay_that_is_away_gets_the_mail_once_it_is_back_even_after_a_kill() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let (_reserved, port) = reserved_port();
    let launch = world.launch(&plain(port), port);
    let mut server = launch.start();
    world.register(&server.api, "acme", &["/hook"]);
    world.publish(&server.api, "acme");
    let words = format!("the mail relay localhost:{port}: cannot be reached");
    wait_problem(&server.api, &words);
    // It is tried again, and the log has it once.
    let again = until(WITHIN, || {
        (counted(&server.api, "failed") >= 4).then_some(())
    });
    assert!(again.is_some(), "{}", server.api.log());
    let log = server.api.log();
    assert_eq!(log.matches(&words).count(), 1, "{log}");
    server.process.kill();

    let relay = Relay::start(&plain(port));
    let server = launch.start();
    let mails = relay.wait(1, || server.api.log());
    assert_eq!(
        mails[0].subject(),
        "[postrider] An endpoint fails: 127.0.0.1"
    );
    wait_no_problem(&server.api);
    stop(server);
    assert_eq!(relay.mails().len(), 1);

    // It was mailed, and is not mailed again.
    let server = launch.start();
    world.register(&server.api, "other", &["/other"]);
    world.publish(&server.api, "other");
    let mails = relay.wait(2, || server.api.log());
    assert!(mails[1].body.contains("/other"), "{mails:#?}");
    assert!(!mails[1].body.contains("/hook\n"), "{mails:#?}");
    stop(server);
}

#[test]
fn a_relay_that_comes_back_while_the_server_runs_is_noticed() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let (_reserved, port) = reserved_port();
    let server = world.launch(&plain(port), port).start();
    world.register(&server.api, "acme", &["/hook"]);
    world.publish(&server.api, "acme");
    wait_problem(&server.api, "cannot be reached");
    let relay = Relay::start(&plain(port));
    relay.wait(1, || server.api.log());
    wait_no_problem(&server.api);
    let log = stop(server);
    assert!(log.contains("notify: mails are sent again"), "{log}");
    assert_eq!(relay.mails().len(), 1);
}

#[test]
fn a_relay_that_greets_and_hangs_holds_up_nothing_else() {
    if !can_mail() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it has an address").port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = client.write_all(b"220 relay.test ready\r\n");
                // Until the client gives up.
                let _ = client.read_to_end(&mut Vec::new());
            });
        }
    });
    let world = World::new();
    let server = world.launch(&plain(port), port).start();
    world.register(&server.api, "acme", &["/hook"]);
    world.publish(&server.api, "acme");
    wait_problem(&server.api, "no answer within 30 s to EHLO");
    // Another endpoint's trouble is told of at once, without a mail.
    world.register(&server.api, "other", &["/other"]);
    world.publish(&server.api, "other");
    let status = until(WITHIN, || {
        let problems = server.api.get("/api/v1/status")["problems"].to_string();
        problems.contains("/other").then_some(())
    });
    assert!(status.is_some(), "{}", server.api.log());
    let begun = Instant::now();
    stop(server);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_mail_that_is_put_off_comes_later_and_once() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let mut relay = Relay::start(&plain(0));
    // The sender, the content twice, and a recipient until further notice.
    relay.obey(
        &json!({ "mail": ["451 4.3.0 later"], "data": ["452 4.3.1 no room", "421 4.3.2 closing"] }),
    );
    let also = "on-call@example.com";
    let launch = world.launch(&plain(0), relay.port);
    let server = launch
        .set("notify.to", format!("{OPERATOR},{also}"))
        .start();
    world.register(&server.api, "acme", &["/hook"]);
    relay.obey(&json!({ "rcpt": { also: "450 4.2.1 mailbox busy" } }));
    world.publish(&server.api, "acme");
    wait_problem(
        &server.api,
        &format!("mails to {also} are put off: 450 4.2.1 mailbox busy"),
    );
    assert_eq!(relay.mails().len(), 0, "nobody gets it alone");
    relay.obey(&json!({ "rcpt": {} }));
    let mails = relay.wait(1, || server.api.log());
    assert_eq!(mails[0].to, [OPERATOR, also]);
    wait_no_problem(&server.api);
    stop(server);
    assert_eq!(relay.mails().len(), 1);
    let refused = relay.refused().join("; ");
    for answer in ["451 4.3.0 later", "452 4.3.1 no room", "421 4.3.2 closing"] {
        assert!(refused.contains(answer), "{refused}");
    }
}

#[test]
fn a_recipient_that_is_refused_for_good_is_told_and_not_tried_again() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let mut relay = Relay::start(&plain(0));
    let gone = "gone@example.com";
    let launch = world.launch(&plain(0), relay.port);
    let server = launch
        .set("notify.to", format!("{OPERATOR},{gone}"))
        .start();
    relay.obey(&json!({ "rcpt": { gone: "550 5.1.1 No such user" } }));
    world.register(&server.api, "acme", &["/hook"]);
    world.publish(&server.api, "acme");
    let mails = relay.wait(1, || server.api.log());
    assert_eq!(mails[0].to, [OPERATOR]);
    let words = format!("refuses mails to {gone}: 550 5.1.1 No such user");
    wait_problem(&server.api, &words);
    assert_eq!(
        (
            counted(&server.api, "sent"),
            counted(&server.api, "refused")
        ),
        (1, 1)
    );
    assert!(server.api.log().contains(&words), "{}", server.api.log());

    // The content of a mail, too, and then there is none to try again with the next one.
    relay.obey(&json!({ "data": ["554 5.7.1 looks like spam"], "rcpt": {} }));
    world.register(&server.api, "other", &["/other"]);
    world.publish(&server.api, "other");
    wait_problem(&server.api, "554 5.7.1 looks like spam");
    world.register(&server.api, "third", &["/third"]);
    world.publish(&server.api, "third");
    let mails = relay.wait(2, || server.api.log());
    assert!(
        mails[1].body.contains("/third") && !mails[1].body.contains("/other"),
        "{mails:#?}"
    );
    assert_eq!(mails[1].to, [OPERATOR, gone]);
    wait_no_problem(&server.api);
    assert_eq!(problems(&server.api), [""; 0]);
    stop(server);
    assert_eq!(relay.mails().len(), 2);
}
