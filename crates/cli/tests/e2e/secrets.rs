//! Secrets that source files get from `dbutils.secrets`, and where they must not show up.

use crate::support::{Done, Pipeline};

const SECRET: &str = "hunter2-und-noch-mehr";

/// What a command shows of a pipeline whose function raises with a secret in the message.
fn with_secret(pipeline: &Pipeline, arguments: &[&str]) -> Done {
    let mut command = pipeline.command(arguments);
    command.env("DELTAWORKS_SECRET_SHOP_PASSWORD", SECRET);
    Done::of(command)
}

const LEAKY: &str = "
import dlt
password = dbutils.secrets.get('shop', 'password')

@dlt.table(comment=f'read with {password}')
def numbers():
    return spark.range(3)

@dlt.table
def raises():
    raise ValueError(f'cannot log in with {password} at jdbc:x://u:{password}@host')
";

#[test]
fn secrets_stay_out_of_problems() {
    let pipeline = Pipeline::new(&[("pipeline.py", LEAKY)]);
    for arguments in [&["validate"][..], &["run"], &["run", "--json"]] {
        let done = with_secret(&pipeline, arguments);
        assert_eq!(done.code, Some(3), "{done:?}");
        assert!(!format!("{done:?}").contains(SECRET), "{done:?}");
    }
    let done = with_secret(&pipeline, &["run"]);
    assert!(done.err.contains("cannot log in with [REDACTED] at jdbc:x://u:[REDACTED]@host"), "{done:?}");
}

#[test]
fn secrets_stay_out_of_the_event_log() {
    let rows = "
@dlt.table
def in_a_row():
    from pyspark.sql import functions as F
    fails = F.udf(lambda n: int(f'{n} {password}'), 'int')
    return dlt.read('numbers').select(fails('id').alias('n'))
";
    let sound = LEAKY.split("@dlt.table\ndef raises").next().unwrap();
    let pipeline = Pipeline::new(&[("pipeline.py", &format!("{sound}{rows}"))]);
    let done = with_secret(&pipeline, &["run"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let log = pipeline.query(
        "SELECT count(*) AS events, bool_or(concat(message, coalesce(details, ''), to_json(error)) LIKE '%hunter2%') AS leaks,
                bool_or(to_json(error) LIKE '%[REDACTED]%') AS told
         FROM event_log(TABLE(numbers))",
    );
    assert!(log.contains(",false,"), "{log}");
    let errors = pipeline
        .query("SELECT error.exceptions[0].message AS why FROM event_log(TABLE(in_a_row)) WHERE level = 'ERROR'");
    assert!(errors.contains("[REDACTED]") && !errors.contains("hunter2"), "{errors}");
}
