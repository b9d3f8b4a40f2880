//! A broker of Apache Kafka (KRaft, one node) on ports of its own, in a temporary folder.
//!
//! A shell holds the broker and waits for its standard input to end, which happens when the test process drops it or
//! dies, however it dies: then the shell kills the broker.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

/// The user and the password that the listener with a login knows.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "s3cret-of-alice";

/// Until this time a broker must have started.
const START_TIMEOUT: Duration = Duration::from_secs(90);

pub struct Broker {
    folder: TempDir,
    /// Without TLS and login.
    port: u16,
    /// With a login, without TLS.
    login_port: u16,
    /// With TLS, without a login.
    tls_port: u16,
    process: Option<Child>,
}

impl Broker {
    /// The broker that tests share. It ends with the test process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A broker of its own, for a test that stops it.
    pub fn start() -> Self {
        let mut broker = Self::formatted();
        broker.resume();
        broker
    }

    pub fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn login_servers(&self) -> String {
        format!("127.0.0.1:{}", self.login_port)
    }

    pub fn tls_servers(&self) -> String {
        format!("127.0.0.1:{}", self.tls_port)
    }

    /// The certificate that the broker has for TLS, signed by itself.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// Stops a broker; its records stay.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().unwrap();
        }
    }

    /// Starts a broker that was stopped, on the same ports, and waits until it answers.
    pub fn resume(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("broker.log")).unwrap();
        let script = r#""$@" & broker=$!; cat; kill -9 $broker; wait"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "broker"]).args(java()).arg("kafka.Kafka").arg(self.properties());
        command.stdin(Stdio::piped()).stdout(Stdio::from(log.try_clone().unwrap())).stderr(Stdio::from(log));
        self.process = Some(command.spawn().unwrap());
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.servers()).set("log_level", "0").create().unwrap();
        let deadline = Instant::now() + START_TIMEOUT;
        while client.fetch_metadata(None, Duration::from_millis(500)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("broker.log")).unwrap();
            assert!(Instant::now() < deadline, "the broker does not start:\n{}", log());
        }
    }

    /// A broker whose storage is ready.
    fn formatted() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Ports that nobody uses: all are held before one is given up.
        let free: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = free.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(free);
        let broker = Self { folder, port: ports[0], login_port: ports[1], tls_port: ports[2], process: None };
        broker.write_certificate();
        let text = configuration(&broker, ports[3]);
        std::fs::File::create(broker.properties()).unwrap().write_all(text.as_bytes()).unwrap();
        let id = "AAAAAAAAAAAAAAAAAAAAAQ";
        let mut format = Command::new(java()[0].clone());
        format.args(&java()[1..]).args(["kafka.tools.StorageTool", "format", "-t", id, "-c"]).arg(broker.properties());
        let output = format.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        broker
    }

    /// Makes a key and a certificate, and one file with both for the broker.
    fn write_certificate(&self) {
        let key = self.folder.path().join("key.pem");
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]);
        openssl
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(self.certificate());
        let made = openssl.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let both = [key, self.certificate()].map(|file| std::fs::read_to_string(file).unwrap());
        std::fs::write(self.folder.path().join("keystore.pem"), both.concat()).unwrap();
    }

    fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The program and its arguments before the class.
fn java() -> Vec<String> {
    let jars = jars();
    assert!(jars.is_dir(), "{} does not exist: run tools/setup_kafka.sh", jars.display());
    let options = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"];
    let class_path = format!("{}/*", jars.display());
    ["java"].into_iter().chain(options).map(str::to_owned).chain([class_path]).collect()
}

fn jars() -> PathBuf {
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/deltaworks/kafka");
    std::env::var_os("DELTAWORKS_KAFKA").map_or_else(home, PathBuf::from)
}

fn configuration(broker: &Broker, controller: u16) -> String {
    let (port, login, tls, folder) = (broker.port, broker.login_port, broker.tls_port, broker.folder.path().display());
    let login_module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAIN://127.0.0.1:{port},LOGIN://127.0.0.1:{login},TLS://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{port},LOGIN://127.0.0.1:{login},TLS://127.0.0.1:{tls}
inter.broker.listener.name=PLAIN
listener.security.protocol.map=PLAIN:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.login.plain.sasl.jaas.config={login_module} required user_{USER}=\"{PASSWORD}\";
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={folder}/keystore.pem
log.dirs={folder}/log
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=200
log.retention.ms=-1
"
    )
}
