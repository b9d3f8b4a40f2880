//! Plans and rows that are larger than a message may be.

use crate::support::Server;

#[test]
fn large_plans_travel_compressed() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
spark = connect()
sent = []
stub = spark.client._stub
class Spy:
    def __getattr__(self, name):
        return getattr(stub, name)
    def ExecutePlan(self, request, **options):
        sent.append((request.plan.WhichOneof("op_type"), request.ByteSize()))
        return stub.ExecutePlan(request, **options)
    def AnalyzePlan(self, request, **options):
        sent.append((request.schema.plan.WhichOneof("op_type"), request.ByteSize()))
        return stub.AnalyzePlan(request, **options)
spark.client._stub = Spy()
text = "x" * (11 << 20)
df = spark.range(3).select(F.length(F.lit(text)).alias("n"))
assert [r.n for r in df.collect()] == [11 << 20] * 3
assert df.schema.names == ["n"]
df.createTempView("v")
assert spark.sql(f"SELECT length('{text}') AS n").first().n == 11 << 20
large = [size for kind, size in sent if kind == "compressed_operation"]
assert len(large) >= 3 and max(large) < 1 << 20, sent
assert all(size < 1 << 20 for _, size in sent), sent
assert spark.table("v").count() == 3

# Compression is as the session wants it.
other = connect()
other.conf.set("spark.connect.session.planCompression.threshold", "-1")
assert other.client._get_plan_compression_threshold_and_algorithm()[0] == -1
"#,
    );
}

#[test]
fn rows_larger_than_a_message_come_in_chunks() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
spark = connect()
# One row of 160 MiB, more than the client takes in a message.
row = spark.range(1).select(F.repeat(F.lit("x" * 1024), 160 * 1024).alias("s")).first()
assert len(row.s) == 160 << 20 and set(row.s) == {"x"}

chunks = []
client = spark.client
client._preferred_arrow_chunk_size = 2000
execute = client._stub.ExecutePlan
class Spy:
    def __getattr__(self, name):
        return getattr(stub, name)
    def ExecutePlan(self, request, **options):
        for response in stub.ExecutePlan(request, **options):
            if response.HasField("arrow_batch"):
                chunks.append((len(response.arrow_batch.data), response.arrow_batch.num_chunks_in_batch))
            yield response
stub, client._stub = client._stub, Spy()
assert [r.id for r in spark.range(10_000).collect()] == list(range(10_000))
assert len(chunks) > 10 and all(size <= 2000 and count > 1 for size, count in chunks), chunks
"#,
    );
}

#[test]
fn large_local_data_comes_as_artifacts() {
    let server = Server::start(&[], &[]);
    server.check(
        r#"
import pandas as pd
spark = connect()
spark.conf.set("spark.sql.session.localRelationChunkSizeRows", "1000")
size = 300_000
df = spark.createDataFrame(pd.DataFrame({"id": range(size), "s": [f"value {i}" for i in range(size)]}))
assert "chunked_cached_local_relation" in str(df._plan.plan(spark.client)), "it was sent within the plan"
assert df.count() == size
assert df.agg(F.sum("id")).first()[0] == size * (size - 1) // 2
assert df.filter("s = 'value 299999'").first().id == 299_999
"#,
    );
}
