//! Encrypted connections.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Server, assert_done};

/// A certificate for `localhost` that is its own authority, and its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl makes the certificate");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate, key)
}

#[test]
fn clients_connect_by_tls_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
    let arguments = ["--tls-cert", &certificate, "--tls-key", &key];
    let server = Server::start(&arguments, &[("DELTAWORKS_CONNECT_TOKEN", "secret")]);
    let script = r#"
url = URL + "/;use_ssl=true;token="
spark = SparkSession.builder.remote(url + "secret").create()
assert spark.range(1000).filter("id % 2 = 0").count() == 500
rows = spark.createDataFrame([(i, "x" * 1000) for i in range(5000)], "id int, s string")
assert rows.count() == 5000 and len(rows.collect()) == 5000
try:
    SparkSession.builder.remote(url + "wrong").create().range(1).count()
    raise SystemExit("served with a wrong token")
except Exception as error:
    assert "the token is missing or wrong" in str(error), error
"#;
    let roots = [("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", certificate.as_str())];
    assert_done(&server.client(script, &roots));
    assert!(server.terminate());
}

#[test]
fn files_that_are_no_certificate_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_, key) = certificate(folder.path());
    let refused = |certificate: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_deltaworks"))
            .args(["connect", "--port", "0", "--tls-cert"])
            .arg(certificate)
            .arg("--tls-key")
            .arg(&key)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&key);
    assert!(said.contains("the file of the TLS certificate holds none"), "{said}");
    let said = refused(Path::new("nowhere.pem"));
    assert!(said.contains("cannot read `nowhere.pem`"), "{said}");
}
