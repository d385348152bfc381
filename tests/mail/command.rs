//! `postrider notify test`: the settings work, or it says why not.

use crate::can_mail;
use crate::relay::{Certificate, LOGIN, PASSWORD, Relay, Setup, reserved_port};
use crate::world::{FROM, OPERATOR, World};

const TAKEN: &str = "the mail relay has taken a mail to ops@example.com";

#[test]
fn each_kind_of_relay_takes_a_test_mail() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let usual = Certificate::for_host(world.path(), "localhost");
    // Trusted by itself, though it says that it is an authority's.
    let own = Certificate::self_signed(world.path(), "localhost");
    for (tls, mechanism, certificate) in [
        ("starttls", "PLAIN", Some(&usual)),
        ("starttls", "LOGIN", Some(&own)),
        ("starttls", "", Some(&usual)),
        ("tls", "PLAIN", Some(&own)),
        ("tls", "LOGIN", Some(&usual)),
        ("none", "", None),
        ("none", "PLAIN", None),
    ] {
        let setup = Setup {
            tls,
            mechanism,
            certificate: certificate.cloned(),
            ..Setup::default()
        };
        let relay = Relay::start(&setup);
        let launch = world.launch_command(&setup, relay.port);
        let (succeeded, said) = launch.run(&["notify", "test"]);
        assert!(
            succeeded && said.contains(TAKEN),
            "{tls} {mechanism}: {said}"
        );
        let mails = relay.mails();
        let [mail] = &mails[..] else {
            panic!("{tls} {mechanism}: {mails:#?}");
        };
        assert_eq!(mail.subject(), "[postrider] Test mail");
        assert_eq!((mail.from.as_str(), mail.to[0].as_str()), (FROM, OPERATOR));
        assert_eq!(mail.is_encrypted, tls != "none", "{tls}");
        let login = (!mechanism.is_empty()).then_some(LOGIN);
        assert_eq!(mail.login.as_deref(), login, "{tls} {mechanism}");
    }
}

#[test]
fn a_test_says_what_is_wrong_and_never_the_password() {
    if !can_mail() {
        return;
    }
    let world = World::new();
    let usual = Certificate::for_host(world.path(), "localhost");
    let other_host = Certificate::for_host(world.path(), "mail.example.com");
    let setup = |tls, mechanism, certificate: Option<&Certificate>| Setup {
        tls,
        mechanism,
        certificate: certificate.cloned(),
        ..Setup::default()
    };
    let starttls = setup("starttls", "PLAIN", Some(&usual));
    let plain = setup("none", "", None);
    let mut other_trust = starttls.clone();
    other_trust.certificate = Some(Certificate {
        authority: other_host.authority.clone(),
        ..usual.clone()
    });
    let other_name = setup("tls", "", Some(&other_host));
    for (relay_setup, ours, password, expected) in [
        (
            &starttls,
            &starttls,
            Some("wrong-0123456789"),
            "the login is refused (535): correct notify.smtp_username and notify.smtp_password",
        ),
        (
            &setup("starttls", "LOGIN", Some(&usual)),
            &starttls,
            Some("wrong-0123456789"),
            "the login is refused (535)",
        ),
        (
            &other_trust,
            &other_trust,
            None,
            "The issuer of the relay's certificate is unknown",
        ),
        (
            &other_name,
            &other_name,
            None,
            "The relay's certificate is for another host",
        ),
        (
            &plain,
            &starttls,
            None,
            "it does not offer STARTTLS: correct notify.smtp_tls",
        ),
        (
            &plain,
            &setup("tls", "", Some(&usual)),
            None,
            "The relay does not speak TLS",
        ),
        (
            &plain,
            &setup("none", "PLAIN", None),
            None,
            "it offers neither AUTH PLAIN nor AUTH LOGIN",
        ),
        (&starttls, &plain, None, "the sender is refused: 530"),
    ] {
        let relay = Relay::start(relay_setup);
        let mut launch = world.launch_command(ours, relay.port);
        if let Some(password) = password {
            launch = launch.set("notify.smtp_password", password);
        }
        let (succeeded, said) = launch.run(&["notify", "test"]);
        let start = format!("postrider: the mail relay localhost:{}: ", relay.port);
        assert!(!succeeded && said.starts_with(&start), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        for secret in [PASSWORD, "wrong-0123456789"] {
            assert!(!said.contains(secret), "{said}");
        }
        assert_eq!(relay.mails().len(), 0);
    }
    let (_port, port) = reserved_port();
    let (succeeded, said) = world.launch_command(&plain, port).run(&["notify", "test"]);
    assert!(
        !succeeded && said.contains("cannot be reached: Connection refused"),
        "{said}"
    );
    let mut relay = Relay::start(&plain);
    relay.obey(&serde_json::json!({ "rcpt": { OPERATOR: "550 5.1.1 No such user here" } }));
    let (succeeded, said) = world
        .launch_command(&plain, relay.port)
        .run(&["notify", "test"]);
    let expected = format!("refuses mails to {OPERATOR}: 550 5.1.1 No such user here");
    assert!(!succeeded && said.contains(&expected), "{said}");
}

#[test]
fn settings_that_cannot_work_stop_the_start_by_their_names() {
    let world = World::new();
    let plain = Setup {
        tls: "none",
        ..Setup::default()
    };
    let launch = || world.launch_command(&plain, 25);
    for (setting, value, expected) in [
        (
            "notify.smtp_ca_file",
            "/nowhere.pem",
            "notify.smtp_ca_file: /nowhere.pem: ",
        ),
        (
            "notify.from",
            "",
            "notify.from: must be set where notify.smtp_host is",
        ),
        (
            "notify.smtp_username",
            "me",
            "notify.smtp_password: must be set where notify.smtp_username is",
        ),
    ] {
        for command in [&["check"][..], &["notify", "test"]] {
            let (succeeded, said) = launch().set(setting, value).run(command);
            let expected = format!("postrider: {expected}");
            assert!(
                !succeeded && said.starts_with(&expected),
                "{setting}: {said}"
            );
        }
    }
    for (name, expected) in [
        (
            "",
            "notify.smtp_password: needs notify.smtp_username beside it",
        ),
        ("me", "notify.smtp_password_file: cannot read /nowhere: "),
    ] {
        let in_file = launch().set("notify.smtp_username", name);
        let in_file = in_file.set("notify.smtp_password_file", "/nowhere");
        let (succeeded, said) = in_file.run(&["check"]);
        let expected = format!("postrider: {expected}");
        assert!(!succeeded && said.starts_with(&expected), "{said}");
    }
    let (succeeded, said) = launch()
        .set("notify.smtp_host", "")
        .run(&["notify", "test"]);
    let expected = "postrider: notify.smtp_host: is empty, so that nothing is mailed";
    assert!(!succeeded && said.starts_with(expected), "{said}");
    let far = launch().set("notify.smtp_host", "mail.example.com");
    let (succeeded, said) = far.run(&["check"]);
    let expected = "postrider: notify.smtp_tls: mails go to mail.example.com unencrypted";
    assert!(succeeded && said.contains(expected), "{said}");
}
