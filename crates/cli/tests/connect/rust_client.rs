//! The Apache client for Rust. Its program is a workspace of its own (`tests/rust_client`), which is built here the first time.

use std::path::Path;
use std::process::Command;

use crate::support::{Server, assert_done};

#[test]
fn a_program_with_the_rust_client_runs() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/rust_client");
    // Beside the build that this test is of, so that it is kept as long.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../rust-client");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(program.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let server = Server::start(&[], &[]);
    let folder = tempfile::tempdir().unwrap();
    let client = Command::new(target.join("debug/deltaworks-rust-client-test"))
        .env("SPARK_REMOTE", &server.url)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_done(&client);
}
