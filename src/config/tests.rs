use std::collections::HashMap;
use std::path::Path;

use super::layers::assemble;
use super::*;
use crate::backup::key::BackupKey;
use crate::domain::jwt::JwtSecret;

mod wrong;

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
    let settings = crate::store::StoreSettings::from_config(&config);
    assert_eq!(settings.retention, Duration::from_secs(30 * 86_400));
    assert_eq!(settings.export_every, Duration::from_secs(900));
}

#[test]
fn the_optional_settings_stand_commented_out_in_the_defaults() {
    for (name, setting) in all() {
        if !setting.is_optional {
            continue;
        }
        let (section, key) = name.split_once('.').expect("section.name");
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
fn a_variable_that_lacks_an_underscore_is_refused_by_name() {
    for given in [
        "POSTRIDER_SERVER__LISTEN",
        "POSTRIDER__SERVER_LISTEN",
        "POSTRIDER_SERVER_LISTEN",
    ] {
        let refused = from_environment(&[(given, "127.0.0.1:1")]);
        let refused = refused.err().map(|error| error.to_string());
        let refused = refused.unwrap_or_else(|| panic!("{given} is ignored"));
        assert!(refused.contains("server.listen"), "{refused}");
        assert!(refused.contains("POSTRIDER__SERVER__LISTEN"), "{refused}");
    }
    // Of the commands, of tests, and of others.
    for given in [
        "POSTRIDER_TOKEN",
        "POSTRIDER_CLOCK",
        "POSTRIDERS__SERVER__LISTEN",
    ] {
        assert!(from_environment(&[(given, "x")]).is_ok(), "{given}");
    }
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
fn the_printed_settings_tell_what_a_flag_has_added() {
    let printed = |file: &str| {
        let file = ("mine.toml".to_owned(), file.to_owned());
        let loaded = assemble(Some(file), HashMap::new(), Flags { dev: true });
        loaded.unwrap().to_toml(false)
    };
    let name = "danger_allow_private_addresses";
    let alone = printed("");
    let line = format!("{name} = [\"127.0.0.0/8\",\"::1/128\"] # from --dev\n");
    assert!(alone.contains(&line), "{alone}");
    let both = printed(&format!("[delivery]\n{name} = ['10.0.0.0/8', '::1']\n"));
    let line = format!(
        "{name} = [\"10.0.0.0/8\",\"::1/128\",\"127.0.0.0/8\"] # from mine.toml and --dev\n"
    );
    assert!(both.contains(&line), "{both}");
    let label = printed("[portal.labels]\nmenu = 'Hooks'\n");
    assert!(
        label.ends_with("\n[portal]\nlabels.menu = \"Hooks\" # from mine.toml\n"),
        "{label}"
    );
    let nothing_new = printed(&format!("[delivery]\n{name} = ['::1', '127.0.0.0/8']\n"));
    assert!(nothing_new.contains("# from mine.toml\n"), "{nothing_new}");
}

#[test]
fn a_variable_is_read_as_its_settings_kind_whatever_it_looks_like() {
    let config = from_environment(&[
        ("POSTRIDER__AUTH__JWT_SECRET", "00012345678901"),
        ("POSTRIDER__PORTAL__NAME", "true"),
        ("POSTRIDER__STORE__PATH", "a,b"),
        ("POSTRIDER__PORTAL__LABELS__MENU", "1e5"),
        (
            "POSTRIDER__DELIVERY__DNS_SERVERS",
            " 10.0.0.53 , [::1]:5353",
        ),
        ("POSTRIDER__STORE__RETENTION_DAYS", " 3 "),
    ])
    .unwrap();
    let secret = JwtSecret::from("00012345678901".to_owned());
    assert!(config.auth.jwt_secret == Some(secret));
    assert_eq!(config.portal.name, "true");
    assert_eq!(config.store.path, Path::new("a,b"));
    assert_eq!(config.portal.labels.menu, "1e5");
    assert_eq!(config.delivery.dns_servers.len(), 2);
    assert_eq!(config.store.retention_days, 3);
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
    let short = loaded("short\n").unwrap_err();
    assert!(
        short.ends_with("must have at least 12 bytes, has 5"),
        "{short}"
    );
    let missing = from_file("[auth]\njwt_secret_file = '/nowhere'\n").unwrap();
    let missing = missing.clone().auth.read_jwt_secret().unwrap_err();
    assert!(missing.starts_with("cannot read /nowhere: "), "{missing}");
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "[auth]\njwt_secret_file = '/nowhere'\n").unwrap();
    let told = load(Some(&file), Flags::default()).unwrap_err().to_string();
    assert!(
        told.starts_with("auth.jwt_secret_file: cannot read /nowhere: "),
        "{told}"
    );
    assert!(
        told.ends_with(&format!(" (from {})", file.display())),
        "{told}"
    );
}

/// What was read from its file is no second setting beside the file's name.
#[test]
fn settings_with_secrets_in_files_are_reloaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("jwt"), "8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W").unwrap();
    std::fs::write(path("key"), KEY).unwrap();
    let settings = format!(
        "[auth]\njwt_secret_file = '{}'\n[backup]\nkey_file = '{}'\n[log]\nlevel = 'debug'\n",
        path("jwt").display(),
        path("key").display()
    );
    std::fs::write(path("config.toml"), settings).unwrap();
    let config = load(Some(&path("config.toml")), Flags::default()).unwrap();
    assert!(config.auth.jwt_secret.is_some() && config.backup.key.is_some());
    let (reloaded, waiting) = config.reloaded(&config).unwrap();
    assert_eq!(waiting, Vec::<String>::new());
    assert!(reloaded.backup.key.is_some());
}

/// A key of a backup.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn the_backups_key_can_stand_in_a_file_or_a_credential_and_is_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let expected = BackupKey::parse(KEY).ok();
    let file = directory.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    std::fs::write(directory.path().join("backup.key"), KEY).unwrap();
    let in_file = format!("[backup]\nkey_file = '{}'\n", file.display());
    let as_setting = format!("[backup]\nkey = '{KEY}'\n");
    let read = |text: &str, credentials: Option<&Path>| {
        let mut config = from_file(text).unwrap();
        let read = config.backup.read_key(credentials);
        read.map(|()| config)
    };
    for (text, credentials) in [
        (in_file.as_str(), None),
        (as_setting.as_str(), None),
        ("", Some(directory.path())),
    ] {
        let config = read(text, credentials).unwrap();
        assert!(config.backup.key == expected, "{text}");
        let printable = Loaded {
            config: config.clone(),
            file: None,
            sources: BTreeMap::from([("backup.key".to_owned(), "mine.toml".to_owned())]),
        };
        let all = printable.to_toml(true);
        let line = "# key is set and not shown, from mine.toml\n";
        assert!(all.contains(line), "{all}");
        for printed in [all, format!("{config:?}")] {
            assert!(!printed.contains("0011"), "{printed}");
        }
    }
    let none = read("", Some(Path::new("/nowhere"))).unwrap();
    assert!(none.backup.key.is_none());
    let other = KEY.replace('0', "1");
    let other = format!("[backup]\nkey = '{other}'\n");
    let config = read(&other, Some(directory.path())).unwrap();
    assert!(
        config.backup.key != expected,
        "a setting wins over a credential"
    );
}

#[test]
fn a_wrong_key_of_a_backup_is_told_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    std::fs::write(&key, "hunter2").unwrap();
    let mut config = from_file(&format!("[backup]\nkey_file = '{}'\n", key.display())).unwrap();
    let (name, told) = config.backup.read_key(None).unwrap_err();
    assert_eq!(name, "backup.key_file");
    let expected = format!("the content of {} must be a key of 32 bytes", key.display());
    assert!(
        told.starts_with(&expected) && !told.contains("hunter2"),
        "{told}"
    );
    let mut config = from_file("[backup]\nkey_file = '/nowhere'\n").unwrap();
    let (_, told) = config.backup.read_key(None).unwrap_err();
    assert!(told.starts_with("cannot read /nowhere: "), "{told}");
    let example = DEFAULTS.lines().find(|line| line.starts_with("#key = "));
    let example = format!("[backup]\n{}\n", &example.unwrap()[1..]);
    let (name, told) = from_file(&example)
        .unwrap()
        .backup
        .read_key(None)
        .unwrap_err();
    assert_eq!(name, "backup.key");
    assert!(told.starts_with("is the example"), "{told}");
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "[backup]\nkey_file = '/nowhere'\n").unwrap();
    let told = load(Some(&file), Flags::default()).unwrap_err().to_string();
    assert!(
        told.starts_with("backup.key_file: cannot read /nowhere: "),
        "{told}"
    );
    assert!(
        told.ends_with(&format!(" (from {})", file.display())),
        "{told}"
    );
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
