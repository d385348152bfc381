//! The files of the pages, as they are in the source tree.

/// Names, as in paths, and contents of files.
macro_rules! files {
    ($($name:literal,)*) => {
        &[$(($name, include_bytes!(concat!("assets/", $name)))),*]
    };
}

/// All but the page that loads them. A test notices one that is missing here.
pub const ALL: &[(&str, &[u8])] = files![
    "api.js",
    "app.js",
    "applications.js",
    "attempt.js",
    "catalogue.js",
    "chart.js",
    "contact.js",
    "endpoint-form.js",
    "endpoint.js",
    "endpoints.js",
    "event-types.js",
    "history.js",
    "hold.js",
    "icon.svg",
    "jobs.js",
    "keys.js",
    "lanes.js",
    "messages.js",
    "notices.js",
    "operational.js",
    "operator.js",
    "overview.js",
    "profiles.js",
    "replay.js",
    "router.js",
    "sample-go.txt",
    "sample-java.txt",
    "sample-node.txt",
    "sample-php.txt",
    "sample-python.txt",
    "sample-ruby.txt",
    "samples.js",
    "scheme.js",
    "secret.js",
    "sessions.js",
    "style.css",
    "test-event.js",
    "tokens.js",
    "ui.js",
    "vendor/LICENSE-htm",
    "vendor/LICENSE-preact",
    "vendor/preact-htm.js",
    "verification.js",
];
