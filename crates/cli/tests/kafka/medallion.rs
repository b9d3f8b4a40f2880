//! A pipeline as people write it: events of two topics, parsed and checked (`medallion.py`).

use crate::broker::Broker;
use crate::starts::runs;
use crate::support::Pipeline;
use crate::topics::{Topic, values};

#[test]
fn events_go_from_topics_through_bronze_to_silver() {
    let broker = Broker::shared();
    let users = Topic::create(broker, "user_events", 2);
    let transactions = Topic::create(broker, "transaction_events", 1);
    users.produce(values([r#"{"user_id": 0, "event_type": "signup"}"#]));
    let settings = format!("name: medallion\nconfiguration:\n  kafka_servers: {}\n", broker.servers());
    let pipeline = Pipeline::new(&[("pipeline.py", include_str!("medallion.py")), ("deltaworks.yml", &settings)]);
    // It starts at the latest offsets.
    runs(&pipeline);
    users.produce(values([
        r#"{"user_id": 1, "event_type": "page_view", "page_url": "/a", "session_id": "s1", "timestamp": "2026-01-05 10:30:00", "properties": {"x":1}}"#,
        r#"{"user_id": 2, "event_type": "purchase", "page_url": "/b", "session_id": "s2", "timestamp": "not a time"}"#,
        r#"{"user_id": 3, "event_type": "hover"}"#,
        r#"{"event_type": "click"}"#,
        "not json",
    ]));
    transactions.produce(values([
        r#"{"transaction_id": "t1", "user_id": 1, "merchant_id": "m", "amount": 10.50, "currency": "EUR", "timestamp": "2026-01-05 10:31:00"}"#,
        r#"{"transaction_id": "t2", "user_id": 2, "merchant_id": "m", "amount": "3", "currency": "USD"}"#,
        r#"{"transaction_id": "t3", "user_id": 2, "amount": 5, "currency": "CHF"}"#,
        r#"{"transaction_id": "t4", "user_id": 2, "amount": -5, "currency": "USD"}"#,
    ]));
    for _ in 0..2 {
        runs(&pipeline);
        assert_eq!(
            pipeline.query("SELECT topic, count(*) n, min(offset) o FROM bronze_events GROUP BY topic ORDER BY topic"),
            "topic,n,o\ntransaction_events,4,0\nuser_events,5,1\n"
        );
        assert_eq!(
            pipeline.query(
                "SELECT user_id, event_type, page_url, session_id, event_timestamp, properties_json, date, hour
                 FROM silver_user_events ORDER BY user_id"
            ),
            "user_id,event_type,page_url,session_id,event_timestamp,properties_json,date,hour\n\
             1,page_view,/a,s1,2026-01-05 10:30:00,\"{\"\"x\"\":1}\",2026-01-05,10\n\
             2,purchase,/b,s2,,,,\n"
        );
        assert_eq!(
            pipeline
                .query("SELECT transaction_id, amount, currency, date, amount_usd FROM silver_transactions ORDER BY 1"),
            "transaction_id,amount,currency,date,amount_usd\n\
             t1,10.50,EUR,2026-01-05,11.55\n\
             t2,3.00,USD,,3.0\n"
        );
    }
}
