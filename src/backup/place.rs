//! Where a target is: the text of `backup.to`, read.
//!
//! Pure: nothing here looks whether the folder or the bucket exists.

use std::fmt;
use std::path::PathBuf;

use url::Url;

pub const MUST: &str = "must be a folder such as '/var/backups/postrider', or a bucket such as \
                        's3://bucket/prefix', 'gs://bucket/prefix' or 'az://container/prefix', \
                        without key, password and query";

/// A text that is longer is no place.
const TEXT_BYTES_MAX: usize = 4096;

/// A folder or a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Folder(PathBuf),
    Bucket { service: Service, url: Url },
}

/// The kind of service that a bucket is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, or another server with its API.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

impl Place {
    /// Reads a folder or a URL. None where the text is neither, or has something secret in it.
    pub fn parse(text: &str) -> Option<Place> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return None;
        }
        if !text.contains("://") {
            return Some(Place::Folder(PathBuf::from(text)));
        }
        let url = Url::parse(text).ok()?;
        if url.query().is_some() || url.fragment().is_some() || url.password().is_some() {
            return None;
        }
        let service = match url.scheme() {
            "file" => return url.to_file_path().ok().map(Place::Folder),
            "s3" | "s3a" => Service::S3,
            "gs" => Service::Google,
            "az" | "azure" | "adl" | "abfs" | "abfss" => Service::Azure,
            _ => return None,
        };
        // Azure's URLs may name the container before an '@' and the account behind it.
        let has_name = url.username().is_empty() || service == Service::Azure;
        let has_bucket = url.host_str().is_some_and(|host| !host.is_empty());
        let prefix = url.path().trim_matches('/');
        let is_prefix = prefix.is_empty() || prefix.split('/').all(|part| !part.is_empty());
        (has_name && has_bucket && url.port().is_none() && is_prefix)
            .then_some(Place::Bucket { service, url })
    }

    /// Says that a text is no place, without repeating it: it may have a password in it. Nothing where
    /// it is one.
    pub fn problem(text: &str) -> Option<String> {
        Place::parse(text).is_none().then(|| MUST.to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Folder(path) => path.display().fmt(f),
            Place::Bucket { url, .. } => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        for (text, shown, service) in [
            ("/var/backups", "/var/backups", None),
            ("backups", "backups", None),
            ("file:///var/back%20ups", "/var/back ups", None),
            ("s3://bucket", "s3://bucket", Some(Service::S3)),
            ("s3://bucket/", "s3://bucket", Some(Service::S3)),
            ("s3://bucket/a/b/", "s3://bucket/a/b", Some(Service::S3)),
            ("gs://bucket/a", "gs://bucket/a", Some(Service::Google)),
            ("az://container/a", "az://container/a", Some(Service::Azure)),
            (
                "abfss://container@account.dfs.core.windows.net/a",
                "abfss://container@account.dfs.core.windows.net/a",
                Some(Service::Azure),
            ),
        ] {
            let place = Place::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(place.to_string(), shown);
            let found = match place {
                Place::Folder(_) => None,
                Place::Bucket { service, .. } => Some(service),
            };
            assert_eq!(found, service, "{text}");
        }
    }

    #[test]
    fn a_text_with_something_secret_or_without_a_bucket_is_no_place() {
        for text in [
            "",
            "a\nb",
            "s3://",
            "s3:///prefix",
            "s3://key:secret@bucket/prefix",
            "s3://key@bucket/prefix",
            "s3://bucket/a//b",
            "s3://bucket:80/a",
            "az://container/a?sig=secret",
            "gs://bucket/a#b",
            "https://bucket.s3.amazonaws.com/a",
            "ftp://host/a",
            "file://host/a",
        ] {
            let problem = Place::problem(text);
            let problem = problem.unwrap_or_else(|| panic!("{text} is taken"));
            assert!(!problem.contains("secret"), "{problem}");
        }
        assert!(Place::parse(&"x".repeat(TEXT_BYTES_MAX + 1)).is_none());
    }
}
