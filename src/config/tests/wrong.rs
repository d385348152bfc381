//! What is wrong with settings, and that each has its rule.

use std::fmt;

use proptest::prelude::*;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::super::layers::flat;
use super::super::setting::{ANY, Bounds, Rule};
use super::*;
use crate::delivery::{SendSettings, address::OwnAddresses};
use crate::domain::retry::WAIT_MAX;

/// Settings in a file, and everything that is told of them. In the file, ` & ` stands for a new line.
const WRONG: &str = r#"
server.listen = 'localhost' -> must be an address and a port such as '127.0.0.1:8071', is "localhost"
server.listen = '' -> must be an address and a port such as '127.0.0.1:8071', is ""
server.workers = 0 -> must be 1 to 256, is 0
server.workers = 257 -> must be 1 to 256, is 257
server.workers = -2 -> must be 1 to 256, is -2
server.workers = '2' -> must be a whole number, 1 to 256, is "2"
server.workers = 2.0 -> must be a whole number, 1 to 256, is 2.0
server.workers = [2] -> must be a whole number, 1 to 256, is a list
server.drain_seconds = 3601 -> must be 0 to 3600, is 3601
server.answer_stall_seconds = 0 -> must be 1 to 3600, is 0
server.metrics_listen = '127.0.0.1:8071' -> must differ from server.listen, is 127.0.0.1:8071 too
server.metrics_listen = 9071 -> must be text, is 9071
server.public_url = 'hooks' -> must be an http or https URL without user name, query and fragment, is "hooks"
server.public_url = 'https://a{b}.test' -> must be an http or https URL without user name, query and fragment, is "https://a{b}.test"
server.public_url = 'https://a:b@c.test' -> must be an http or https URL without user name, query and fragment, is a URL with '@', which is not shown
server.cors_origins = ['https://example.com/', '*'] -> must be '*' or origins such as 'https://example.com', without a slash at the end, and has "https://example.com/"
server.trusted_proxies = ['0.0.0.0/0'] -> '0.0.0.0/0' must not hold every address: every client would be a trusted proxy
server.trusted_proxies = ['::ffff:0:0/96'] -> '::ffff:0:0/96' must not hold every address: every client would be a trusted proxy
server.trusted_proxies = ['10.0.0.7/8'] -> '10.0.0.7/8' must not name an address within the network: 10.0.0.0/8 is the network, and 10.0.0.7 the address alone
server.client_address_header = 'X-Real-IP' -> must be one of X-Forwarded-For, Forwarded, is "X-Real-IP"
store.path = '' -> must not be empty, is ""
store.cache_bytes = 0 -> must be at least 1048576 (1 MiB), is 0
store.retention_days = 0 -> must be 1 to 36500, is 0
store.retention_days = 36501 -> must be 1 to 36500, is 36501
store.retention_days = 5_000_000_000 -> must be 1 to 36500, is 5000000000
store.min_free_bytes = -1 -> must be at least 0, is -1
store.slice_hours = 721 & store.retention_days = 30 -> must not be more than 24 times store.retention_days (720), is 721
store.slice_hours = 0 -> must be 1 to 876000, is 0
store.slice_hours = 900_000 -> must be 1 to 876000, is 900000
store.slice_bytes = 1 -> must be at least 1048576 (1 MiB), is 1
store.export_minutes = 0 -> must be 1 to 4294967295, is 0
store.commit_timeout_seconds = 0 -> must be 1 to 3600, is 0
backup.to = '' -> must be a folder such as '/var/backups/postrider', or a bucket such as 's3://bucket/prefix', 'gs://bucket/prefix' or 'az://container/prefix', without key, password and query
backup.to = 's3://key:password@bucket' -> must be a folder such as '/var/backups/postrider', or a bucket such as 's3://bucket/prefix', 'gs://bucket/prefix' or 'az://container/prefix', without key, password and query
backup.to = 7 -> must be text
backup.every_seconds = 0 -> must be 1 to 3600, is 0
backup.every_seconds = 3601 -> must be 1 to 3600, is 3601
backup.keep_days = 36_501 -> must be 0 to 36500, is 36501
backup.verify_every_hours = -1 -> must be 0 to 8784, is -1
backup.verify_every_hours = 8785 -> must be 0 to 8784, is 8785
backup.key = 'a passphrase' -> must be a key of 32 bytes, as 64 hex digits or as base64, and not a passphrase: 'openssl rand -hex 32' makes one
backup.key_file = '/x' & backup.key = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff' -> only one of this and backup.key can be set
auth.default_organisation = 'mine' -> must be an organisation's id: 'org_' and 27 letters and digits, is "mine"
auth.jwt_secret = 'short' -> must have at least 12 bytes, has 5
auth.jwt_secret = 123456789012 -> must be text
backup.to = '/x/y/copy' & store.path = '/x/y' -> must be outside store.path: with that disk the copy would be lost, too
auth.jwt_secret_file = '/x' & auth.jwt_secret = '8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W' -> only one of this and auth.jwt_secret can be set
delivery.danger_allow_private_addresses = ['10.0.0.0/33'] -> '10.0.0.0/33' must be a network such as 192.0.2.0/24, or an address such as 192.0.2.7
delivery.danger_allow_private_addresses = '10.0.0.0/8' -> must be a list of texts, is "10.0.0.0/8"
delivery.deny_addresses = ['1.1.1.1', 7] -> must be a list of texts, and has 7
delivery.https_only = 1 -> must be true or false, is 1
delivery.default_profile = 'Standard' -> must be the name of a profile, is "Standard"
delivery.default_signature_type = 'rsa' -> must be one of hmac, ed25519, is "rsa"
delivery.message_headers = ['traceparent', 'Cookie', 'webhook-id'] -> must be names of headers that are neither secret nor set by the server, such as 'traceparent' (authorization, cookies, content-type and webhook-... are not), and has "Cookie", "webhook-id"
delivery.verify_endpoints = 'on' -> must be one of off, challenge, is "on"
delivery.retry_delays_seconds = 5 -> must be a list of at most 100 whole numbers, each 1 to 31622400 (366 days), is 5
delivery.retry_delays_seconds = [5, 0, -1, 'a'] -> must be a list of at most 100 whole numbers, each 1 to 31622400 (366 days), and has 0, -1, "a"
delivery.jitter = 1.1 -> must be 0 to 1, is 1.1
delivery.jitter = -0.1 -> must be 0 to 1, is -0.1
delivery.jitter = nan -> must be 0 to 1, is NaN
delivery.jitter = 'little' -> must be a number, 0 to 1, is "little"
delivery.retry_after_max_seconds = 31_622_401 -> must be 0 to 31622400 (366 days), is 31622401
delivery.request_timeout_seconds = 0 -> must be 1 to 3600, is 0
delivery.connect_timeout_seconds = 0 -> must be 1 to 3600, is 0
delivery.connect_timeout_seconds = 3601 -> must be 1 to 3600, is 3601
delivery.connect_timeout_seconds = 16 & delivery.request_timeout_seconds = 15 -> must not be more than delivery.request_timeout_seconds (15), is 16
delivery.idle_connection_seconds = 86_401 -> must be 1 to 86400 (1 day), is 86401
delivery.dns_cache_seconds = 86_401 -> must be 0 to 86400 (1 day), is 86401
delivery.dns_servers = ['10.0.0.53', 'dns'] -> must be addresses such as '10.0.0.53' or '10.0.0.53:5353', and has "dns"
delivery.source_addresses = ['203.0.113.7', '203.0.113.7/8'] -> '203.0.113.7/8' must not name an address within the network: 203.0.0.0/8 is the network, and 203.0.113.7 the address alone
delivery.source_addresses = ['203.0.113.7', '0.0.0.0/0'] -> '0.0.0.0/0' must not hold every address: a firewall that is told so lets everybody in
delivery.source_addresses = ['::/0'] -> '::/0' must not hold every address: a firewall that is told so lets everybody in
delivery.workers = 0 -> must be 1 to 64, is 0
delivery.workers = 2 & delivery.in_flight_max = 1 -> must not be more than delivery.in_flight_max (1), is 2
delivery.in_flight_max = 0 -> must be 1 to 1000000, is 0
delivery.in_flight_per_endpoint_max = 64 & delivery.in_flight_max = 63 -> must not be more than delivery.in_flight_max (63), is 64
delivery.in_flight_per_endpoint_max = 0 -> must be 1 to 1000000, is 0
delivery.in_flight_per_host_max = 0 -> must be at least 1, is 0
delivery.unrecorded_per_endpoint_max = 0 -> must be at least 1, is 0
limits.payload_bytes = 0 -> must be 2 to 67108864 (64 MiB), is 0
limits.batch_messages_max = 0 -> must be 1 to 10000, is 0
limits.batch_bytes = 1 -> must be 2 to 33554432 (32 MiB), is 1
limits.batch_deliveries_max = 100_001 -> must be 1 to 100000, is 100001
limits.url_bytes = 15 -> must be 16 to 65536, is 15
limits.header_value_bytes = 0 -> must be 1 to 65536, is 0
limits.headers_max = 1001 -> must be 0 to 1000, is 1001
limits.endpoints_per_application_max = 0 -> must be at least 1, is 0
limits.channels_per_endpoint_max = 0 -> must be at least 1, is 0
limits.endpoint_timeout_seconds_max = 0 -> must be 1 to 3600, is 0
limits.endpoint_timeout_seconds_max = 3601 -> must be 1 to 3600, is 3601
limits.endpoint_retries_max = 1001 -> must be 0 to 1000, is 1001
limits.endpoint_retry_days_max = 0 -> must be 1 to 366, is 0
limits.endpoint_retry_days_max = 367 -> must be 1 to 366, is 367
limits.answer_read_bytes = 1 -> must be 2 to 67108864 (64 MiB), is 1
limits.answer_kept_bytes = 65537 & limits.answer_read_bytes = 65536 -> must not be more than limits.answer_read_bytes (65536), is 65537
limits.answer_kept_bytes = 100 & delivery.verify_endpoints = 'challenge' -> must be at least 256 where delivery.verify_endpoints is "challenge", is 100
limits.list_page_max = 0 -> must be 1 to 10000, is 0
limits.page_bytes = 0 -> must be at least 1, is 0
limits.answers_bytes = 0 -> must be at least 1, is 0
limits.answers_per_customer_bytes = 0 -> must be at least 1, is 0
limits.requests_per_customer_second_max = 1_000_001 -> must be 0 to 1000000, is 1000001
limits.requests_per_platform_token_second_max = 1_000_001 -> must be 0 to 1000000, is 1000001
limits.requests_burst_seconds = 0 -> must be 1 to 60, is 0
limits.reads_per_customer_max = 0 -> must be 1 to 64, is 0
limits.reads_waiting_per_customer_max = 0 -> must be 1 to 10000, is 0
limits.read_wait_seconds = 0 -> must be 1 to 300, is 0
limits.waiting_max = 0 -> must be at least 1, is 0
limits.held_max = 0 -> must be at least 1, is 0
limits.waiting_per_application_max = 0 -> must be at least 1, is 0
limits.commit_queue_max = 0 -> must be at least 1, is 0
limits.connections_max = 0 -> must be at least 1, is 0
limits.connections_per_address_max = 0 -> must be at least 1, is 0
limits.auth_failures_per_address_minute_max = 0 -> must be at least 1, is 0
limits.auth_failures_per_token_prefix_minute_max = 0 -> must be at least 1, is 0
limits.sessions_per_credential_max = 0 -> must be at least 1, is 0
limits.sessions_per_customer_max = 0 -> must be at least 1, is 0
limits.sessions_max = 0 -> must be at least 1, is 0
limits.sign_ins_per_credential_minute_max = 0 -> must be at least 1, is 0
limits.sign_ins_per_customer_minute_max = 0 -> must be at least 1, is 0
console.frame_origins = ['https://a;b.test'] -> must be origins such as 'https://example.com', without a slash at the end, and has "https://a;b.test"
console.frame_origins = ['*'] -> must be origins such as 'https://example.com', without a slash at the end, and has "*"
portal.frame_origins = ['https://a.example/'] -> must be origins such as 'https://example.com', without a slash at the end, and has "https://a.example/"
portal.name = '' -> must have 1 to 60 characters, on one line, is ""
portal.accent_color = 'blue' -> must be a colour such as '#3949c6', is "blue"
portal.profiles = ['nothing', 'standard', 'void'] -> must be names of profiles, and has "nothing", "void"
portal.api_key_days_max = 40000 -> must be 0 to 36500, is 40000
portal.labels.menu = '' -> must have 1 to 60 characters, on one line, is ""
portal.labels.nothing = 'x' -> unknown setting
log.level = 'inof' -> must be error, warn, info, debug, trace or off, with 'target=level' for parts, is "inof"
log.level = 'info,postrider::delivery=loud' -> must be error, warn, info, debug, trace or off, with 'target=level' for parts, is "info,postrider::delivery=loud"
log.failures_per_endpoint_minute_max = -1 -> must be 0 to 4294967295, is -1
server.litsen = '[::1]:1' -> unknown setting; did you mean server.listen?
sever.listen = '[::1]:1' -> unknown setting; did you mean server.listen?
listen = 1 -> unknown setting
notify.smtp_host = 'a b' -> must be a host name or an address such as 'mail.example.com', or empty, is "a b"
notify.smtp_host = 'mail.example.com:25' -> must be a host name or an address such as 'mail.example.com', or empty, is "mail.example.com:25"
notify.smtp_port = 0 -> must be 1 to 65535, is 0
notify.smtp_tls = 'ssl' -> must be one of starttls, tls, none, is "ssl"
notify.smtp_username = "a\nb" -> must have at most 1024 bytes, on one line, is "a\nb"
notify.smtp_password = '' -> must have 1 to 1024 bytes
notify.smtp_password = 7 -> must be text
notify.smtp_password = 'x' & notify.smtp_host = 'a.test' & notify.from = 'a@b.c' & notify.to = ['a@b.c'] -> needs notify.smtp_username beside it
notify.smtp_password = 'x' & notify.smtp_username = 'u' & notify.smtp_tls = 'none' & notify.smtp_host = 'a.test' & notify.from = 'a@b.c' & notify.to = ['a@b.c'] -> would go over the network unencrypted: set notify.smtp_tls to "starttls" or "tls"
notify.smtp_password_file = '/x' & notify.smtp_password = 'hunter2' -> only one of this and notify.smtp_password can be set
notify.from = 'ops' -> must be an e-mail address such as 'postrider@example.com', or empty, is "ops"
notify.from = '' & notify.smtp_host = 'a.test' & notify.to = ['a@b.c'] -> must be set where notify.smtp_host is
notify.to = ['a@b.c', 'ops', 'a@b.c>'] -> must be e-mail addresses such as 'ops@example.com', and has "ops", "a@b.c>"
notify.to = [] & notify.smtp_host = 'a.test' & notify.from = 'a@b.c' -> must name at least one address where notify.smtp_host is set
notify.to = ['a@b.c', 'b@b.c', 'c@b.c', 'd@b.c', 'e@b.c', 'f@b.c', 'g@b.c', 'h@b.c', 'i@b.c', 'j@b.c', 'k@b.c', 'l@b.c', 'm@b.c', 'n@b.c', 'o@b.c', 'p@b.c', 'q@b.c', 'r@b.c', 's@b.c', 't@b.c', 'u@b.c'] -> must have at most 20 addresses, has 21
notify.grace_seconds = 86_401 -> must be 0 to 86400 (1 day), is 86401
notify.digest_seconds = 59 -> must be 60 to 604800 (7 days), is 59
notify.subject_prefix = "a\nb" -> must have at most 60 characters, on one line, is "a\nb"
server = 1 -> unknown setting
portal.labels = 'x' -> unknown setting
server.listen = {port = 1} -> must be text, is a section
profiles = 1 -> must be a section, is 1
"#;

#[test]
fn each_wrong_value_is_told_with_setting_bound_value_and_source() {
    for line in WRONG.lines().filter(|line| !line.is_empty()) {
        let (file, what) = line.split_once(" -> ").unwrap();
        let (name, _) = file.split_once(" = ").unwrap();
        let error = from_file(&file.replace(" & ", "\n")).unwrap_err();
        assert_eq!(error.problems, [format!("{name}: {what} (from mine.toml)")]);
    }
}

#[test]
fn a_file_that_is_not_toml_is_told_with_its_place() {
    for (file, place) in [
        ("[server]\nworkers = 1\ndrain = \n", "line 3, column 9: "),
        (
            "[server]\nworkers = 99999999999999999999\n",
            "line 2, column 11: the number is too large",
        ),
        ("[server]\n[server]\n", "line 2, column 2: "),
    ] {
        let problem = from_file(file).unwrap_err().to_string();
        let expected = format!("mine.toml: TOML parse error at {place}");
        assert!(problem.starts_with(&expected), "{file}: {problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

#[test]
fn a_wrong_variable_is_told_by_its_name() {
    for (variable, value, expected) in [
        (
            "SERVER__LITSEN",
            "x",
            "server.litsen: unknown setting; did you mean server.listen?",
        ),
        ("SERVER", "x", "server: unknown setting"),
        (
            "SERVER__LISTEN__PORT",
            "1",
            "server.listen.port: unknown setting",
        ),
        ("A[999999999999]", "x", "a[999999999999]: unknown setting"),
        (
            "PROFILES__OKHI__TIMEOUT_SECONDS",
            "1",
            "profiles.okhi.timeout_seconds: profiles can only be set in a file",
        ),
        (
            "SERVER__WORKERS",
            "two",
            "server.workers: must be a whole number, 1 to 256, is \"two\"",
        ),
        (
            "SERVER__WORKERS",
            "-2",
            "server.workers: must be 1 to 256, is -2",
        ),
        (
            "SERVER__WORKERS",
            "",
            "server.workers: must be a whole number, 1 to 256, is \"\"",
        ),
        (
            "LIMITS__WAITING_MAX",
            "18446744073709551615",
            "limits.waiting_max: must be a whole number, at least 1, is \"18446744073709551615\"",
        ),
        (
            "DELIVERY__HTTPS_ONLY",
            "yes",
            "delivery.https_only: must be true or false, is \"yes\"",
        ),
        (
            "DELIVERY__RETRY_DELAYS_SECONDS",
            "1,,2",
            "delivery.retry_delays_seconds: must be a list of at most 100 whole numbers, each 1 to \
             31622400 (366 days), and has \"\"",
        ),
        (
            "AUTH__JWT_SECRET",
            "short",
            "auth.jwt_secret: must have at least 12 bytes, has 5",
        ),
    ] {
        let variable = format!("POSTRIDER__{variable}");
        let problem = from_environment(&[(&variable, value)]).unwrap_err();
        let expected = format!("{expected} (from {variable})");
        assert_eq!(problem.problems, [expected]);
    }
}

#[test]
fn a_wrong_value_is_told_though_another_wins_over_it() {
    let file = "[server]\nworkers = 0\ndrain_seconds = 'a'\n".to_owned();
    let variables = [
        ("POSTRIDER__SERVER__WORKERS", "1"),
        ("POSTRIDER__SERVER__DRAIN_SECONDS", "1"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let file = Some(("mine.toml".to_owned(), file));
    let error = assembled(file, variables.into(), Flags::default()).unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_plain_words() {
    let error = from_file(
        "[server]\nworkers = true\nlisten = 'here'\nmetrics_listen = '127.0.0.1:8071'\n\
         [store]\nretention_days = 0\nslice_hours = 5_000_000_000\n\
         [delivery]\ndanger_allow_private_addresses = ['10.0.0.0/33', '10.0.0.0/8', 'lan']\n\
         deny_addresses = ['lan', '1.1.1.1', '1.1.1.1/8']\ndns_servers = ['1.1.1.1', 'dns', '[::1]:x']\n\
         jitter = 2\ndefault_profile = 'nothing'\nworkers = 2\nin_flight_max = 1\n\
         [nothing]\na = 1\nb = 2\n[profiles.mine]\nmethods = ['GO']\n[profiles.A]\n",
    );
    let mut problems = error.unwrap_err().problems;
    problems.sort();
    assert_eq!(
        problems,
        [
            "delivery.danger_allow_private_addresses: '10.0.0.0/33' must be a network such as 192.0.2.0/24, or an address such as 192.0.2.7; 'lan' must be a network such as 192.0.2.0/24, or an address such as 192.0.2.7 (from mine.toml)",
            "delivery.default_profile: must be the name of a profile, is \"nothing\" (from mine.toml)",
            "delivery.deny_addresses: 'lan' must be a network such as 192.0.2.0/24, or an address such as 192.0.2.7; '1.1.1.1/8' must not name an address within the network: 1.0.0.0/8 is the network, and 1.1.1.1 the address alone (from mine.toml)",
            "delivery.dns_servers: must be addresses such as '10.0.0.53' or '10.0.0.53:5353', and has \"dns\", \"[::1]:x\" (from mine.toml)",
            "delivery.jitter: must be 0 to 1, is 2 (from mine.toml)",
            "delivery.workers: must not be more than delivery.in_flight_max (1), is 2 (from mine.toml)",
            "nothing.a: unknown setting (from mine.toml)",
            "nothing.b: unknown setting (from mine.toml)",
            "profiles.A: a profile's name has 1 to 64 of a-z, 0-9, '-' and '_' (from mine.toml)",
            "profiles.mine.methods[0]: must be one of POST, PUT, PATCH, GET, not \"GO\" (from mine.toml)",
            "server.listen: must be an address and a port such as '127.0.0.1:8071', is \"here\" (from mine.toml)",
            "server.workers: must be a whole number, 1 to 256, is true (from mine.toml)",
            "store.retention_days: must be 1 to 36500, is 0 (from mine.toml)",
            "store.slice_hours: must be 1 to 876000, is 5000000000 (from mine.toml)",
        ]
    );
}

#[test]
fn a_wrong_type_of_any_setting_is_told_with_setting_file_and_expectation() {
    let mut file = String::new();
    for (name, setting) in all() {
        let wrong = match setting.rule {
            Rule::Text(_) | Rule::Secret { .. } => "7",
            _ => "'abc'",
        };
        file += &format!("{name} = {wrong}\n");
    }
    let problems = from_file(&file).unwrap_err().problems;
    assert_eq!(problems.len(), all().count());
    for (name, _) in all() {
        let told = problems
            .iter()
            .any(|one| one.starts_with(&format!("{name}: must be ")) && one.contains("mine.toml"));
        assert!(told, "{name}: {problems:#?}");
    }
    for leak in [
        "u16",
        "u32",
        "u64",
        "usize",
        "invalid type",
        "struct",
        "enum ",
        "variant",
        "serde",
    ] {
        assert!(!problems.join(" ").contains(leak), "{leak}: {problems:#?}");
    }
}

/// A setting at an end of its range contradicts no default, and a number beyond is refused.
#[test]
fn each_setting_alone_can_have_the_least_and_the_most_that_it_may() {
    let mut tried = 0;
    for (name, setting) in all() {
        let Rule::Whole(Bounds { least, most }) = setting.rule else {
            continue;
        };
        let with = |value: u64| from_file(&format!("{name} = {value}\n"));
        for value in [least, most] {
            let config = with(value).unwrap_or_else(|error| panic!("{error}"));
            let tree = serde_json::Value::Object(config.tree());
            let set = name.split('.').fold(&tree, |tree, part| &tree[part]);
            assert_eq!(*set, value, "{name}");
            let sending = SendSettings::from_config(&config, &OwnAddresses::default());
            let problem = sending.err().map(|error| error.to_string());
            assert_eq!(problem, None, "{name} = {value}");
            tried += 1;
        }
        let beyond = [least.checked_sub(1), (most < ANY).then_some(most + 1)];
        for value in beyond.into_iter().flatten() {
            let problem = with(value).unwrap_err().to_string();
            let told = problem.starts_with(&format!("{name}: must be "));
            let shown = problem.ends_with(&format!(", is {value} (from mine.toml)"));
            assert!(told && shown, "{problem}");
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn every_field_has_a_rule_and_every_rule_a_field() {
    let fields = [
        ("server", fields_of::<ServerSection>()),
        ("store", fields_of::<StoreSection>()),
        ("backup", fields_of::<BackupSection>()),
        ("auth", fields_of::<AuthSection>()),
        ("delivery", fields_of::<DeliverySection>()),
        ("delivery.breaker", fields_of::<BreakerSection>()),
        ("limits", fields_of::<LimitsSection>()),
        ("console", fields_of::<ConsoleSection>()),
        ("portal", fields_of::<PortalSection>()),
        ("portal.labels", fields_of::<Labels>()),
        ("notify", fields_of::<NotifySection>()),
        ("log", fields_of::<LogSection>()),
    ];
    // These are sections of their own.
    let is_setting = |name: &&&str| !["labels", "breaker"].contains(*name);
    let fields = fields.map(|(section, names)| {
        let names: Vec<&str> = names.iter().filter(is_setting).copied().collect();
        (section, names)
    });
    let rules = SECTIONS.iter().map(|(section, settings)| {
        let names: Vec<&str> = settings.iter().map(|setting| setting.name).collect();
        (*section, names)
    });
    assert_eq!(rules.collect::<Vec<_>>(), fields);
    let sections = SECTIONS.iter().map(|(section, _)| *section);
    let outer: Vec<&str> = sections.filter(|section| !section.contains('.')).collect();
    assert_eq!(outer, fields_of::<Config>());
}

/// The names of a struct's fields.
fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Asked) {
        Err(Fields(names)) => names,
        Ok(_) => panic!("nothing was given"),
    }
}

/// Answers the question for a struct by an error with the names of its fields.
struct Asked;

#[derive(Debug)]
struct Fields(&'static [&'static str]);

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Fields {}

impl de::Error for Fields {
    fn custom<T: fmt::Display>(_: T) -> Fields {
        Fields(&[])
    }
}

impl<'de> Deserializer<'de> for Asked {
    type Error = Fields;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fields> {
        Err(Fields(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fields> {
        Err(Fields(names))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[test]
fn every_setting_stands_in_the_defaults_with_a_comment_and_keeps_its_rule_there() {
    let shipped = config::File::from_str(DEFAULTS, config::FileFormat::Toml);
    let shipped = flat(config::Source::collect(&shipped).unwrap());
    for (name, value) in &shipped {
        let setting = find(name);
        assert!(
            name == profiles::SECTION || setting.is_some(),
            "{name} has no rule"
        );
        let problem = setting.and_then(|setting| setting.problem(value));
        assert_eq!(problem, None, "{name}");
    }
    for (name, setting) in all() {
        assert_ne!(shipped.contains_key(&name), setting.is_optional, "{name}");
        let (section, key) = name.rsplit_once('.').unwrap();
        let section = DEFAULTS
            .split("\n[")
            .find(|text| text.starts_with(&format!("{section}]")));
        let lines: Vec<&str> = section.expect("it is there").lines().collect();
        let start = match setting.is_optional {
            true => format!("#{key} = "),
            false => format!("{key} = "),
        };
        let place = lines.iter().position(|line| line.starts_with(&start));
        let place = place.unwrap_or_else(|| panic!("{name} is not shown"));
        // Settings that stand together share a comment.
        let above = lines[..place]
            .iter()
            .rev()
            .take_while(|line| !line.is_empty());
        let is_explained = above.into_iter().any(|line| line.starts_with("# "));
        assert!(is_explained, "{name} has no comment");
    }
}

#[test]
fn networks_are_named_alike_in_every_setting() {
    for (section, name) in [
        ("server", "trusted_proxies"),
        ("delivery", "danger_allow_private_addresses"),
        ("delivery", "deny_addresses"),
        ("delivery", "source_addresses"),
    ] {
        let read = |text: &str| from_file(&format!("[{section}]\n{name} = ['{text}']\n"));
        for text in [
            "10.0.0.7",
            "10.0.0.7/32",
            "10.0.0.0/8",
            "fd00::7",
            "fd00::/8",
        ] {
            assert!(read(text).is_ok(), "{name} {text}");
        }
        for text in [
            "10.0.0.7/8",
            "010.0.0.1",
            "010.0.0.0/8",
            "10.0.0.7/33",
            "lan",
        ] {
            let problem = read(text).unwrap_err().to_string();
            let expected = format!("{section}.{name}: '{text}' must");
            assert!(problem.starts_with(&expected), "{problem}");
        }
    }
    let file = "[server]\ntrusted_proxies = ['10.0.0.7']\n";
    let expected = ["10.0.0.7/32".parse().unwrap()];
    assert_eq!(from_file(file).unwrap().server.trusted_proxies, expected);
}

#[test]
fn a_limit_that_another_makes_void_is_told() {
    assert_eq!(defaults().warnings(), Vec::<String>::new());
    for (section, settings, void) in [
        (
            "limits",
            "connections_max = 500",
            "limits.connections_per_address_max",
        ),
        (
            "limits",
            "sessions_per_credential_max = 501",
            "limits.sessions_per_credential_max",
        ),
        (
            "limits",
            "sessions_max = 400",
            "limits.sessions_per_customer_max",
        ),
        (
            "limits",
            "sessions_per_credential_max = 30_000\nsessions_per_customer_max = 30_000\nsessions_max = 30_000",
            "",
        ),
        (
            "limits",
            "sign_ins_per_credential_minute_max = 301",
            "limits.sign_ins_per_credential_minute_max",
        ),
        (
            "limits",
            "waiting_per_application_max = 10_000_001",
            "limits.waiting_per_application_max",
        ),
        (
            "delivery",
            "in_flight_per_host_max = 4097",
            "delivery.in_flight_per_host_max",
        ),
        (
            "delivery",
            "in_flight_per_host_max = 63",
            "delivery.in_flight_per_endpoint_max",
        ),
    ] {
        let warnings = from_file(&format!("[{section}]\n{settings}\n"))
            .unwrap()
            .warnings();
        let names: Vec<&str> = warnings
            .iter()
            .filter_map(|warning| Some(warning.split_once(": limits nothing")?.0))
            .collect();
        let expected: Vec<&str> = Some(void)
            .filter(|void| !void.is_empty())
            .into_iter()
            .collect();
        assert_eq!(names, expected, "{settings}");
    }
}

proptest! {
    #[test]
    fn no_file_panics(text in "(\\[(server|store|delivery|log)\\]\n)?([a-z_]{1,8} = [-0-9a-z'\\[\\],.]{0,9}\n){0,3}") {
        let _ = from_file(&text);
    }

    #[test]
    fn any_schedule_passes_through_the_environment(delays in proptest::collection::vec(1..=WAIT_MAX.as_secs(), 0..20)) {
        let text = delays.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let config = from_environment(&[("POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS", &text)]).unwrap();
        prop_assert_eq!(config.delivery.retry_delays_seconds, delays);
    }
}
