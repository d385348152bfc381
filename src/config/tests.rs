use super::*;
use proptest::prelude::*;

fn assembled(
    file: Option<(String, String)>,
    environment: HashMap<String, String>,
    flags: Flags,
) -> Result<Config, ConfigError> {
    assemble(file, environment, flags).map(|loaded| loaded.config)
}

fn printed(text: &str, all: bool) -> String {
    let file = ("mine.toml".to_owned(), text.to_owned());
    let loaded = assemble(Some(file), HashMap::new(), Flags::default());
    loaded.unwrap().to_toml(all)
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let file = ("mine.toml".to_owned(), text.to_owned());
    assembled(Some(file), HashMap::new(), Flags::default())
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    assembled(None, variables, Flags::default())
}

fn defaults() -> Config {
    assembled(None, HashMap::new(), Flags::default()).expect("the defaults are valid")
}

#[test]
fn the_defaults_are_what_others_rely_on() {
    let config = defaults();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8071");
    assert_eq!(config.server.drain_seconds, 10);
    assert_eq!(config.server.metrics_listen, None);
    assert_eq!(config.store.path, Path::new("./data"));
    assert_eq!(config.store.retention_days, 30);
    assert!(config.delivery.danger_allow_private_addresses.is_empty());
    assert_eq!(
        config.delivery.retry_delays_seconds,
        [5, 300, 1800, 7200, 18000, 36000, 36000]
    );
    assert_eq!(config.delivery.jitter, 0.2);
    assert_eq!(config.limits.payload_bytes, 1 << 20);
    assert_eq!(config.limits.waiting_max, 5_000_000);
    let settings = crate::store::Settings::from_config(&config);
    assert_eq!(settings.retention, Duration::from_secs(30 * 86_400));
    assert_eq!(settings.export_every, Duration::from_secs(900));
}

#[test]
fn the_optional_settings_stand_commented_out_in_the_defaults() {
    for name in OPTIONAL {
        let (section, key) = name.split_once('.').expect("section.key");
        let section = DEFAULTS
            .split("\n[")
            .find(|text| text.starts_with(&format!("{section}]")))
            .unwrap_or_else(|| panic!("no section {section}"));
        let example = section
            .lines()
            .find(|line| line.starts_with(&format!("#{key} = ")))
            .unwrap_or_else(|| panic!("{name} is not shown"));
        let file = format!("[{}\n{}\n", section.lines().next().unwrap(), &example[1..]);
        from_file(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn a_file_changes_only_what_it_names() {
    let config = from_file(
        "[delivery]\nretry_delays_seconds = [1, 2]\njitter = 1\n[server]\ndrain_seconds = 3\n",
    )
    .unwrap();
    assert_eq!(config.delivery.retry_delays_seconds, [1, 2]);
    assert_eq!(config.delivery.jitter, 1.0);
    assert_eq!(config.server.drain_seconds, 3);
    assert_eq!(config.server.workers, defaults().server.workers);
}

#[test]
fn the_environment_wins_over_the_file_and_is_read_as_the_settings_type() {
    let file = "[store]\nretention_days = 7\npath = '/srv/a'\n".to_owned();
    let variables = [
        ("POSTRIDER__STORE__PATH", "123"),
        ("POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS", "1, 20,300"),
        (
            "POSTRIDER__DELIVERY__DANGER_ALLOW_PRIVATE_ADDRESSES",
            "10.0.0.0/8,fd00::/8",
        ),
        ("POSTRIDER__DELIVERY__HTTPS_ONLY", "true"),
        ("POSTRIDER__DELIVERY__JITTER", "0"),
        ("POSTRIDER__SERVER__METRICS_LISTEN", "127.0.0.1:9"),
        ("POSTRIDER_TOKEN", "of the command line, not a setting"),
    ];
    let variables = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let config = assembled(
        Some(("mine.toml".to_owned(), file)),
        variables,
        Flags::default(),
    )
    .unwrap();
    assert_eq!(config.store.path, Path::new("123"));
    assert_eq!(config.store.retention_days, 7);
    assert_eq!(config.delivery.retry_delays_seconds, [1, 20, 300]);
    assert_eq!(config.delivery.danger_allow_private_addresses.len(), 2);
    assert!(config.delivery.https_only);
    assert_eq!(config.delivery.jitter, 0.0);
    assert_eq!(
        config.server.metrics_listen,
        Some(([127, 0, 0, 1], 9).into())
    );
}

#[test]
fn an_empty_variable_empties_a_list_and_unsets_an_option() {
    let file = "[server]\nmetrics_listen = '127.0.0.1:9'\n".to_owned();
    let variables = [
        ("POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS", ""),
        ("POSTRIDER__SERVER__METRICS_LISTEN", ""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = assembled(
        Some(("mine.toml".to_owned(), file)),
        variables.into(),
        Flags::default(),
    )
    .unwrap();
    assert!(config.delivery.retry_delays_seconds.is_empty());
    assert_eq!(config.server.metrics_listen, None);
}

#[test]
fn what_is_wrong_is_named_with_its_source() {
    for (file, expected) in [
        (
            "[server]\nlitsen = '[::1]:1'\n",
            "server.litsen: unknown setting (from mine.toml)",
        ),
        (
            "[sever]\nlisten = '[::1]:1'\n",
            "sever.listen: unknown setting (from mine.toml)",
        ),
        ("listen = 1\n", "listen: unknown setting (from mine.toml)"),
        ("server = 1\n", "server: unknown setting (from mine.toml)"),
        (
            "[server]\nworkers = '2'\n",
            "server.workers: must be a whole number, not negative (from mine.toml)",
        ),
        (
            "[server]\nworkers = -2\n",
            "server.workers: must not be negative (from mine.toml)",
        ),
        (
            "[delivery]\nhttps_only = 1\n",
            "delivery.https_only: must be true or false (from mine.toml)",
        ),
        (
            "[delivery]\nretry_delays_seconds = 5\n",
            "delivery.retry_delays_seconds: must be a list of whole numbers (from mine.toml)",
        ),
        (
            "[server.listen]\nport = 1\n",
            "server.listen: must be text (from mine.toml)",
        ),
        (
            "[server]\nworkers = 1\ndrain = \n",
            "mine.toml: TOML parse error at line 3, column 9",
        ),
    ] {
        let problem = from_file(file).unwrap_err().to_string();
        assert!(problem.starts_with(expected), "{file}: {problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
    for (variable, value, expected) in [
        (
            "POSTRIDER__SERVER__LITSEN",
            "x",
            "server.litsen: unknown setting (from POSTRIDER__SERVER__LITSEN)",
        ),
        (
            "POSTRIDER__SERVER",
            "x",
            "server: unknown setting (from POSTRIDER__SERVER)",
        ),
        (
            "POSTRIDER__SERVER__WORKERS",
            "two",
            "server.workers: must be a whole number, not negative (from POSTRIDER__SERVER__WORKERS)",
        ),
        (
            "POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS",
            "1,,2",
            "delivery.retry_delays_seconds: must be a list of whole numbers (from POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS)",
        ),
    ] {
        let problem = from_environment(&[(variable, value)]).unwrap_err();
        assert_eq!(problem.to_string(), expected);
    }
}

#[test]
fn all_unknown_settings_and_wrong_types_are_named_at_once() {
    let error = from_file("[server]\na = 1\nworkers = true\n[log]\nb = 2\n").unwrap_err();
    assert_eq!(error.problems.len(), 3, "{error}");
}

#[test]
fn values_that_do_not_parse_are_named() {
    for (file, name) in [
        ("[server]\nlisten = 'localhost'\n", "server.listen"),
        (
            "[delivery]\ndanger_allow_private_addresses = ['10.0.0.0/33']\n",
            "delivery.danger_allow_private_addresses",
        ),
        (
            "[store]\nretention_days = 5_000_000_000\n",
            "store.retention_days",
        ),
    ] {
        let problem = from_file(file).unwrap_err().to_string();
        assert!(problem.contains(name), "{file}: {problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

#[test]
fn values_out_of_range_and_contradictions_are_named() {
    for (section, setting, name) in [
        ("server", "workers = 0", "server.workers"),
        (
            "server",
            "metrics_listen = '127.0.0.1:8071'",
            "server.metrics_listen",
        ),
        ("store", "path = ''", "store.path"),
        ("store", "cache_bytes = 0", "store.cache_bytes"),
        ("store", "retention_days = 0", "store.retention_days"),
        (
            "store",
            "slice_hours = 721\nretention_days = 30",
            "store.slice_hours",
        ),
        ("store", "slice_hours = 900_000", "store.retention_days"),
        ("store", "slice_bytes = 1", "store.slice_bytes"),
        ("store", "export_minutes = 0", "store.export_minutes"),
        (
            "store",
            "commit_timeout_seconds = 0",
            "store.commit_timeout_seconds",
        ),
        (
            "auth",
            "default_organisation = 'mine'",
            "auth.default_organisation",
        ),
        ("auth", "jwt_secret = 'short'", "auth.jwt_secret"),
        (
            "auth",
            "jwt_secret = '8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W'\njwt_secret_file = '/x'",
            "auth.jwt_secret_file",
        ),
        ("server", "public_url = 'hooks'", "server.public_url"),
        (
            "server",
            "public_url = 'https://a{b}.test'",
            "server.public_url",
        ),
        (
            "server",
            "public_url = 'https://a:b@c.test'",
            "server.public_url",
        ),
        (
            "console",
            "frame_origins = ['https://a;b.test']",
            "console.frame_origins",
        ),
        ("console", "frame_origins = ['*']", "console.frame_origins"),
        (
            "portal",
            "frame_origins = ['https://a.example/']",
            "portal.frame_origins",
        ),
        ("portal", "name = ''", "portal.name"),
        ("portal", "accent_color = 'blue'", "portal.accent_color"),
        ("portal", "profiles = ['nothing']", "portal.profiles"),
        (
            "portal",
            "api_key_days_max = 40000",
            "portal.api_key_days_max",
        ),
        ("portal.labels", "menu = ''", "portal.labels.menu"),
        ("portal.labels", "nothing = 'x'", "portal.labels.nothing"),
        (
            "server",
            "cors_origins = ['https://example.com/']",
            "server.cors_origins",
        ),
        (
            "server",
            "trusted_proxies = ['0.0.0.0/0']",
            "server.trusted_proxies",
        ),
        (
            "server",
            "trusted_proxies = ['::ffff:0:0/96']",
            "server.trusted_proxies",
        ),
        (
            "server",
            "trusted_proxies = ['10.0.0.7/8']",
            "server.trusted_proxies",
        ),
        (
            "server",
            "client_address_header = 'X-Real-IP'",
            "server.client_address_header",
        ),
        (
            "delivery",
            "default_profile = 'Standard'",
            "delivery.default_profile",
        ),
        (
            "delivery",
            "retry_delays_seconds = [5, 0]",
            "delivery.retry_delays_seconds",
        ),
        ("delivery", "jitter = 1.1", "delivery.jitter"),
        ("delivery", "jitter = -0.1", "delivery.jitter"),
        ("delivery", "jitter = nan", "delivery.jitter"),
        (
            "delivery",
            "request_timeout_seconds = 0",
            "delivery.request_timeout_seconds",
        ),
        (
            "delivery",
            "connect_timeout_seconds = 16\nrequest_timeout_seconds = 15",
            "delivery.connect_timeout_seconds",
        ),
        ("delivery", "workers = 0", "delivery.workers"),
        (
            "delivery",
            "verify_endpoints = 'challenge'\n[limits]\nanswer_kept_bytes = 100",
            "limits.answer_kept_bytes",
        ),
        (
            "delivery",
            "in_flight_max = 63\nin_flight_per_endpoint_max = 64",
            "delivery.in_flight_per_endpoint_max",
        ),
        (
            "delivery",
            "in_flight_per_endpoint_max = 0",
            "delivery.in_flight_per_endpoint_max",
        ),
        (
            "delivery",
            "source_addresses = ['203.0.113.7', '203.0.113.7/8']",
            "delivery.source_addresses",
        ),
        (
            "delivery",
            "source_addresses = ['203.0.113.7', '0.0.0.0/0']",
            "delivery.source_addresses",
        ),
        (
            "delivery",
            "source_addresses = ['::/0']",
            "delivery.source_addresses",
        ),
        (
            "delivery",
            "in_flight_per_host_max = 0",
            "delivery.in_flight_per_host_max",
        ),
        (
            "delivery",
            "unrecorded_per_endpoint_max = 0",
            "delivery.unrecorded_per_endpoint_max",
        ),
        ("limits", "payload_bytes = 0", "limits.payload_bytes"),
        (
            "limits",
            "answer_kept_bytes = 65537\nanswer_read_bytes = 65536",
            "limits.answer_kept_bytes",
        ),
        ("limits", "batch_bytes = 1", "limits.batch_bytes"),
        (
            "limits",
            "batch_messages_max = 0",
            "limits.batch_messages_max",
        ),
        (
            "limits",
            "batch_deliveries_max = 100001",
            "limits.batch_deliveries_max",
        ),
        ("limits", "list_page_max = 0", "limits.list_page_max"),
        (
            "limits",
            "endpoint_timeout_seconds_max = 0",
            "limits.endpoint_timeout_seconds_max",
        ),
        (
            "limits",
            "endpoint_timeout_seconds_max = 3601",
            "limits.endpoint_timeout_seconds_max",
        ),
        (
            "limits",
            "endpoint_retries_max = 1001",
            "limits.endpoint_retries_max",
        ),
        (
            "limits",
            "endpoint_retry_days_max = 0",
            "limits.endpoint_retry_days_max",
        ),
        (
            "limits",
            "endpoint_retry_days_max = 367",
            "limits.endpoint_retry_days_max",
        ),
        ("limits", "waiting_max = 0", "limits.waiting_max"),
        ("limits", "page_bytes = 0", "limits.page_bytes"),
        ("limits", "answers_bytes = 0", "limits.answers_bytes"),
        (
            "limits",
            "answers_per_customer_bytes = 0",
            "limits.answers_per_customer_bytes",
        ),
        (
            "limits",
            "requests_per_customer_second_max = 1_000_001",
            "limits.requests_per_customer_second_max",
        ),
        (
            "limits",
            "requests_per_platform_token_second_max = 1_000_001",
            "limits.requests_per_platform_token_second_max",
        ),
        (
            "limits",
            "requests_burst_seconds = 0",
            "limits.requests_burst_seconds",
        ),
        (
            "limits",
            "reads_per_customer_max = 0",
            "limits.reads_per_customer_max",
        ),
        (
            "limits",
            "reads_waiting_per_customer_max = 0",
            "limits.reads_waiting_per_customer_max",
        ),
        (
            "limits",
            "read_wait_seconds = 0",
            "limits.read_wait_seconds",
        ),
        (
            "server",
            "answer_stall_seconds = 0",
            "server.answer_stall_seconds",
        ),
        ("limits", "held_max = 0", "limits.held_max"),
        (
            "limits",
            "waiting_per_application_max = 0",
            "limits.waiting_per_application_max",
        ),
        ("limits", "commit_queue_max = 0", "limits.commit_queue_max"),
        ("limits", "connections_max = 0", "limits.connections_max"),
        (
            "limits",
            "connections_per_address_max = 0",
            "limits.connections_per_address_max",
        ),
        (
            "limits",
            "auth_failures_per_address_minute_max = 0",
            "limits.auth_failures_per_address_minute_max",
        ),
        (
            "limits",
            "auth_failures_per_token_prefix_minute_max = 0",
            "limits.auth_failures_per_token_prefix_minute_max",
        ),
        (
            "limits",
            "sessions_per_credential_max = 0",
            "limits.sessions_per_credential_max",
        ),
        (
            "limits",
            "sessions_per_customer_max = 0",
            "limits.sessions_per_customer_max",
        ),
        ("limits", "sessions_max = 0", "limits.sessions_max"),
        (
            "limits",
            "sign_ins_per_credential_minute_max = 0",
            "limits.sign_ins_per_credential_minute_max",
        ),
        (
            "limits",
            "sign_ins_per_customer_minute_max = 0",
            "limits.sign_ins_per_customer_minute_max",
        ),
        ("log", "level = 'inof'", "log.level"),
        (
            "log",
            "level = 'info,postrider::delivery=loud'",
            "log.level",
        ),
    ] {
        let error = from_file(&format!("[{section}]\n{setting}\n")).unwrap_err();
        assert!(
            error
                .problems
                .iter()
                .any(|problem| problem.starts_with(&format!("{name}: "))),
            "{setting}: {error}"
        );
    }
    let both = from_file("[server]\nworkers = 0\n[delivery]\njitter = 2\n").unwrap_err();
    assert_eq!(both.problems.len(), 2, "{both}");
}

/// Sets one of two settings that bound each other, and says what becomes of the other.
#[test]
fn what_was_left_at_its_default_follows_what_was_set() {
    for (set, follows) in [
        (
            "delivery.request_timeout_seconds = 3",
            "delivery.connect_timeout_seconds = 3",
        ),
        (
            "delivery.connect_timeout_seconds = 20",
            "delivery.request_timeout_seconds = 20",
        ),
        (
            "delivery.in_flight_max = 10",
            "delivery.in_flight_per_endpoint_max = 10",
        ),
        (
            "delivery.in_flight_per_endpoint_max = 5000",
            "delivery.in_flight_max = 5000",
        ),
        (
            "limits.answer_read_bytes = 4096",
            "limits.answer_kept_bytes = 4096",
        ),
        (
            "limits.answer_kept_bytes = 100000",
            "limits.answer_read_bytes = 100000",
        ),
        (
            "limits.answers_bytes = 1000000",
            "limits.answers_per_customer_bytes = 1000000",
        ),
        (
            "limits.answers_per_customer_bytes = 300000000",
            "limits.answers_bytes = 300000000",
        ),
        ("store.slice_hours = 721", "store.retention_days = 31"),
    ] {
        let (key, value) = follows.split_once(" = ").unwrap();
        let (section, name) = key.split_once('.').unwrap();
        let config = from_file(&format!("{set}\n")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.tree()[section][name].to_string(), value, "{set}");
        let (set_key, _) = set.split_once(" = ").unwrap();
        let line = format!("{name} = {value} # from the default, to fit {set_key}\n");
        let printed = printed(&format!("{set}\n"), false);
        assert!(printed.contains(&line), "{printed}");
        let error = from_file(&format!("{set}\n{key} = {}\n", before(key))).unwrap_err();
        assert_eq!(error.problems.len(), 1, "{set}: {error}");
    }
    let three = from_environment(&[("POSTRIDER__DELIVERY__REQUEST_TIMEOUT_SECONDS", "3")]);
    assert_eq!(three.unwrap().delivery.connect_timeout_seconds, 3);
}

/// The default of a setting.
fn before(key: &str) -> serde_json::Value {
    let (section, name) = key.split_once('.').unwrap();
    defaults().tree()[section][name].clone()
}

/// No setting that is at an end of its range contradicts what the others are by default.
#[test]
fn each_setting_alone_can_have_the_least_and_the_most_that_it_may() {
    use crate::delivery::{Settings, address::OwnAddresses};
    let mut tried = 0;
    for (section, settings) in defaults().tree() {
        for (name, value) in settings.as_object().into_iter().flatten() {
            if !value.is_u64() {
                continue;
            }
            let with = |value: u64| from_file(&format!("[{section}]\n{name} = {value}\n"));
            let least = (0..=17).chain([1 << 20]).find(|value| with(*value).is_ok());
            let most = (0..45).rev().map(|bits| 1 << bits);
            let most = most.chain([0]).find(|value| with(*value).is_ok());
            for value in [least, most] {
                let value = value.unwrap_or_else(|| panic!("{section}.{name} has no range"));
                let sending =
                    Settings::from_config(&with(value).unwrap(), &OwnAddresses::default());
                assert!(
                    sending.is_ok(),
                    "{section}.{name} = {value}: {}",
                    sending.err().unwrap()
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn dev_allows_loopback_and_nothing_else() {
    let config = assembled(None, HashMap::new(), Flags { dev: true }).unwrap();
    let allowed: Vec<String> = config
        .delivery
        .danger_allow_private_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(allowed, ["127.0.0.0/8", "::1/128"]);
}

#[test]
fn the_jwt_secret_can_stand_in_a_file_and_is_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwt.secret");
    let loaded = |secret: &str| {
        std::fs::write(&path, secret).unwrap();
        let file = format!("[auth]\njwt_secret_file = '{}'\n", path.display());
        let mut config = from_file(&file).unwrap();
        config.auth.read_jwt_secret().map(|()| config)
    };
    let config = loaded("8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W\n").unwrap();
    assert!(config.auth.jwt_secret.is_some());
    let printable = Loaded {
        config: config.clone(),
        file: None,
        sources: BTreeMap::new(),
    };
    for printed in [printable.to_toml(true), format!("{config:?}")] {
        assert!(!printed.contains("8Kjz"), "{printed}");
    }
    let short = loaded("short\n").unwrap_err().to_string();
    assert!(short.starts_with("auth.jwt_secret_file: "), "{short}");
    let missing = from_file("[auth]\njwt_secret_file = '/nowhere'\n").unwrap();
    let missing = missing.clone().auth.read_jwt_secret().unwrap_err();
    assert!(missing.to_string().contains("/nowhere"), "{missing}");
}

#[test]
fn the_printed_settings_read_back_as_themselves() {
    let file = "[store]\npath = 'a \"b\"\\c'\n[delivery]\ndanger_allow_private_addresses = ['10.0.0.0/8']\nextra_ca_file = '/é'\n[profiles.mine]\nmethods = ['PUT']\n";
    let config = from_file(file).unwrap();
    for all in [true, false] {
        let printed = printed(file, all);
        let again = from_file(&printed).unwrap();
        assert_eq!(again.tree(), config.tree(), "{printed}");
        assert_eq!(again.profiles, config.profiles, "{printed}");
        assert_eq!(printed.contains("[server]\n"), all, "{printed}");
        assert_eq!(printed.contains("[profiles.okhi"), all, "{printed}");
        let line = "danger_allow_private_addresses = [\"10.0.0.0/8\"] # from mine.toml\n";
        assert!(printed.contains(line), "{printed}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_plain_words() {
    let error = from_file(
        "[server]\nworkers = true\nlisten = 'here'\n\
         [store]\nretention_days = 0\nslice_hours = 5_000_000_000\n\
         [delivery]\ndanger_allow_private_addresses = ['10.0.0.0/33', '10.0.0.0/8', 'lan']\n\
         deny_addresses = ['lan', '1.1.1.1', '1.1.1.1/8']\ndns_servers = ['1.1.1.1', 'dns', '[::1]:x']\n\
         jitter = 2\n[profiles.mine]\nmethods = ['GO']\n",
    );
    let problems = error.unwrap_err().problems;
    for expected in [
        "server.workers: must be a whole number, not negative (from mine.toml)",
        "server.listen: must be an address and a port such as '127.0.0.1:8071' (from mine.toml)",
        "store.slice_hours: must be a whole number from 0 to 4294967295, not 5000000000 (from mine.toml)",
        "delivery.danger_allow_private_addresses: '10.0.0.0/33' must be a network such as 192.0.2.0/24, or an address such as 192.0.2.7; 'lan' must be a network such as 192.0.2.0/24, or an address such as 192.0.2.7 (from mine.toml)",
        "delivery.deny_addresses: 'lan' must be a network such as 192.0.2.0/24, or an address such as 192.0.2.7; '1.1.1.1/8' must not name an address within the network: 1.0.0.0/8 is the network, and 1.1.1.1 the address alone (from mine.toml)",
        "delivery.dns_servers: must be addresses such as '10.0.0.53' or '10.0.0.53:5353', and has 'dns', '[::1]:x' (from mine.toml)",
        "store.retention_days: must be 1 to 36500 (from mine.toml)",
        "delivery.jitter: must be 0 to 1 (from mine.toml)",
    ] {
        assert!(
            problems.iter().any(|one| one == expected),
            "{expected}: {problems:#?}"
        );
    }
    assert!(
        problems
            .iter()
            .any(|one| one.starts_with("profiles.mine.methods"))
    );
    assert_eq!(problems.len(), 9, "{problems:#?}");
}

#[test]
fn a_wrong_type_of_any_setting_is_told_with_setting_file_and_expectation() {
    let (settings, _) = split("the defaults", DEFAULTS).unwrap();
    let defaults = read_toml("the defaults", &settings).unwrap();
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let optional = OPTIONAL.iter().map(|key| ((*key).to_owned(), "7"));
    let known = defaults.iter().map(|(key, value)| {
        let wrong = match value.kind {
            ValueKind::String(_) => "7",
            _ => "'abc'",
        };
        (key.clone(), wrong)
    });
    let all: BTreeMap<String, &str> = optional.chain(known).collect();
    for (key, wrong) in &all {
        let (section, name) = key.rsplit_once('.').unwrap();
        *sections.entry(section.to_owned()).or_default() += &format!("{name} = {wrong}\n");
    }
    let sections = sections.iter();
    let file: String = sections
        .map(|(name, settings)| format!("[{name}]\n{settings}"))
        .collect();
    let problems = from_file(&file).unwrap_err().problems;
    for key in all.keys() {
        let told = problems
            .iter()
            .any(|one| one.starts_with(&format!("{key}: must be ")) && one.contains("mine.toml"));
        assert!(told, "{key}: {problems:#?}");
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

#[test]
fn a_reload_takes_what_it_can_and_names_the_rest() {
    let old = defaults();
    let read = from_file(
        "[server]\nworkers = 3\n[log]\nlevel = 'warn'\n[auth]\njwt_secret = '8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W'\n[profiles.mine]\n",
    )
    .unwrap();
    let (next, waiting) = old.reloaded(&read).unwrap();
    assert_eq!(waiting, ["server.workers", "auth.jwt_secret"]);
    assert_eq!((next.server.workers, next.log.level.as_str()), (2, "warn"));
    assert!(next.profiles.contains_key("mine") && next.auth.jwt_secret.is_none());
    // It would be taken at a start, with the setting that needs one.
    let mut read = from_file("[delivery]\ndefault_profile = 'github'\n").unwrap();
    read.profiles.remove("standard");
    let refused = old.reloaded(&read).unwrap_err().to_string();
    assert!(
        refused.starts_with("delivery.default_profile: "),
        "{refused}"
    );
}

#[test]
fn a_secret_that_everybody_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(
        &path,
        "[auth]\njwt_secret = '8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W'\n",
    )
    .unwrap();
    for (mode, warnings) in [(0o644, 1), (0o640, 0)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load_with_sources(Some(&path), Flags::default()).unwrap();
        assert_eq!(loaded.warnings().len(), warnings, "{mode:o}");
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
    fn any_schedule_passes_through_the_environment(delays in proptest::collection::vec(1..=WAIT_MAX_SECONDS, 0..20)) {
        let text = delays.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let config = from_environment(&[("POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS", &text)]).unwrap();
        prop_assert_eq!(config.delivery.retry_delays_seconds, delays);
    }
}
