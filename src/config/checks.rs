//! What the types of the settings cannot say: ranges, and settings that contradict each other.

use super::*;

/// What a challenge is echoed in, with room for space around it.
const ECHO_BYTES_MIN: usize = 256;

impl Config {
    /// Each as `section.key: what it must be`.
    pub(super) fn problems(&self) -> Vec<String> {
        let Config {
            server,
            store,
            auth,
            delivery,
            limits,
            console,
            portal,
            log,
            profiles,
        } = self;
        const MIB: u64 = 1 << 20;
        let mut problems = Vec::new();
        let mut check = |holds: bool, name: &str, rule: &str| {
            if !holds {
                problems.push(format!("{name}: {rule}"));
            }
        };

        check(
            (1..=256).contains(&server.workers),
            "server.workers",
            "must be 1 to 256",
        );
        check(
            (1..=3600).contains(&server.answer_stall_seconds),
            "server.answer_stall_seconds",
            "must be 1 to 3600",
        );
        check(
            server.drain_seconds <= 3600,
            "server.drain_seconds",
            "must be at most 3600",
        );
        check(
            server.listen.port() == 0 || server.metrics_listen != Some(server.listen),
            "server.metrics_listen",
            "must differ from server.listen",
        );
        check(
            server.public_url.as_deref().is_none_or(is_base_url),
            "server.public_url",
            "must be an http or https URL without user name, query and fragment",
        );
        check(
            server.cors_origins.iter().all(|origin| is_origin(origin)),
            "server.cors_origins",
            "must be '*' or origins such as 'https://example.com', without a slash at the end",
        );
        check(
            server
                .trusted_proxies
                .iter()
                .all(|one| one.prefix_len() > 0),
            "server.trusted_proxies",
            "must be the networks of your proxies: one that holds every address makes every client a proxy",
        );

        check(
            !store.path.as_os_str().is_empty(),
            "store.path",
            "must not be empty",
        );
        check(
            store.cache_bytes >= MIB,
            "store.cache_bytes",
            "must be at least 1048576",
        );
        check(
            (1..=36_500).contains(&store.retention_days),
            "store.retention_days",
            "must be 1 to 36500",
        );
        check(
            store.slice_hours >= 1,
            "store.slice_hours",
            "must be at least 1",
        );
        check(
            u64::from(store.slice_hours) <= u64::from(store.retention_days) * 24,
            "store.slice_hours",
            "must not be longer than store.retention_days",
        );
        check(
            store.slice_bytes >= MIB,
            "store.slice_bytes",
            "must be at least 1048576",
        );
        check(
            store.export_minutes >= 1,
            "store.export_minutes",
            "must be at least 1",
        );
        check(
            (1..=3600).contains(&store.commit_timeout_seconds),
            "store.commit_timeout_seconds",
            "must be 1 to 3600",
        );

        check(
            auth.default_organisation
                .as_ref()
                .is_none_or(|id| id.parse::<OrganisationId>().is_ok()),
            "auth.default_organisation",
            "must be an organisation's id: 'org_' and 27 letters and digits",
        );
        check(
            auth.jwt_secret
                .as_ref()
                .is_none_or(JwtSecret::is_long_enough),
            "auth.jwt_secret",
            &format!("must have at least {SECRET_BYTES_MIN} bytes"),
        );
        check(
            auth.jwt_secret.is_none() || auth.jwt_secret_file.is_none(),
            "auth.jwt_secret_file",
            "only one of this and auth.jwt_secret can be set",
        );

        check(
            profiles.contains_key(&delivery.default_profile),
            "delivery.default_profile",
            "must be the name of a profile",
        );
        check(
            delivery.retry_delays_seconds.len() <= 100
                && delivery
                    .retry_delays_seconds
                    .iter()
                    .all(|delay| (1..=WAIT_MAX_SECONDS).contains(delay)),
            "delivery.retry_delays_seconds",
            "must be at most 100 waits of 1 second to 366 days",
        );
        check(
            (0.0..=1.0).contains(&delivery.jitter),
            "delivery.jitter",
            "must be 0 to 1",
        );
        check(
            delivery.retry_after_max_seconds <= WAIT_MAX_SECONDS,
            "delivery.retry_after_max_seconds",
            "must be at most 366 days",
        );
        check(
            (1..=3600).contains(&delivery.request_timeout_seconds),
            "delivery.request_timeout_seconds",
            "must be 1 to 3600",
        );
        check(
            delivery.connect_timeout_seconds >= 1,
            "delivery.connect_timeout_seconds",
            "must be at least 1",
        );
        check(
            delivery.connect_timeout_seconds <= delivery.request_timeout_seconds,
            "delivery.connect_timeout_seconds",
            "must not be longer than delivery.request_timeout_seconds",
        );
        check(
            (1..=86_400).contains(&delivery.idle_connection_seconds),
            "delivery.idle_connection_seconds",
            "must be 1 to 86400",
        );
        check(
            delivery.dns_cache_seconds <= 86_400,
            "delivery.dns_cache_seconds",
            "must be at most 86400",
        );
        check(
            (1..=64).contains(&delivery.workers),
            "delivery.workers",
            "must be 1 to 64",
        );
        check(
            (1..=1_000_000).contains(&delivery.in_flight_max),
            "delivery.in_flight_max",
            "must be 1 to 1000000",
        );
        check(
            delivery.in_flight_max >= delivery.workers,
            "delivery.in_flight_max",
            "must be at least delivery.workers",
        );
        check(
            delivery.in_flight_per_endpoint_max >= 1,
            "delivery.in_flight_per_endpoint_max",
            "must be at least 1",
        );
        check(
            delivery.in_flight_per_endpoint_max <= delivery.in_flight_max,
            "delivery.in_flight_per_endpoint_max",
            "must not be more than delivery.in_flight_max",
        );
        check(
            delivery.in_flight_per_host_max >= 1,
            "delivery.in_flight_per_host_max",
            "must be at least 1",
        );
        check(
            delivery.unrecorded_per_endpoint_max >= 1,
            "delivery.unrecorded_per_endpoint_max",
            "must be at least 1",
        );

        for (name, value) in [
            ("limits.payload_bytes", limits.payload_bytes),
            ("limits.answer_read_bytes", limits.answer_read_bytes),
        ] {
            // They are held in memory whole, one for each request under way.
            check(
                (2..=64 << 20).contains(&value),
                name,
                "must be 2 to 67108864 (64 MiB)",
            );
        }
        // The answer to a batch is kept in one record, and may repeat what came in.
        check(
            (2..=32 << 20).contains(&limits.batch_bytes),
            "limits.batch_bytes",
            "must be 2 to 33554432 (32 MiB)",
        );
        check(
            (1..=10_000).contains(&limits.batch_messages_max),
            "limits.batch_messages_max",
            "must be 1 to 10000",
        );
        check(
            (1..=100_000).contains(&limits.batch_deliveries_max),
            "limits.batch_deliveries_max",
            "must be 1 to 100000",
        );
        check(
            limits.answer_kept_bytes <= limits.answer_read_bytes,
            "limits.answer_kept_bytes",
            "must not be more than limits.answer_read_bytes",
        );
        check(
            !delivery.source_addresses.iter().any(|one| one.holds_all()),
            "delivery.source_addresses",
            "must be the addresses that your requests come from: a network that holds every address \
             tells a firewall to let everybody in",
        );
        check(
            delivery.verify_endpoints == VerifyEndpoints::Off
                || limits.answer_kept_bytes >= ECHO_BYTES_MIN,
            "limits.answer_kept_bytes",
            "must be at least 256 where delivery.verify_endpoints is \"challenge\": of an answer to a \
             challenge no more is kept",
        );
        check(
            limits.answers_per_customer_bytes <= limits.answers_bytes,
            "limits.answers_per_customer_bytes",
            "must not be more than limits.answers_bytes",
        );
        for (name, value) in [
            (
                "limits.requests_per_customer_second_max",
                limits.requests_per_customer_second_max,
            ),
            (
                "limits.requests_per_platform_token_second_max",
                limits.requests_per_platform_token_second_max,
            ),
        ] {
            check(
                value <= 1_000_000,
                name,
                "must be 1 to 1000000, or 0 for no limit",
            );
        }
        check(
            (1..=60).contains(&limits.requests_burst_seconds),
            "limits.requests_burst_seconds",
            "must be 1 to 60",
        );
        // There are twice as many threads for reads.
        check(
            (1..=64).contains(&limits.reads_per_customer_max),
            "limits.reads_per_customer_max",
            "must be 1 to 64",
        );
        check(
            (1..=10_000).contains(&limits.reads_waiting_per_customer_max),
            "limits.reads_waiting_per_customer_max",
            "must be 1 to 10000",
        );
        check(
            (1..=300).contains(&limits.read_wait_seconds),
            "limits.read_wait_seconds",
            "must be 1 to 300",
        );
        check(
            (16..=65_536).contains(&limits.url_bytes),
            "limits.url_bytes",
            "must be 16 to 65536",
        );
        check(
            (1..=65_536).contains(&limits.header_value_bytes),
            "limits.header_value_bytes",
            "must be 1 to 65536",
        );
        check(
            limits.headers_max <= 1000,
            "limits.headers_max",
            "must be at most 1000",
        );
        check(
            (1..=10_000).contains(&limits.list_page_max),
            "limits.list_page_max",
            "must be 1 to 10000",
        );
        check(
            (1..=3600).contains(&limits.endpoint_timeout_seconds_max),
            "limits.endpoint_timeout_seconds_max",
            "must be 1 to 3600",
        );
        check(
            limits.endpoint_retries_max <= RETRIES_MAX,
            "limits.endpoint_retries_max",
            "must be at most 1000",
        );
        check(
            (1..=366).contains(&limits.endpoint_retry_days_max),
            "limits.endpoint_retry_days_max",
            "must be 1 to 366",
        );
        for (name, value) in [
            (
                "limits.endpoints_per_application_max",
                limits.endpoints_per_application_max as u64,
            ),
            (
                "limits.channels_per_endpoint_max",
                limits.channels_per_endpoint_max as u64,
            ),
            ("limits.page_bytes", limits.page_bytes as u64),
            ("limits.answers_bytes", limits.answers_bytes as u64),
            (
                "limits.answers_per_customer_bytes",
                limits.answers_per_customer_bytes as u64,
            ),
            ("limits.waiting_max", limits.waiting_max),
            ("limits.held_max", limits.held_max),
            (
                "limits.waiting_per_application_max",
                limits.waiting_per_application_max,
            ),
            ("limits.commit_queue_max", limits.commit_queue_max as u64),
            ("limits.connections_max", limits.connections_max as u64),
            (
                "limits.connections_per_address_max",
                limits.connections_per_address_max as u64,
            ),
            (
                "limits.auth_failures_per_address_minute_max",
                limits.auth_failures_per_address_minute_max,
            ),
            (
                "limits.auth_failures_per_token_prefix_minute_max",
                limits.auth_failures_per_token_prefix_minute_max,
            ),
            (
                "limits.sessions_per_credential_max",
                limits.sessions_per_credential_max as u64,
            ),
            (
                "limits.sessions_per_customer_max",
                limits.sessions_per_customer_max as u64,
            ),
            ("limits.sessions_max", limits.sessions_max as u64),
            (
                "limits.sign_ins_per_credential_minute_max",
                limits.sign_ins_per_credential_minute_max,
            ),
            (
                "limits.sign_ins_per_customer_minute_max",
                limits.sign_ins_per_customer_minute_max,
            ),
        ] {
            check(value >= 1, name, "must be at least 1");
        }

        for (name, origins) in [
            ("console.frame_origins", &console.frame_origins),
            ("portal.frame_origins", &portal.frame_origins),
        ] {
            check(
                origins.iter().all(|one| one != "*" && is_origin(one)),
                name,
                "must be origins such as 'https://example.com', without a slash at the end",
            );
        }
        check(
            (1..=60).contains(&portal.name.chars().count())
                && !portal.name.chars().any(char::is_control),
            "portal.name",
            "must have 1 to 60 characters",
        );
        check(
            is_color(&portal.accent_color),
            "portal.accent_color",
            "must be a colour such as '#3949c6'",
        );
        check(
            portal.api_key_days_max <= 36_500,
            "portal.api_key_days_max",
            "must be 0 to 36500",
        );
        for (name, label) in portal.labels.all() {
            check(
                (1..=60).contains(&label.chars().count()) && !label.chars().any(char::is_control),
                &format!("portal.labels.{name}"),
                "must have 1 to 60 characters",
            );
        }
        for name in &portal.profiles {
            check(
                profiles.contains_key(name),
                "portal.profiles",
                &format!("there is no profile '{name}'"),
            );
        }

        check(
            log.level.split(',').all(is_log_directive),
            "log.level",
            "must be error, warn, info, debug, trace or off, with 'target=level' for parts",
        );
        problems
    }
}

impl Config {
    /// Each limit that another one, which is met first, leaves without effect.
    pub(super) fn void_limits(&self) -> Vec<String> {
        let Config {
            delivery, limits, ..
        } = self;
        let pairs = [
            (
                "delivery.in_flight_per_host_max",
                delivery.in_flight_per_host_max as u64,
                "delivery.in_flight_max",
                delivery.in_flight_max as u64,
            ),
            (
                "delivery.in_flight_per_endpoint_max",
                delivery.in_flight_per_endpoint_max as u64,
                "delivery.in_flight_per_host_max",
                delivery.in_flight_per_host_max as u64,
            ),
            (
                "limits.waiting_per_application_max",
                limits.waiting_per_application_max,
                "limits.waiting_max and limits.held_max together",
                limits.waiting_max.saturating_add(limits.held_max),
            ),
            (
                "limits.connections_per_address_max",
                limits.connections_per_address_max as u64,
                "limits.connections_max",
                limits.connections_max as u64,
            ),
            (
                "limits.sessions_per_credential_max",
                limits.sessions_per_credential_max as u64,
                "limits.sessions_per_customer_max",
                limits.sessions_per_customer_max as u64,
            ),
            (
                "limits.sessions_per_credential_max",
                limits.sessions_per_credential_max as u64,
                "limits.sessions_max",
                limits.sessions_max as u64,
            ),
            (
                "limits.sessions_per_customer_max",
                limits.sessions_per_customer_max as u64,
                "limits.sessions_max",
                limits.sessions_max as u64,
            ),
            (
                "limits.sign_ins_per_credential_minute_max",
                limits.sign_ins_per_credential_minute_max,
                "limits.sign_ins_per_customer_minute_max",
                limits.sign_ins_per_customer_minute_max,
            ),
        ];
        let void = pairs.into_iter().filter(|(_, one, _, other)| one > other);
        void.map(|(name, one, other_name, other)| {
            format!("{name}: limits nothing, as {one} is more than {other_name} ({other})")
        })
        .collect()
    }
}

/// `*`, or `https://host:port`: what browsers send as `Origin`.
fn is_origin(text: &str) -> bool {
    text == "*" || url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

/// `#rrggbb`.
fn is_color(text: &str) -> bool {
    let digits = text.strip_prefix('#');
    digits.is_some_and(|digits| {
        digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn is_base_url(text: &str) -> bool {
    url::parse(text).is_ok_and(|url| {
        let is_anybodys = url.username().is_empty() && url.password().is_none();
        is_anybodys && url.query().is_none() && url.fragment().is_none()
    })
}

/// A level, or `target=level`. A target alone would be taken too, and a slip of the level's name
/// is a target that logs nothing, so it is refused here.
fn is_log_directive(text: &str) -> bool {
    let level = text.rsplit_once('=').map_or(text, |(_, level)| level);
    level.trim().parse::<log::LevelFilter>().is_ok()
}
