//! What goes wrong is said once, clearly, and without passwords.

use crate::client::Server as Client;
use crate::servers::{Server, free_port};

#[test]
fn servers_that_refuse_and_servers_that_are_not_there() {
    let (postgres, mariadb) = (Server::postgres(), Server::mariadb());
    let script = r#"
spark = connect()
def fails(url, *wanted, **options):
    options = {"user": "alice", "password": "s3cret&of=alice", "dbtable": "nobody"} | options
    for attempt in ("read", "write"):
        try:
            if attempt == "read":
                spark.read.format("jdbc").options(url=url, **options).load().schema
            else:
                spark.range(1).write.format("jdbc").options(url=url, **options | {"dbtable": "w.x.y"}).mode("error").save()
        except Exception as error:
            said = str(error)
            for secret in ("s3cret", "hunter2"):
                assert secret not in said, said
            if attempt == "read":
                for text in wanted:
                    assert text in said, said
        else:
            raise AssertionError(f"nothing failed: {wanted}")
POSTGRES, MARIADB, PORT = "@POSTGRES@", "@MARIADB@", "@PORT@"
for url in (POSTGRES, MARIADB):
    fails(url, "refuses the login", "`user` and `password`", password="hunter2")
    fails(url, "no such table", "`dbtable`")
    fails(url, "refuses the statement", dbtable="(SELECT FROM FROM) AS t")
    fails(url, "no TLS connection", "sslrootcert", sslmode="verify-full")
    fails(url + "?sslmode=hunter", "`sslmode` has value `hunter`")
    fails(url + "?password=hunter2", "refuses the login", password="")
fails(POSTGRES.replace("/postgres", "/nothing"), "does not exist")
fails(MARIADB.replace("/shop", "/nothing"), "does not exist")
fails(f"jdbc:postgresql://localhost:{PORT}/d", "does not answer", "refused")
fails(f"jdbc:mysql://localhost:{PORT}/d", "does not answer", "refused")
fails("jdbc:postgresql://no-such-host.invalid/d", "does not answer", "no-such-host.invalid")
fails("jdbc:mysql://no-such-host.invalid/d", "does not answer", "no-such-host.invalid")
fails("jdbc:oracle:thin:@h:1:hunter2", "`jdbc:oracle:`")
fails("postgres://me:hunter2@h/d", "option `url` is not a URL")
fails(POSTGRES, "exclude each other", query="SELECT 1")
fails(POSTGRES, "took too long", dbtable="(SELECT pg_sleep(60)) AS t", queryTimeout="1", sessionInitStatement="SELECT pg_sleep(60)")
try:
    spark.read.format("jdbc").schema("a INT").options(url=POSTGRES, dbtable="t").load().schema
    raise AssertionError("a schema was taken")
except Exception as error:
    assert "customSchema" in str(error), error
"#;
    let port = free_port().to_string();
    let script =
        script.replace("@POSTGRES@", &postgres.url()).replace("@MARIADB@", &mariadb.url()).replace("@PORT@", &port);
    Client::start(&[], &[]).check(&script);
}

#[test]
fn servers_are_known_by_their_certificate() {
    for server in [Server::postgres(), Server::mariadb()] {
        let certificate = server.certificate();
        let script = format!(
            r#"
spark = connect()
def read(**options):
    options = {{"user": "alice", "password": "s3cret&of=alice", "query": "SELECT 1 AS n"}} | options
    return [r.n for r in spark.read.format("jdbc").options(url="{}", **options).load().collect()]
for mode in ("disable", "prefer", "require"):
    assert read(sslmode=mode) == [1], mode
for mode in ("require", "verify-ca", "verify-full"):
    assert read(sslmode=mode, sslrootcert="{}") == [1], mode
"#,
            server.url(),
            certificate.display()
        );
        Client::start(&[], &[]).check(&script);
    }
}
