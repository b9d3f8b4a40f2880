//! Pipelines that read databases, and sinks of theirs that write them.

use std::path::Path;

use crate::servers::{PASSWORD, Server, USER};
use crate::support::{Done, Pipeline};

const PIPELINE: &str = r#"
import dlt

url = spark.conf.get("url")
login = {"user": dbutils.secrets.get("shop", "user"), "password": dbutils.secrets.get("shop", "password")}

@dlt.table
def customers():
    return spark.read.format("jdbc").options(url=url, dbtable="customers", partitionColumns="id", **login).load()

@dlt.table
def names():
    parts = {"column": "id", "lowerBound": 1, "upperBound": 3, "numPartitions": 2}
    return spark.read.jdbc(url, "customers", properties=login, **parts).select("name").where("id > 1")

@dlt.table
def events():
    return spark.readStream.format("json").schema("id INT, kind STRING").load("in")

@dlt.foreach_batch_sink(name="copy")
def copy(batch, batch_id):
    if spark.conf.get("fail") == "yes":
        batch.write.format("jdbc").mode("append").options(url=url, dbtable="copied", user="x", password="-".join(["wrong", "secret"])).save()
    batch.write.format("jdbc").mode("append").options(url=url, dbtable="copied", **login).save()

@dlt.append_flow(target="copy")
def copied():
    return spark.readStream.table("events")
"#;

fn run(pipeline: &Pipeline, arguments: &[&str]) -> Done {
    let mut command = pipeline.command(arguments);
    command.env("DELTAWORKS_SECRET_SHOP_USER", USER).env("DELTAWORKS_SECRET_SHOP_PASSWORD", PASSWORD);
    command.env("DELTAWORKS_LOG", "debug");
    Done::of(command)
}

/// No file below a folder holds `secret`.
fn holds_no(folder: &Path, secret: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds_no(&path, secret);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds the password", path.display());
        }
    }
}

fn check(server: &Server) {
    server.run("CREATE TABLE customers (id int, name varchar(20)); INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Zoë')");
    let settings = format!("name: t\ndevelopment: true\nconfiguration:\n  url: {}\n  fail: \"no\"\n", server.url());
    let files =
        [("pipeline.py", PIPELINE), ("deltaworks.yml", &settings), ("in/1.json", "{\"id\": 1, \"kind\": \"a\"}\n")];
    let pipeline = Pipeline::new(&files);
    for arguments in [&["validate"][..], &["graph"], &["run"], &["events", "--format", "json"], &["status"]] {
        let done = run(&pipeline, arguments);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(!done.out.contains(PASSWORD) && !done.err.contains(PASSWORD), "{arguments:?} shows the password");
    }
    let warned = run(&pipeline, &["validate"]);
    assert!(warned.err.contains("option `partitionColumns` is not known"), "{warned:?}");
    assert_eq!(pipeline.query("SELECT * FROM customers ORDER BY id"), "id,name\n1,Ann\n2,Bob\n3,Zoë\n");
    assert_eq!(pipeline.query("SELECT * FROM names ORDER BY name"), "name\nBob\nZoë\n");
    assert_eq!(server.rows("SELECT * FROM copied"), "1|a");
    // Rows that come are seen by the next update; a sink's function that fails leaves nothing behind.
    server.run("INSERT INTO customers VALUES (4, 'Dan')");
    pipeline.write("in/2.json", "{\"id\": 2, \"kind\": \"b\"}\n");
    let failed = run(&pipeline, &["run", "--set", "configuration.fail=yes"]);
    failed.complains(1, &["refuses the login"]);
    assert!(!failed.err.contains("wrong-secret"), "{failed:?}");
    assert_eq!(server.rows("SELECT * FROM copied"), "1|a");
    assert_eq!(run(&pipeline, &["run"]).code, Some(0));
    assert_eq!(server.rows("SELECT * FROM copied ORDER BY id"), "1|a\n2|b");
    assert_eq!(pipeline.query("SELECT count(*) AS n FROM customers"), "n\n4\n");
    holds_no(&pipeline.path().join(".deltaworks"), PASSWORD);
}

#[test]
fn postgresql() {
    check(Server::postgres());
}

#[test]
fn mysql() {
    check(Server::mariadb());
}
