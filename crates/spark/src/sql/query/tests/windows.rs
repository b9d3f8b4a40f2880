//! Frames, and aggregates over them.

use super::{rows, run};

#[tokio::test]
async fn windows_and_qualify() {
    assert_eq!(
        rows("SELECT customerId FROM people QUALIFY row_number() OVER (ORDER BY customerid DESC) = 1").await,
        "customerId / 3"
    );
    assert_eq!(
        rows("SELECT customerId, sum(customerid) OVER (ORDER BY customerid ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) s FROM people ORDER BY 1").await,
        "customerId,s / 1,1 / 2,3 / 3,5"
    );
}

#[tokio::test]
async fn ranges_of_time() {
    let times = "(VALUES (timestamp'2026-01-01 10:00:00'), (timestamp'2026-01-01 11:30:00'), (timestamp'2026-01-01 13:45:00')) t(at)";
    for bound in ["INTERVAL 2 HOURS", "INTERVAL '2' HOUR", "INTERVAL '2 hours'"] {
        assert_eq!(
            rows(&format!("SELECT count(*) OVER (ORDER BY at RANGE BETWEEN {bound} PRECEDING AND CURRENT ROW) AS n FROM {times} ORDER BY at")).await,
            "n / 1 / 2 / 1",
            "{bound}"
        );
    }
}

#[tokio::test]
async fn null_is_the_least_within_values() {
    let structs = "(VALUES (named_struct('x', 10.5, 'n', 'a')), (named_struct('x', NULL, 'n', 'b')), (named_struct('x', 3, 'n', NULL)), (NULL)) t(s)";
    assert_eq!(
        rows(&format!("SELECT max(s) AS most, min(s) AS least, max(array(s.x)) AS list FROM {structs}")).await,
        "most,least,list / {x: 10.5, n: a},{x: , n: b},[10.5]"
    );
    assert_eq!(rows(&format!("SELECT max(s) AS most FROM {structs} WHERE s.n = 'z'")).await, "most / ");
    assert_eq!(
        rows(&format!("SELECT max(s) OVER (PARTITION BY s.n IS NULL) AS most FROM {structs} ORDER BY s.n")).await,
        "most / {x: 3.0, n: } / {x: 3.0, n: } / {x: 10.5, n: a} / {x: 10.5, n: a}"
    );
    assert_eq!(
        rows(
            "SELECT id, max(struct(v)) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS most, \
             max_by(id, v) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS at \
             FROM (VALUES (1, 7), (2, NULL), (3, NULL), (4, 5)) t(id, v) ORDER BY id"
        )
        .await,
        "id,most,at / 1,{v: 7},1 / 2,{v: 7},1 / 3,{v: }, / 4,{v: 5},4"
    );
}

/// Arguments that are spelled anew, as structs and JSON paths are, leave the frame of the call around them.
#[tokio::test]
async fn frames_of_calls_with_rewritten_arguments() {
    let events = "(VALUES (1, '{\"n\": 5}'), (2, '{\"n\": 6}'), (3, '{\"n\": 7}')) t(id, js)";
    for argument in ["struct(id)", "js:n", "js LIKE ANY ('%5%', '%6%')", "INTERVAL '1' DAY"] {
        assert_eq!(
            rows(&format!(
                "SELECT id, count({argument}) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n \
                 FROM {events} ORDER BY id"
            ))
            .await,
            "id,n / 1,1 / 2,2 / 3,2",
            "{argument}"
        );
    }
}

/// Spark computes every frame anew: what was NaN, infinite or very large leaves nothing behind.
#[tokio::test]
async fn sums_over_sliding_frames() {
    let values = "(VALUES (1, 1e20D), (2, 1D), (3, double('NaN')), (4, 2D), (5, 3D), (6, NULL), (7, NULL)) t(id, x)";
    assert_eq!(
        rows(&format!(
            "SELECT id, sum(x) OVER w AS s, avg(x) OVER w AS a FROM {values} \
             WINDOW w AS (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) ORDER BY id"
        ))
        .await,
        "id,s,a / 1,1e20,1e20 / 2,1e20,5e19 / 3,NaN,NaN / 4,NaN,NaN / 5,5.0,2.5 / 6,3.0,3.0 / 7,,"
    );
}

#[tokio::test]
async fn aggregates_over_sliding_frames() {
    let values = "(VALUES (1, 1D, true), (2, double('NaN'), true), (3, 4D, false), (4, 6D, true), (5, 6D, NULL), (6, NULL, NULL), (7, NULL, NULL)) t(id, x, b)";
    assert_eq!(
        rows(&format!(
            "SELECT id, stddev_pop(x) OVER w AS d, var_samp(x) OVER w AS v, covar_pop(x, id) OVER w AS c, \
             corr(id, id * 2) OVER w AS r, every(b) OVER w AS e, bit_or(id) OVER w AS o FROM {values} \
             WINDOW w AS (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) ORDER BY id"
        ))
        .await,
        "id,d,v,c,r,e,o / 1,0.0,,0.0,,true,1 / 2,NaN,NaN,NaN,1.0,true,3 / 3,NaN,NaN,NaN,1.0,false,3 / \
         4,1.0,2.0,0.5,1.0,false,7 / 5,0.0,0.0,0.0,1.0,true,5 / 6,0.0,,0.0,1.0,,7 / 7,,,,1.0,,7"
    );
}

#[tokio::test]
async fn numbers_that_bound_ranges_of_dates_are_days() {
    let days = "(VALUES (1, DATE'2024-01-01'), (2, DATE'2024-02-29'), (3, DATE'2024-03-31'), (4, NULL)) t(id, day)";
    assert_eq!(
        rows(&format!(
            "SELECT id, count(*) OVER (ORDER BY day RANGE BETWEEN 31 PRECEDING AND CURRENT ROW) AS near, \
             count(*) OVER (ORDER BY day RANGE BETWEEN 1 FOLLOWING AND 60 FOLLOWING) AS later FROM {days} ORDER BY id"
        ))
        .await,
        "id,near,later / 1,1,1 / 2,1,1 / 3,2,0 / 4,1,1"
    );
    let error =
        run("SELECT count(*) OVER (ORDER BY at RANGE 5 PRECEDING) FROM (VALUES (timestamp'2024-01-01')) t(at)").await;
    assert_eq!(error.unwrap_err().condition(), Some("DATATYPE_MISMATCH.RANGE_FRAME_INVALID_TYPE"));
}

#[tokio::test]
async fn first_and_last_of_filtered_rows() {
    let values = "(VALUES (1, 'a', true), (2, 'b', false), (3, 'c', true), (4, 'd', false)) t(id, s, b)";
    assert_eq!(
        rows(&format!(
            "SELECT id, last_value(s) FILTER (WHERE b) IGNORE NULLS OVER (ORDER BY id) AS l FROM {values} ORDER BY id"
        ))
        .await,
        "id,l / 1,a / 2,a / 3,c / 4,c"
    );
    assert_eq!(
        rows(&format!(
            "SELECT id, first(s) FILTER (WHERE id > 1) OVER (ORDER BY id) AS f, \
             last(s) FILTER (WHERE b) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS l, \
             first(s) FILTER (WHERE NOT b) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS n \
             FROM {values} ORDER BY id"
        ))
        .await,
        "id,f,l,n / 1,,a,b / 2,b,a,b / 3,b,c,d / 4,b,c,d"
    );
}

#[tokio::test]
async fn defaults_that_differ_by_row() {
    let values = "(VALUES (1, 'a', 'x'), (2, NULL, 'x'), (3, 'c', 'x'), (4, 'd', 'y')) t(id, v, g)";
    assert_eq!(
        rows(&format!(
            "SELECT id, lag(v, 1, id * 10) OVER w AS l, lead(v, 2, concat('z', id)) OVER w AS f FROM {values} \
             WINDOW w AS (PARTITION BY g ORDER BY id) ORDER BY id"
        ))
        .await,
        "id,l,f / 1,10,c / 2,a,z2 / 3,,z3 / 4,40,z4"
    );
    let error = run(&format!("SELECT lag(v, 1, g) IGNORE NULLS OVER (ORDER BY id) FROM {values}")).await.unwrap_err();
    assert!(error.message().contains("IGNORE NULLS"), "{error}");
}
