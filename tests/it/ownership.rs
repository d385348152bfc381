//! Commands that root runs on the server's data directory leave nothing of root's there.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::Server;

/// No file of anybody belongs to it.
const USER: u32 = 61_234;

fn each(path: &Path, act: &mut dyn FnMut(&Path)) {
    act(path);
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("it can be read") {
            each(&entry.expect("it is there").path(), act);
        }
    }
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.args(arguments).env("POSTRIDER__STORE__PATH", data);
    command.current_dir(data.parent().expect("it has one"));
    command.output().expect("it runs")
}

#[actix_web::test]
async fn commands_of_root_leave_the_files_to_their_owner() {
    if !rustix::process::geteuid().is_root() {
        let why =
            "commands_of_root_leave_the_files_to_their_owner: only root can become another user";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("SKIPPED {why}");
        return;
    }
    let server = Server::start().await;
    server.application("app").await;
    server.publish("a", json!({})).await;
    let directory = server.stopped().await;
    let data = directory.path().join("data");
    let of_user = |path: &Path| chown(path, Some(USER), Some(USER)).expect("root may");
    each(directory.path(), &mut |path| of_user(path));
    let for_all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), for_all).expect("root may");
    let restored = directory.path().join("restored");
    let export = data.join("export.json");
    let from = ["restore", "--from", export.to_str().expect("text")];
    for (data, arguments) in [
        (&data, &["verify-store"][..]),
        (&data, &["token", "reset-owner"]),
        (&restored, &from),
        (&restored, &["verify-store"]),
    ] {
        let output = run(data, arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        let mut files = 0;
        each(data, &mut |path| {
            let found = path.metadata().expect("it is there");
            assert_eq!(
                (found.uid(), found.gid()),
                (USER, USER),
                "{}",
                path.display()
            );
            files += 1;
        });
        assert!(files > 3, "the store is there");
    }

    // As the directory of a systemd unit with DynamicUser stands.
    chown(directory.path(), Some(0), Some(0)).expect("root may");
    let for_root = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(directory.path(), for_root).expect("root may");
    let output = run(&data, &["verify-store"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(complaint.contains("systemd-run"), "{complaint}");
}
