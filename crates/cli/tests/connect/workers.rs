//! Functions in Python that loop, hoard memory or die, and the workers that run them.

use std::process::Command;

use crate::support::{Server, python, spawn_client, wait_until};

/// What the clients of these tests have in common: functions that say which process runs them.
const PRELUDE: &str = r#"
import os, tempfile, threading, time
from pyspark.errors import PySparkException
FOLDER = os.environ.get("FOLDER") or tempfile.mkdtemp()

def wait_for(happened, what):
    give_up = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)

def process(name):
    path = os.path.join(FOLDER, name)
    wait_for(lambda: os.path.exists(path), f"{name} never ran")
    with open(path) as file:
        return int(file.read())

def is_gone(pid):
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True

def note(folder, name):
    import os
    with open(os.path.join(folder, name + ".new"), "w") as file:
        file.write(str(os.getpid()))
    os.rename(os.path.join(folder, name + ".new"), os.path.join(folder, name))

def works(spark):
    rows = spark.range(3).select(F.udf(lambda i: i * 2, "long")("id")).collect()
    assert [r[0] for r in rows] == [0, 2, 4], rows
"#;

fn check(server: &Server, script: &str) {
    server.check(&format!("{PRELUDE}{script}"));
}

#[test]
fn functions_that_loop_are_killed_when_they_are_interrupted() {
    let server = Server::start(&[], &[("DELTAWORKS_PYTHON", &python())]);
    check(
        &server,
        r#"
import pandas as pd
spark = connect()
works(spark)

def row(i):
    note(FOLDER, "row")
    while True:
        pass

@F.pandas_udf("long")
def group(ids: pd.Series) -> int:
    note(FOLDER, "group")
    while True:
        time.sleep(1000)

def relation(batches):
    note(FOLDER, "relation")
    for batch in batches:
        while True:
            pass
        yield batch

df = spark.range(10)
queries = {
    "row": lambda: df.select(F.udf(row, "long")("id")).collect(),
    "group": lambda: df.groupBy((F.col("id") % 2).alias("k")).agg(group("id")).collect(),
    "relation": lambda: df.mapInPandas(relation, "id long").collect(),
    "written": lambda: df.mapInPandas(relation, "id long").write.saveAsTable("t"),
}
for name, query in queries.items():
    ended = []
    def run():
        try:
            query()
            ended.append(None)
        except PySparkException as error:
            ended.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    file = "relation" if name == "written" else name
    pid = process(file)
    assert not is_gone(pid)
    assert spark.interruptAll(), name
    thread.join(120)
    assert ended and "OPERATION_CANCELED" in str(ended[0]), (name, ended)
    wait_for(lambda: is_gone(pid), f"{name} is still running")
    os.remove(os.path.join(FOLDER, file))
    works(spark)
wait_for(lambda: not spark.catalog.tableExists("t"), "half a table is there")
"#,
    );
}

#[test]
fn functions_of_clients_that_vanish_are_killed() {
    let settings = ["--set", "configuration.spark.connect.execute.manager.detachedTimeout=100ms"];
    let server = Server::start(&settings, &[("DELTAWORKS_PYTHON", &python())]);
    let loops = "
def loops(i):
    note(FOLDER, 'loops')
    while True:
        pass
connect().range(1).select(F.udf(loops, 'long')('id')).collect()";
    let analyzed = "
from pyspark.sql.functions import udtf
@udtf
class Analyzed:
    @staticmethod
    def analyze():
        note(FOLDER, 'loops')
        while True:
            pass
    def eval(self):
        pass
connect().sql('SELECT 1').join(Analyzed()).schema";
    for script in [loops, analyzed] {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("loops");
        let (mut client, _file) =
            spawn_client(&server, &format!("{PRELUDE}{script}"), &[("FOLDER", folder.path().to_str().unwrap())]);
        wait_until("the function runs", || {
            assert!(client.try_wait().unwrap().is_none(), "the client has ended");
            pid.exists()
        });
        let pid = std::fs::read_to_string(pid).unwrap();
        let runs = || Command::new("kill").args(["-0", &pid]).output().unwrap().status.success();
        assert!(runs());
        client.kill().unwrap();
        client.wait().unwrap();
        wait_until("the worker is killed", || !runs());
        check(&server, "works(connect())");
    }
}

#[test]
fn a_server_ends_in_order_while_a_function_loops() {
    let server = Server::start(&[], &[("DELTAWORKS_PYTHON", &python())]);
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("loops");
    let script = "
def loops(i):
    note(FOLDER, 'loops')
    while True:
        pass
connect().range(1).select(F.udf(loops, 'long')('id')).collect()";
    let environment = [("FOLDER", folder.path().to_str().unwrap())];
    let (mut client, _file) = spawn_client(&server, &format!("{PRELUDE}{script}"), &environment);
    wait_until("the function runs", || pid.exists());
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(server.terminate());
    wait_until("the worker is killed", || !Command::new("kill").args(["-0", &pid]).output().unwrap().status.success());
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn memory_of_functions_is_bounded() {
    let settings = ["--set", "configuration.spark.executor.pyspark.memory=2g", "--set", "threads=2"];
    let server = Server::start(&settings, &[("DELTAWORKS_PYTHON", &python())]);
    check(
        &server,
        r#"
from pyspark.errors import PythonException
spark = connect()

def hoard(i):
    return len(bytearray(3 << 30))

def hoard_numbers(i):
    import numpy
    return len(numpy.ones(1 << 29))

for function in [hoard, hoard_numbers]:
    try:
        spark.range(1).select(F.udf(function, "long")("id")).collect()
        raise SystemExit("there was memory enough")
    except PythonException as error:
        text = str(error)
        assert "MemoryError" in text and f"in {function.__name__}" in text, text
        assert "spark.executor.pyspark.memory" in text and "1024 MiB" in text, text
    works(spark)
"#,
    );
}

#[test]
fn a_worker_that_dies_is_one_clear_error() {
    let server = Server::start(&[], &[("DELTAWORKS_PYTHON", &python())]);
    check(
        &server,
        r#"
import signal
spark = connect()
works(spark)

def leave(i):
    os._exit(3)

def killed(i):
    os.kill(os.getpid(), signal.SIGKILL)

for function in [leave, killed]:
    try:
        spark.range(5).select(F.udf(function, "long")("id")).collect()
        raise SystemExit("nothing happened")
    except PySparkException as error:
        text = str(error)
        assert error.getCondition() == "PYTHON_WORKER_FAILED", text
        assert f"the Python worker died while it ran the function" in text and function.__name__ in text, text
        assert "os._exit" in text and "spark.executor.pyspark.memory" in text, text
    works(spark)

# One that dies while it has nothing to do is nobody's error.
whoami = F.udf(lambda i: os.getpid(), "long")
pids = {r[0] for r in spark.range(1).select(whoami("id")).collect()}
assert pids == {r[0] for r in spark.range(1).select(whoami("id")).collect()}, "workers are kept"
for pid in pids:
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_gone(pid), "it is still there")
works(spark)
"#,
    );
}

#[test]
fn workers_are_not_kept_if_that_is_not_wanted() {
    let settings = ["--set", "configuration.spark.python.worker.reuse=false"];
    let server = Server::start(&settings, &[("DELTAWORKS_PYTHON", &python())]);
    check(
        &server,
        r#"
spark = connect()
whoami = F.udf(lambda i: os.getpid(), "long")
pids = [spark.range(1).select(whoami("id")).first()[0] for _ in range(3)]
assert len(set(pids)) == 3, pids
wait_for(lambda: all(is_gone(pid) for pid in pids), "a worker is still there")
"#,
    );
}
