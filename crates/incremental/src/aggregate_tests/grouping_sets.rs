//! ROLLUP, CUBE and GROUPING SETS, batch by batch.

use super::*;

#[tokio::test]
async fn grouping_sets_of_a_stream_are_those_of_all_its_rows() {
    let batches = [
        vec![event(1, "a", 1), event(1, "b", 1), (None, None, 5)],
        vec![event(1, "a", 2), (Some(2), None, 1)],
        Vec::new(),
        vec![event(3, "b", 2), event(3, "c", 5)],
    ];
    let all: Vec<Event> = batches.concat();
    for sets in [
        "ROLLUP(key, value)",
        "CUBE(key, value % 2)",
        "GROUPING SETS ((key), (value), (key), ())",
        "value, ROLLUP(key)",
    ] {
        let other = if sets.contains('%') { "value % 2" } else { "value" };
        let sql = format!(
            "SELECT key, {other}, grouping(key), grouping_id(key, {other}), sum(value), count(DISTINCT key) FROM STREAM(events) GROUP BY {sets}"
        );
        let sql =
            if sets.starts_with('v') { sql.replace("grouping_id(key, value)", "grouping_id(value, key)") } else { sql };
        let mut stream = Stream::new(session(2, 1 << 30), &sql).await;
        assert_eq!(output_mode(&stream.plan), OutputMode::Complete);
        let mut found = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            found = stream.run(batch, number % 2 == 0).await;
        }
        let whole = replace_streams(stream.plan.clone(), &[table(&all)]).unwrap();
        let whole = stream.session.execute_logical_plan(whole).await.unwrap().collect().await.unwrap();
        let mut whole: Vec<String> = whole.iter().flat_map(texts).collect();
        whole.sort();
        assert_eq!(found, whole, "{sets}");
    }
}

#[tokio::test]
async fn sets_without_the_event_time_are_not_kept() {
    let sql = "SELECT unix_timestamp(ts) / 60, coalesce(key, '-'), grouping(key), count(*) \
               FROM STREAM(events) WATERMARK ts DELAY OF INTERVAL 10 MINUTES GROUP BY CUBE(ts, key)";
    let mut stream = Stream::new(session(2, 1 << 30), sql).await;
    assert_eq!(stream.run(&[event(1, "a", 1), event(1, "b", 1), event(60, "a", 1)], false).await, Vec::<String>::new());
    assert_eq!(stream.run(&[], true).await, ["1.0 - 1 2", "1.0 a 0 1", "1.0 b 0 1"]);
    assert_eq!(stream.stored_rows(), 2);
}
