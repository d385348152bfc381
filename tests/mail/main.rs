//! Mails about endpoints that fail, with the real binary and a real relay.
//!
//! `postrider` speaks to aiosmtpd on loopback: by STARTTLS, TLS and neither, with both kinds of logins, and with every
//! trouble that a relay makes. The mails are read as the relay got them.
//!
//! `tests/mail/prepare` installs aiosmtpd under `target/mail`: skipped with a loud line where that was not done, a
//! failure under `CI=true`.

#[path = "../process/mod.rs"]
mod process;

mod command;
mod relay;
mod trouble;
mod world;

use process::can_run;
use relay::{Certificate, LOGIN, PASSWORD, Relay, Setup};
use world::{FROM, OPERATOR, World, counted, problems, stop};

/// False where nothing can be proven here.
fn can_mail() -> bool {
    can_run("mail", relay::missing())
}

#[test]
fn a_person_hears_that_an_endpoint_fails_and_that_it_is_well_again() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let setup = Setup {
        tls: "starttls",
        mechanism: "PLAIN",
        certificate: Some(Certificate::for_host(world.path(), "localhost")),
        ..Setup::default()
    };
    let relay = Relay::start(&setup);
    let server = world.launch(&setup, relay.port).start();
    let api = &server.api;
    let endpoint = world.register(api, "acme", &["/orders?key=7"]).remove(0);
    world.publish(api, "acme");
    let mails = relay.wait(1, || api.log());
    let mail = &mails[0];
    let host = "127.0.0.1";
    assert_eq!(
        mail.subject(),
        format!("[postrider] An endpoint fails: {host}")
    );
    assert_eq!(
        (mail.from.as_str(), &mail.to[..]),
        (FROM, &[OPERATOR.to_owned()][..])
    );
    assert_eq!(
        (mail.is_encrypted, mail.login.as_deref()),
        (true, Some(LOGIN))
    );
    for (name, value) in [
        ("From", FROM),
        ("To", OPERATOR),
        ("Auto-Submitted", "auto-generated"),
    ] {
        assert_eq!(mail.headers[name], value, "{mail:#?}");
    }
    let page = format!("/endpoint/{endpoint}");
    for words in [
        &world.url("/orders?key=7"),
        "Description:      Orders",
        "Application:      acme",
        "State:            fails since 20",
        "500",
        "Event type:       invoice.paid",
        "Failed for good:  1 delivery; send again at https://hooks.example.com/console/app/app_",
        &page,
    ] {
        assert!(mail.body.contains(words), "{words}: {}", mail.body);
    }
    world.answer(204);
    world.publish(api, "acme");
    let mails = relay.wait(2, || api.log());
    assert_eq!(
        mails[1].subject(),
        format!("[postrider] An endpoint is well again: {host}")
    );
    assert_ne!(
        mails[0].headers["Message-ID"],
        mails[1].headers["Message-ID"]
    );
    assert_eq!(problems(api), [""; 0]);
    assert_eq!((counted(api, "sent"), counted(api, "failed")), (2, 0));
    let log = stop(server);
    assert!(!log.contains(PASSWORD), "{log}");
    assert_eq!(relay.mails().len(), 2);
}

#[test]
fn endpoints_that_fail_together_are_in_one_mail() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let setup = Setup {
        tls: "none",
        ..Setup::default()
    };
    let relay = Relay::start(&setup);
    let launch = world.launch(&setup, relay.port);
    // Registered while nothing is sent, so that one message makes all fail.
    let server = launch.set("notify.grace_seconds", 60).start();
    let api = &server.api;
    let paths = Vec::from_iter((0..40).map(|number| format!("/hook-{number}")));
    world.register(
        api,
        "acme",
        &Vec::from_iter(paths.iter().map(String::as_str)),
    );
    world.publish(api, "acme");
    let mails = relay.wait(1, || api.log());
    let mail = &mails[0];
    assert_eq!(
        mail.subject(),
        "[postrider] 40 endpoints fail",
        "{}",
        mail.body
    );
    let listed = mail.body.lines().filter(|line| line.contains("/hook-"));
    assert_eq!(listed.count(), 30, "{}", mail.body);
    let end = "And 10 more. All are on https://hooks.example.com/console\n";
    assert!(mail.body.contains(end), "{}", mail.body);
    stop(server);
    assert_eq!(relay.mails().len(), 1);
}

#[test]
fn a_person_hears_that_an_endpoint_was_disabled_and_why() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let setup = Setup {
        tls: "none",
        ..Setup::default()
    };
    let relay = Relay::start(&setup);
    let server = world.launch(&setup, relay.port).start();
    world.register(&server.api, "acme", &["/gone"]);
    world.answer(410);
    world.publish(&server.api, "acme");
    let mails = relay.wait(1, || server.api.log());
    assert_eq!(
        mails[0].subject(),
        "[postrider] An endpoint was disabled: 127.0.0.1"
    );
    let state = "State:            disabled: its receiver answered 410 Gone; messages wait until it is enabled\n";
    assert!(mails[0].body.contains(state), "{}", mails[0].body);
    stop(server);
}
