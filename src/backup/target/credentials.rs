//! The environment's variables of a target, and the shared files of AWS.
//!
//! Each service reads its own variables: `AWS_…`, `GOOGLE_…`, `AZURE_…`. For S3 the shared files add
//! what the variables leave out: `AWS_SHARED_CREDENTIALS_FILE` or `~/.aws/credentials` has the keys of the
//! profile, and `AWS_CONFIG_FILE` or `~/.aws/config` its region and endpoint. The profile is that of
//! `AWS_PROFILE`, else `default`. Files are read as text alone: programs that a profile names are not run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A file of many profiles has some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

const KEYS: [(&str, &str); 3] = [
    ("aws_access_key_id", "AWS_ACCESS_KEY_ID"),
    ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    ("aws_session_token", "AWS_SESSION_TOKEN"),
];

/// Variables with a value, which do not print.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<String, Zeroizing<String>>);

/// The values of one profile of a file.
type Profile = BTreeMap<String, Zeroizing<String>>;

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Environment {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let value = value.into_string().ok()?;
            Some((name.into_string().ok()?, value))
        });
        Environment::of(variables)
    }

    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Environment {
        let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
        Environment(set.map(|(name, value)| (name, value.into())).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }

    /// The variables whose names begin so.
    pub fn beginning(&self, start: &str) -> impl Iterator<Item = (&str, &str)> {
        let with = self
            .0
            .iter()
            .filter(move |(name, _)| name.starts_with(start));
        with.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds what the shared files of AWS have and the variables have not. The error says what is wrong.
    pub fn add_shared_files(&mut self) -> Result<(), String> {
        let named = self.get("AWS_PROFILE").map(str::to_owned);
        let profile = named.as_deref().unwrap_or("default");
        let credentials = self.file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let credentials = profile_of(&credentials, profile);
        let settings = profile_of(&self.file("AWS_CONFIG_FILE", "config")?, profile);
        let has_keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
            .iter()
            .any(|name| self.get(name).is_some());
        let has_identity = self.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        if !has_keys && !has_identity {
            let found = [&credentials, &settings]
                .into_iter()
                .find(|profile| profile.contains_key(KEYS[0].0));
            match (found, &named) {
                (Some(found), _) => self.add_keys(found),
                (None, Some(named)) => {
                    return Err(format!(
                        "the profile '{named}' of AWS_PROFILE has no aws_access_key_id: put keys in \
                         ~/.aws/credentials, or in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    ));
                }
                (None, None) => {}
            }
        }
        let variables = [
            ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"]),
            ("endpoint_url", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT"]),
        ];
        for (name, variables) in variables {
            let is_set = variables.iter().any(|one| self.get(one).is_some());
            if let (false, Some(value)) = (is_set, settings.get(name)) {
                self.0.insert(variables[0].to_owned(), value.clone());
            }
        }
        Ok(())
    }

    fn add_keys(&mut self, profile: &Profile) {
        for (name, variable) in KEYS {
            if let Some(value) = profile.get(name) {
                self.0.insert(variable.to_owned(), value.clone());
            }
        }
    }

    /// The text of a shared file; empty where there is none in the usual place.
    fn file(&self, variable: &str, name: &str) -> Result<Zeroizing<String>, String> {
        let named = self.get(variable).map(PathBuf::from);
        let usual = || Some(Path::new(self.get("HOME")?).join(".aws").join(name));
        let is_named = named.is_some();
        let Some(path) = named.or_else(usual) else {
            return Ok(Zeroizing::default());
        };
        let mut text = Zeroizing::new(String::new());
        let read = File::open(&path).and_then(|file| {
            // One byte more than there may be shows that the file is too long.
            file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
        });
        match read {
            Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
                Err(format!("{} is longer than 1 MiB", path.display()))
            }
            Ok(_) => Ok(text),
            // Users of services often cannot look into the home directory that they have.
            Err(_) if !is_named => Ok(Zeroizing::default()),
            Err(error) => Err(format!(
                "cannot read {} ({variable}): {}",
                path.display(),
                error.kind()
            )),
        }
    }
}

/// The values of a profile, which stands as `[name]` or as `[profile name]`.
fn profile_of(text: &str, profile: &str) -> Profile {
    let mut values = Profile::new();
    let mut is_inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(head) = trimmed.strip_prefix('[') {
            let name = head.split(']').next().unwrap_or_default().trim();
            let bare = name.strip_prefix("profile ").map_or(name, str::trim);
            is_inside = bare == profile;
            continue;
        }
        // An indented line belongs to the value above, as in `s3 =` with values of its own.
        let is_nested = line.starts_with([' ', '\t']);
        if let (true, false, Some((name, value))) = (is_inside, is_nested, trimmed.split_once('='))
        {
            let value = Zeroizing::new(value.trim().to_owned());
            if !value.is_empty() {
                values.insert(name.trim().to_ascii_lowercase(), value);
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = AKID\n\
        aws_secret_access_key=s=cret\n\n[other]\nAWS_ACCESS_KEY_ID = OTHER\naws_secret_access_key = x\n\
        aws_session_token = token\n[empty]\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\nendpoint_url = https://s3.test\n\
        [profile other]\n; no region\ns3 =\n    endpoint_url = https://nested.test\n";

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Home {
            let home = tempfile::tempdir().unwrap();
            std::fs::create_dir(home.path().join(".aws")).unwrap();
            std::fs::write(home.path().join(".aws/credentials"), CREDENTIALS).unwrap();
            std::fs::write(home.path().join(".aws/config"), CONFIG).unwrap();
            Home(home)
        }

        fn with(&self, variables: &[(&str, &str)]) -> Result<Environment, String> {
            let home = self.0.path().to_string_lossy().into_owned();
            let variables = variables.iter().copied();
            let all = variables.chain([("HOME", home.as_str())]);
            let all = all.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let mut environment = Environment::of(all);
            environment.add_shared_files().map(|()| environment)
        }
    }

    #[test]
    fn the_shared_files_add_what_the_variables_leave_out() {
        let home = Home::new();
        let read = home.with(&[]).unwrap();
        assert_eq!(read.get("AWS_ACCESS_KEY_ID"), Some("AKID"));
        assert_eq!(read.get("AWS_SECRET_ACCESS_KEY"), Some("s=cret"));
        assert_eq!(read.get("AWS_SESSION_TOKEN"), None);
        assert_eq!(read.get("AWS_REGION"), Some("eu-west-1"));
        assert_eq!(read.get("AWS_ENDPOINT_URL"), Some("https://s3.test"));
        let read = home.with(&[("AWS_PROFILE", "other")]).unwrap();
        assert_eq!(read.get("AWS_ACCESS_KEY_ID"), Some("OTHER"));
        assert_eq!(read.get("AWS_SESSION_TOKEN"), Some("token"));
        assert_eq!(read.get("AWS_REGION"), None);
        assert_eq!(read.get("AWS_ENDPOINT_URL"), None);
    }

    #[test]
    fn variables_win_over_the_files() {
        let home = Home::new();
        let keys = [
            ("AWS_ACCESS_KEY_ID", "mine"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
        ];
        let read = home.with(&keys).unwrap();
        assert_eq!(read.get("AWS_ACCESS_KEY_ID"), Some("mine"));
        let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")];
        let read = home.with(&identity).unwrap();
        assert_eq!(read.get("AWS_ACCESS_KEY_ID"), None);
        let region = [("AWS_DEFAULT_REGION", "us-west-2")];
        let read = home.with(&region).unwrap();
        assert_eq!(read.get("AWS_REGION"), None);
    }

    #[test]
    fn what_is_named_must_be_there() {
        let home = Home::new();
        for (variables, problem) in [
            (("AWS_PROFILE", "empty"), "'empty'"),
            (("AWS_PROFILE", "nobody"), "'nobody'"),
            (("AWS_CONFIG_FILE", "/nowhere"), "/nowhere"),
        ] {
            let told = home.with(&[variables]).err().unwrap();
            assert!(told.contains(problem), "{told}");
        }
        let empty = Environment::of([("HOME".to_owned(), "/nowhere".to_owned())]);
        assert!(empty.clone().add_shared_files().is_ok());
        assert!(Environment::default().add_shared_files().is_ok());
        let long = home.0.path().join("long");
        std::fs::write(&long, "#".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        let told = home.with(&[("AWS_CONFIG_FILE", long.to_str().unwrap())]);
        assert!(told.err().unwrap().contains("longer"));
    }
}
