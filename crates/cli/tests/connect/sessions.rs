//! Sessions: how they end, what is left of them, and copies.

use crate::support::{Server, spawn_client, wait_until};

const UPLOADED: &str = "
import os, tempfile
def upload(spark):
    path = os.path.join(tempfile.mkdtemp(), 'rows.txt')
    with open(path, 'w') as file:
        file.write('hello')
    spark.addArtifacts(path, file=True)
";

#[test]
fn idle_sessions_end_and_their_clients_are_told() {
    let settings = ["--set", "configuration.spark.connect.session.manager.defaultSessionTimeout=2s"];
    let server = Server::start(&settings, &[]);
    server.check(
        r#"
import time
from pyspark.errors import PySparkException
spark = connect()
try:
    spark.range(3).createTempView("mine")
    pause, give_up = 1, time.monotonic() + 120
    while time.monotonic() < give_up:
        assert spark.catalog.tableExists("mine"), "the session was made anew, without a word"
        # Whoever asks is not idle.
        time.sleep(pause)
        pause *= 2
    raise SystemExit("the session did not end")
except PySparkException as error:
    assert error.getCondition() == "INVALID_HANDLE.SESSION_CHANGED", error
assert not connect().catalog.tableExists("mine")
"#,
    );
}

#[test]
fn released_sessions_are_gone() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
import uuid
from pyspark.sql.connect.client import SparkConnectClient
spark = connect()
client = spark.client
spark.range(3).createTempView("mine")
client.release_session()
try:
    spark.table("mine").collect()
    raise SystemExit("the session lives")
except Exception as error:
    assert "INVALID_HANDLE.SESSION_CHANGED" in str(error), error
again = connect()
assert not again.catalog.tableExists("mine")
again.stop()
assert connect().range(2).count() == 2
"#,
    );
}

#[test]
fn clones_start_with_what_the_session_has() {
    let server = Server::start(&[], &[("DELTAWORKS_PYTHON", &crate::support::python())]);
    server.check(&format!(
        r#"{UPLOADED}
spark = connect()
spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
spark.sql("CREATE SCHEMA s").collect()
spark.sql("USE s").collect()
spark.range(3).createTempView("mine")
spark.sql("CREATE TEMPORARY FUNCTION next(x BIGINT) RETURNS BIGINT RETURN x + 1").collect()
spark.udf.register("twice", lambda i: i * 2, "long")
upload(spark)
clone = spark.cloneSession()
assert clone.session_id != spark.session_id
assert clone.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
assert clone.catalog.currentDatabase() == "s"
assert [r.n for r in clone.sql("SELECT next(twice(id)) AS n FROM mine ORDER BY 1").collect()] == [1, 3, 5]
clone.range(7).createOrReplaceTempView("mine")
clone.conf.set("spark.sql.session.timeZone", "UTC")
assert spark.table("mine").count() == 3 and clone.table("mine").count() == 7
assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
spark.stop()
assert clone.table("mine").count() == 7
"#
    ));
}

#[test]
fn the_state_of_operations_is_told() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
import threading
spark = connect()
client = spark.client
import pyspark.sql.connect.proto as pb2
request = pb2.GetStatusRequest(session_id=client._session_id)
request.user_context.user_id = client._user_id or ""
request.operation_status.operation_ids.append("00112233-4455-6677-8899-aabbccddeeff")
response = client._stub.GetStatus(request)
assert response.operation_statuses[0].state == pb2.GetStatusResponse.OperationStatus.OPERATION_STATE_UNKNOWN, response
ended = []
def run():
    try:
        spark.range(10**13).select(F.sum(F.col("id") % 7)).collect()
    except Exception as error:
        ended.append(error)
thread = threading.Thread(target=run)
thread.start()
request.ClearField("operation_status")
request.operation_status.SetInParent()
while True:
    statuses = client._stub.GetStatus(request).operation_statuses
    if any(s.state == pb2.GetStatusResponse.OperationStatus.OPERATION_STATE_RUNNING for s in statuses):
        break
spark.interruptAll()
thread.join(60)
assert ended and "OPERATION_CANCELED" in str(ended[0])
"#,
    );
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let settings = [
        "--set",
        "configuration.spark.connect.execute.manager.detachedTimeout=100ms",
        "--set",
        "configuration.spark.connect.session.manager.defaultSessionTimeout=8s",
    ];
    let server = Server::start(&settings, &[]);
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    // It has a view, uploads, rows that it keeps, and a query that would run for ever.
    let script = format!(
        r#"{UPLOADED}
import threading, time
spark = connect()
spark.range(3).createTempView("mine")
spark.range(3).localCheckpoint().count()
upload(spark)
threading.Thread(target=lambda: spark.range(10**15).select(F.sum(F.col("id") % 7)).collect(), daemon=True).start()
with open(os.environ["READY"] + ".new", "w") as file:
    file.write(spark.session_id)
os.rename(os.environ["READY"] + ".new", os.environ["READY"])
while True:
    time.sleep(0.05)
    spark.range(1).count()
"#
    );
    let (mut client, _file) = spawn_client(&server, &script, &[("READY", ready.to_str().unwrap())]);
    wait_until("the client is ready", || {
        assert!(client.try_wait().unwrap().is_none(), "the client has ended");
        ready.exists()
    });
    client.kill().unwrap();
    client.wait().unwrap();
    let session = std::fs::read_to_string(&ready).unwrap();
    // A session of that name that has none of it: it was made by this client.
    server.check(&format!(
        r#"
import time
import pyspark.sql.connect.proto as pb2
pause, give_up = 10, time.monotonic() + 120
while True:
    # Whoever asks keeps it alive.
    time.sleep(pause)
    pause *= 2
    again = SparkSession.builder.remote(URL + "/;session_id={session}").create()
    if not again.catalog.tableExists("mine"):
        break
    assert time.monotonic() < give_up, "the session is still there"
client = again.client
request = pb2.GetStatusRequest(session_id=client._session_id)
request.user_context.user_id = client._user_id or ""
request.operation_status.SetInParent()
running = [s for s in client._stub.GetStatus(request).operation_statuses
           if s.state == pb2.GetStatusResponse.OperationStatus.OPERATION_STATE_RUNNING]
assert running == [], running
"#
    ));
}
