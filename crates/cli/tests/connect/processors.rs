//! Stateful processors of a client, over tables.

use crate::support::Server;

#[test]
fn a_processor_keeps_state_for_the_length_of_a_query() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
import pandas as pd
from pyspark.sql import Row
from pyspark.sql.streaming.stateful_processor import StatefulProcessor

spark = connect()
numbers = spark.createDataFrame([("a", 1), ("b", 2), ("a", 3), (None, 4)], "k STRING, n INT")

class InPandas(StatefulProcessor):
    def init(self, handle):
        self.handle = handle
        self.total = handle.getValueState("total", "n INT")

    def handleInitialState(self, key, initialState, timerValues):
        self.total.update((int(initialState["n"].sum()),))

    def handleInputRows(self, key, rows, timerValues):
        total = (self.total.get() or (0,))[0] + sum(int(frame["n"].sum()) for frame in rows)
        self.total.update((total,))
        if timerValues.getCurrentProcessingTimeInMs() > 0:
            self.handle.registerTimer(5)
        yield pd.DataFrame({"k": [key[0]], "total": [total]})

    def handleExpiredTimer(self, key, timerValues, expiredTimerInfo):
        yield pd.DataFrame({"k": [key[0]], "total": [-self.total.get()[0]]})

class InRows(StatefulProcessor):
    def init(self, handle):
        self.seen = handle.getListState("seen", "n INT")

    def handleInputRows(self, key, rows, timerValues):
        for row in rows:
            self.seen.appendValue((row.n,))
        yield Row(k=key.k if hasattr(key, "k") else key[0], seen=[n for n, in self.seen.get()])

def rows(df):
    return sorted((tuple(row) for row in df.collect()), key=str)

def totals(time, **more):
    return rows(numbers.groupBy("k").transformWithStateInPandas(InPandas(), "k STRING, total INT", "append", time, **more))

assert totals("None") == [("a", 4), ("b", 2), (None, 4)], totals("None")
assert totals("ProcessingTime") == [("a", -4), ("a", 4), ("b", -2), ("b", 2), (None, -4), (None, 4)]
opening = spark.createDataFrame([("b", 100), ("c", 200)], "k STRING, n INT").groupBy("k")
assert totals("None", initialState=opening) == [("a", 4), ("b", 102), (None, 4)]
seen = numbers.groupBy("k").transformWithState(InRows(), "k STRING, seen ARRAY<INT>", "append", "None")
assert seen.schema.simpleString() == "struct<k:string,seen:array<int>>"
assert rows(seen.where("k = 'a'")) == [("a", [1, 3])]
assert rows(numbers.where("n > 9").groupBy("k").transformWithState(InRows(), "k STRING, seen ARRAY<INT>", "append", "None")) == []

class Timed(InRows):
    def handleInputRows(self, key, rows, timerValues):
        self.seen.put([])

try:
    numbers.groupBy("k").transformWithState(Timed(), "k STRING, seen ARRAY<INT>", "append", "None").collect()
    raise SystemExit("an empty list")
except Exception as error:
    assert error.getCondition() == "ILLEGAL_STATE_STORE_VALUE.EMPTY_LIST_VALUE", error
"#,
    );
}
