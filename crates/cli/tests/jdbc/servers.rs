//! Servers of PostgreSQL and MariaDB on ports of their own, in temporary folders (`tools/setup_databases.sh`).
//!
//! A shell holds each server and waits for its standard input to end, which happens when the test process dies, however it
//! dies: then the shell stops the server and removes its folder.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The user that tests log in as, and its password.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "s3cret&of=alice";

/// Runs a program as a user that servers accept: none of them likes root.
const COMMON: &str = r#"
set -eu
if [ "$(id -u)" -eq 0 ]; then as() { user=$1; shift; runuser -u "$user" -- "$@"; }; else as() { shift; "$@"; }; fi
folder=$(mktemp -d)
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -addext basicConstraints=critical,CA:FALSE -keyout "$folder/key.pem" -out "$folder/certificate.pem" 2>/dev/null
"#;

const POSTGRES: &str = r#"
owner=postgres
[ "$(id -u)" -ne 0 ] || chown -R "$owner" "$folder"
chmod 700 "$folder"; chmod 600 "$folder/key.pem"
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
printf '%s' "$PASSWORD" > "$folder/password"; chmod 644 "$folder/password"
cd "$folder"
as "$owner" "$bin/initdb" -D "$folder/data" -U "$USER_NAME" -A scram-sha-256 --pwfile "$folder/password" -E UTF8 \
  --locale C.UTF-8 --no-sync >"$folder/log" 2>&1
as "$owner" "$bin/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w -s start -o "-p $PORT -k $folder \
  -c listen_addresses=127.0.0.1 -c fsync=off -c ssl=on -c ssl_cert_file=$folder/certificate.pem \
  -c ssl_key_file=$folder/key.pem" >/dev/null 2>&1 || { cat "$folder/log" "$folder/server.log"; exit 1; }
stop() { as "$owner" "$bin/pg_ctl" -D "$folder/data" -m immediate -s stop >/dev/null 2>&1 || true; }
"#;

const MARIADB: &str = r#"
owner=mysql
[ "$(id -u)" -ne 0 ] || chown -R "$owner" "$folder"
chmod 755 "$folder"; cd "$folder"
as "$owner" mariadb-install-db --no-defaults --datadir="$folder/data" --auth-root-authentication-method=normal --skip-test-db \
  >"$folder/log" 2>&1
as "$owner" /usr/sbin/mariadbd --no-defaults --datadir="$folder/data" --socket="$folder/s" --port="$PORT" \
  --bind-address=127.0.0.1 --pid-file="$folder/pid" --character-set-server=utf8mb4 --ssl-cert="$folder/certificate.pem" \
  --ssl-key="$folder/key.pem" --innodb-flush-log-at-trx-commit=0 >>"$folder/log" 2>&1 </dev/null &
mariadb-admin --no-defaults --socket="$folder/s" -u root --wait=60 --connect-timeout=60 ping >/dev/null 2>&1 || { cat "$folder/log"; exit 1; }
mariadb --no-defaults --socket="$folder/s" -u root -e "CREATE USER '$USER_NAME'@'%' IDENTIFIED BY '$PASSWORD'; \
  GRANT ALL ON *.* TO '$USER_NAME'@'%'; CREATE DATABASE shop"
stop() { kill -9 "$(cat "$folder/pid")" 2>/dev/null || true; }
"#;

const HOLD: &str = r#"
echo "ready $folder"
cat >/dev/null
stop
rm -rf "$folder"
"#;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

/// A server that runs.
pub struct Server {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    /// Whose standard input keeps the server.
    _shell: Child,
}

impl Server {
    /// The server that tests share. It ends with the test process.
    pub fn postgres() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Kind::Postgres))
    }

    /// The server that tests share. It ends with the test process.
    pub fn mariadb() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Kind::MariaDb))
    }

    fn start(kind: Kind) -> Self {
        let port = free_port();
        let body = if kind == Kind::Postgres { POSTGRES } else { MARIADB };
        let mut command = Command::new("bash");
        command.args(["-c", &[COMMON, body, HOLD].concat()]);
        command.env("PORT", port.to_string()).env("USER_NAME", USER).env("PASSWORD", PASSWORD);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut out = BufReader::new(shell.stdout.take().unwrap());
        let mut all = String::new();
        while out.read_line(&mut said).unwrap() > 0 && !said.starts_with("ready ") {
            all.push_str(&said);
            said.clear();
        }
        let folder = said.strip_prefix("ready ");
        let folder = folder.unwrap_or_else(|| panic!("{kind:?} does not start: run tools/setup_databases.sh\n{all}"));
        Self { kind, port, folder: folder.trim().into(), _shell: shell }
    }

    /// The name that URLs have for the database, without a login.
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Postgres => format!("jdbc:postgresql://localhost:{}/postgres", self.port),
            Kind::MariaDb => format!("jdbc:mysql://localhost:{}/shop", self.port),
        }
    }

    /// The certificate that the server has for TLS, signed by itself.
    pub fn certificate(&self) -> PathBuf {
        let copy = self.folder.join("certificate.pem");
        assert!(copy.exists(), "{}", copy.display());
        copy
    }

    /// Runs statements with the database's own client.
    #[track_caller]
    pub fn run(&self, statements: &str) {
        self.client(statements);
    }

    /// The rows of a query as the database's own client shows them: columns separated by `|`.
    #[track_caller]
    pub fn rows(&self, query: &str) -> String {
        self.client(query).trim_end().replace('\t', "|")
    }

    #[track_caller]
    fn client(&self, statements: &str) -> String {
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = Command::new("psql");
                command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER]);
                command.args(["-p", &self.port.to_string(), "-d", "postgres", "-c", statements]);
                command.env("PGPASSWORD", PASSWORD).env("PGTZ", "UTC");
                command
            }
            Kind::MariaDb => {
                let mut command = Command::new("mariadb");
                command.args([
                    "--no-defaults",
                    "-h",
                    "127.0.0.1",
                    "-P",
                    &self.port.to_string(),
                    "-u",
                    USER,
                    "-N",
                    "-B",
                ]);
                command.args(["--default-character-set=utf8mb4", "shop", "-e", statements]);
                command.env("MYSQL_PWD", PASSWORD);
                command
            }
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{statements}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A port that nobody uses.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
