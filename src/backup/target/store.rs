//! The client of a folder or a bucket, with its limits of time.

use std::net::IpAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::PaginatedListStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use url::{Host, Url};

use super::credentials::Environment;
use super::wire::Wire;
use crate::backup::place::{Place, Service};

/// How long and how often a request is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub connect: Duration,
    /// From the connection to the last byte of the answer.
    pub request: Duration,
    /// Tries of one request, the first one counted.
    pub tries: usize,
    /// After this time no further try begins.
    pub tries_time: Duration,
    /// The wait before the second try. It grows with each further one, up to the longest.
    pub wait: Duration,
    pub wait_max: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connect: Duration::from_secs(5),
            // 8 MiB take this long on a line of 1.1 Mbit/s.
            request: Duration::from_secs(60),
            tries: 3,
            tries_time: Duration::from_secs(30),
            wait: Duration::from_millis(200),
            wait_max: Duration::from_secs(5),
        }
    }
}

impl Bounds {
    fn retry(&self, tries: usize) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: self.wait,
                max_backoff: self.wait_max,
                base: 2.0,
            },
            max_retries: tries - 1,
            retry_timeout: self.tries_time,
        }
    }
}

/// Where objects are kept, and the path there that all names are below.
pub(super) struct Opened {
    pub store: Store,
    pub root: Path,
}

pub(super) enum Store {
    Folder(LocalFileSystem),
    Bucket(Bucket),
}

pub(super) struct Bucket {
    /// Tries again what may be sent twice.
    pub often: Arc<dyn ObjectStore>,
    /// Tries nothing again, for requests of which it matters whether an earlier one was carried out.
    pub once: Arc<dyn ObjectStore>,
    pub pages: Arc<dyn PaginatedListStore>,
    /// A version in the answer to a PUT says that older ones are kept. Google names one always.
    pub tells_versions: bool,
}

impl Store {
    pub fn often(&self) -> &dyn ObjectStore {
        match self {
            Store::Folder(folder) => folder,
            Store::Bucket(bucket) => bucket.often.as_ref(),
        }
    }

    pub fn once(&self) -> &dyn ObjectStore {
        match self {
            Store::Folder(folder) => folder,
            Store::Bucket(bucket) => bucket.once.as_ref(),
        }
    }

    pub fn tells_versions(&self) -> bool {
        matches!(self, Store::Bucket(bucket) if bucket.tells_versions)
    }
}

/// Makes the client of a place; no request is sent. The error is a sentence that says what to set.
pub(super) fn open(
    place: &Place,
    environment: Environment,
    bounds: &Bounds,
) -> Result<Opened, String> {
    let (service, url) = match place {
        Place::Folder(path) => return open_folder(path),
        Place::Bucket { service, url } => (*service, url),
    };
    let root = Path::from_url_path(url.path());
    let root = root.map_err(|_| "the prefix has characters that no name can have".to_owned())?;
    let bucket = match service {
        Service::S3 => bucket::<AmazonS3Builder>(url, environment, bounds),
        Service::Google => bucket::<GoogleCloudStorageBuilder>(url, environment, bounds),
        Service::Azure => bucket::<MicrosoftAzureBuilder>(url, environment, bounds),
    };
    let store = Store::Bucket(bucket?);
    Ok(Opened { store, root })
}

fn open_folder(path: &FilePath) -> Result<Opened, String> {
    let path: PathBuf = std::path::absolute(path)
        .map_err(|_| "the folder is relative, and the current folder is not known".to_owned())?;
    // The store's root is that of the file system, so that the folder need not exist yet.
    let root = Path::from_absolute_path(path);
    let root = root.map_err(|_| "the folder's name has characters that are not text".to_owned())?;
    // Contents and entries of folders are on the disk when a call returns.
    let store = Store::Folder(LocalFileSystem::new().with_fsync(true));
    Ok(Opened { store, root })
}

/// The builder of a service's client.
trait Builder: Default + Clone {
    type Client: ObjectStore + PaginatedListStore;

    /// The beginning of the names of its variables.
    const VARIABLES: &'static str;
    /// Variables that other programs know, which the client's builder calls differently.
    const OTHER_VARIABLES: &'static [(&'static str, &'static str)];
    const ENDPOINTS: &'static [&'static str];
    const ALLOW_HTTP: &'static str;
    const TELLS_VERSIONS: bool;
    /// What to set where the client cannot be made.
    const NEEDS: &'static str;

    fn completed(environment: &mut Environment) -> Result<(), String> {
        let _ = environment;
        Ok(())
    }

    /// Sets an option. One that the builder does not know is left out.
    fn option(self, name: &str, value: &str) -> Self;

    fn client(self, url: &Url, retry: RetryConfig) -> object_store::Result<Self::Client>;
}

macro_rules! builder_basics {
    ($client:ty, $key:ty) => {
        type Client = $client;

        fn option(self, name: &str, value: &str) -> Self {
            match name.parse::<$key>() {
                Ok(key) => self.with_config(key, value),
                Err(_) => self,
            }
        }

        fn client(self, url: &Url, retry: RetryConfig) -> object_store::Result<Self::Client> {
            self.with_url(url.as_str())
                .with_retry(retry)
                .with_http_connector(Wire)
                .build()
        }
    };
}

impl Builder for AmazonS3Builder {
    builder_basics!(AmazonS3, AmazonS3ConfigKey);

    const VARIABLES: &'static str = "AWS_";
    const OTHER_VARIABLES: &'static [(&'static str, &'static str)] = &[];
    const ENDPOINTS: &'static [&'static str] =
        &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    const ALLOW_HTTP: &'static str = "AWS_ALLOW_HTTP";
    const TELLS_VERSIONS: bool = true;
    const NEEDS: &'static str = "the credentials are incomplete: set AWS_ACCESS_KEY_ID and \
                                 AWS_SECRET_ACCESS_KEY, or put both into ~/.aws/credentials";

    fn completed(environment: &mut Environment) -> Result<(), String> {
        environment.add_shared_files()
    }
}

impl Builder for GoogleCloudStorageBuilder {
    builder_basics!(GoogleCloudStorage, GoogleConfigKey);

    const VARIABLES: &'static str = "GOOGLE_";
    const OTHER_VARIABLES: &'static [(&'static str, &'static str)] =
        &[("SERVICE_ACCOUNT", "google_service_account")];
    const ENDPOINTS: &'static [&'static str] = &["GOOGLE_BASE_URL"];
    const ALLOW_HTTP: &'static str = "GOOGLE_ALLOW_HTTP";
    const TELLS_VERSIONS: bool = false;
    const NEEDS: &'static str = "the credentials cannot be used: set GOOGLE_SERVICE_ACCOUNT to the \
                                 file of a service account's key";
}

impl Builder for MicrosoftAzureBuilder {
    builder_basics!(MicrosoftAzure, AzureConfigKey);

    const VARIABLES: &'static str = "AZURE_";
    const OTHER_VARIABLES: &'static [(&'static str, &'static str)] =
        &[("IDENTITY_ENDPOINT", "azure_msi_endpoint")];
    const ENDPOINTS: &'static [&'static str] = &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"];
    const ALLOW_HTTP: &'static str = "AZURE_ALLOW_HTTP";
    const TELLS_VERSIONS: bool = true;
    const NEEDS: &'static str = "the credentials are incomplete: set AZURE_STORAGE_ACCOUNT_NAME and \
                                 AZURE_STORAGE_ACCOUNT_KEY";
}

fn bucket<B: Builder>(
    url: &Url,
    mut environment: Environment,
    bounds: &Bounds,
) -> Result<Bucket, String> {
    B::completed(&mut environment)?;
    let mut builder = B::default();
    for (variable, option) in B::OTHER_VARIABLES {
        if let Some(value) = environment.get(variable) {
            builder = builder.option(option, value);
        }
    }
    for (variable, value) in environment.beginning(B::VARIABLES) {
        builder = builder.option(&variable.to_ascii_lowercase(), value);
    }
    let allows_http = may_be_plain::<B>(&environment)?;
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    builder = builder
        .option("allow_http", if allows_http { "true" } else { "false" })
        .option("connect_timeout", &milliseconds(bounds.connect))
        .option("timeout", &milliseconds(bounds.request));
    let client = |tries| {
        let client = builder.clone().client(url, bounds.retry(tries));
        client.map(Arc::new).map_err(|_| B::NEEDS.to_owned())
    };
    let often = client(bounds.tries)?;
    Ok(Bucket {
        pages: often.clone(),
        often,
        once: client(1)?,
        tells_versions: B::TELLS_VERSIONS,
    })
}

/// Whether requests may go over plain HTTP: to this machine, or where the operator says so. The error
/// names an endpoint's variable that would need it.
fn may_be_plain<B: Builder>(environment: &Environment) -> Result<bool, String> {
    let is_allowed = environment.get(B::ALLOW_HTTP).is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        ["1", "true", "on", "yes", "y"].contains(&value.as_str())
    });
    let plain = B::ENDPOINTS
        .iter()
        .filter_map(|variable| Some((variable, Url::parse(environment.get(variable)?).ok()?)))
        .find(|(_, url)| url.scheme() == "http");
    match plain {
        None => Ok(is_allowed),
        Some((_, url)) if is_allowed || is_loopback(&url) => Ok(true),
        Some((variable, _)) => Err(format!(
            "{variable} is an http:// endpoint, so that everybody on the way can read the copy: use \
             https://, or set {}=true",
            B::ALLOW_HTTP
        )),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(to: &str, variables: &[(&str, &str)]) -> Result<Opened, String> {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| (name.to_string(), value.to_string()));
        let place = Place::parse(to).unwrap();
        open(&place, Environment::of(variables), &Bounds::default())
    }

    const KEYS: [(&str, &str); 2] = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];

    #[test]
    fn the_root_is_the_prefix_or_the_folder() {
        for (to, root) in [
            ("s3://bucket", ""),
            ("s3://bucket/a/b%20c/", "a/b c"),
            ("/var/backups/", "var/backups"),
            ("/", ""),
        ] {
            assert_eq!(opened(to, &KEYS).unwrap().root.as_ref(), root, "{to}");
        }
        let here = std::env::current_dir().unwrap().join("a");
        let here = here.to_str().unwrap().trim_start_matches('/').to_owned();
        assert_eq!(opened("a", &[]).unwrap().root.as_ref(), here);
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_it_is_allowed() {
        let [id, key] = KEYS;
        for (endpoint, allowed, is_taken) in [
            ("http://127.0.0.1:9000", "", true),
            ("http://[::1]:9000", "", true),
            ("http://localhost:9000", "", true),
            ("http://s3.test", "", false),
            ("http://s3.test", "false", false),
            ("http://s3.test", "true", true),
            ("https://s3.test", "", true),
        ] {
            for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
                let variables = [id, key, (name, endpoint), ("AWS_ALLOW_HTTP", allowed)];
                let opened = opened("s3://bucket", &variables);
                assert_eq!(opened.is_ok(), is_taken, "{endpoint} {allowed}");
                assert!(opened.err().is_none_or(|problem| problem.contains(name)));
            }
        }
    }

    #[test]
    fn incomplete_credentials_are_told_with_the_variables_to_set() {
        let problem = opened("s3://bucket", &KEYS[..1]).err().unwrap();
        assert!(problem.contains("AWS_SECRET_ACCESS_KEY"), "{problem}");
        let problem = opened("az://container", &[]).err().unwrap();
        assert!(problem.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{problem}");
        let account = ("AZURE_STORAGE_ACCOUNT_NAME", "mine");
        let key = ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0");
        assert!(opened("az://container", &[account, key]).is_ok());
        let nowhere = ("GOOGLE_SERVICE_ACCOUNT", "/nowhere");
        let problem = opened("gs://bucket", &[nowhere]).err().unwrap();
        assert!(problem.contains("GOOGLE_SERVICE_ACCOUNT"), "{problem}");
    }
}
