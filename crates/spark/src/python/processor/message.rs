//! The messages between the handle of a user's processor in Python and the state behind it: Spark's `StateMessage`,
//! by the numbers of its fields.

use prost::{Message, Oneof};

/// The answer was given.
pub(super) const OK: i32 = 0;
/// The request failed.
pub(super) const FAILED: i32 = 1;
/// There is no such value.
pub(super) const ABSENT: i32 = 2;

/// What a handle asks.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(oneof = "Method", tags = "2, 3, 4, 5, 6")]
    pub method: Option<Method>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Method {
    #[prost(message, tag = "2")]
    Processor(ProcessorCall),
    #[prost(message, tag = "3")]
    Variable(VariableCall),
    #[prost(message, tag = "4")]
    Key(KeyCall),
    #[prost(message, tag = "5")]
    Time(TimeCall),
    #[prost(message, tag = "6")]
    Utils(UtilsCall),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessorCall {
    #[prost(oneof = "OfProcessor", tags = "1, 2, 3, 4, 5, 6")]
    pub method: Option<OfProcessor>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfProcessor {
    #[prost(message, tag = "1")]
    Phase(SetPhase),
    #[prost(message, tag = "2")]
    GetValue(Declaration),
    #[prost(message, tag = "3")]
    GetList(Declaration),
    #[prost(message, tag = "4")]
    GetMap(Declaration),
    #[prost(message, tag = "5")]
    Timer(TimerCall),
    #[prost(message, tag = "6")]
    DeleteIfExists(Declaration),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetPhase {
    #[prost(enumeration = "Phase", tag = "1")]
    pub phase: i32,
}

/// How far a processor has come with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Phase {
    PreInit = 0,
    Created = 1,
    Initialized = 2,
    DataProcessed = 3,
    TimerProcessed = 4,
    Closed = 5,
}

impl Phase {
    /// As Spark's messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PreInit => "PRE_INIT",
            Self::Created => "CREATED",
            Self::Initialized => "INITIALIZED",
            Self::DataProcessed => "DATA_PROCESSED",
            Self::TimerProcessed => "TIMER_PROCESSED",
            Self::Closed => "CLOSED",
        }
    }
}

/// A state variable; of a map, `schema` is that of its keys.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Declaration {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub schema: String,
    #[prost(string, tag = "3")]
    pub map_value_schema: String,
    #[prost(message, optional, tag = "4")]
    pub ttl: Option<Ttl>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Ttl {
    #[prost(int64, tag = "1")]
    pub duration_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimerCall {
    #[prost(oneof = "OfTimer", tags = "1, 2, 3")]
    pub method: Option<OfTimer>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfTimer {
    #[prost(message, tag = "1")]
    Register(Expiry),
    #[prost(message, tag = "2")]
    Delete(Expiry),
    #[prost(message, tag = "3")]
    List(Cursor),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Expiry {
    #[prost(int64, tag = "1")]
    pub at_ms: i64,
}

/// A place in a sequence that is fetched part by part.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Cursor {
    #[prost(string, tag = "1")]
    pub id: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Nothing {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct One {
    #[prost(bytes = "vec", tag = "1")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Many {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub values: Vec<Vec<u8>>,
    /// Whether the values follow as Arrow batches, which PySpark 4.2 never asks for.
    #[prost(bool, tag = "2")]
    pub follow_as_arrow: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Pair {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VariableCall {
    #[prost(oneof = "OfVariable", tags = "1, 2, 3")]
    pub method: Option<OfVariable>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfVariable {
    #[prost(message, tag = "1")]
    Value(ValueCall),
    #[prost(message, tag = "2")]
    List(ListCall),
    #[prost(message, tag = "3")]
    Map(MapCall),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueCall {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "OfValue", tags = "2, 3, 4, 5")]
    pub method: Option<OfValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfValue {
    #[prost(message, tag = "2")]
    Exists(Nothing),
    #[prost(message, tag = "3")]
    Get(Nothing),
    #[prost(message, tag = "4")]
    Update(One),
    #[prost(message, tag = "5")]
    Clear(Nothing),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListCall {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "OfList", tags = "2, 3, 4, 5, 6, 7")]
    pub method: Option<OfList>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfList {
    #[prost(message, tag = "2")]
    Exists(Nothing),
    #[prost(message, tag = "3")]
    Get(Cursor),
    #[prost(message, tag = "4")]
    Put(Many),
    #[prost(message, tag = "5")]
    AppendValue(One),
    #[prost(message, tag = "6")]
    AppendList(Many),
    #[prost(message, tag = "7")]
    Clear(Nothing),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MapCall {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "OfMap", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub method: Option<OfMap>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfMap {
    #[prost(message, tag = "2")]
    Exists(Nothing),
    #[prost(message, tag = "3")]
    Get(One),
    #[prost(message, tag = "4")]
    Contains(One),
    #[prost(message, tag = "5")]
    Update(Pair),
    #[prost(message, tag = "6")]
    Entries(Cursor),
    #[prost(message, tag = "7")]
    Keys(Cursor),
    #[prost(message, tag = "8")]
    Values(Cursor),
    #[prost(message, tag = "9")]
    Remove(One),
    #[prost(message, tag = "10")]
    Clear(Nothing),
}

/// Which group the calls that follow are for.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyCall {
    #[prost(oneof = "OfKey", tags = "1, 2")]
    pub method: Option<OfKey>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfKey {
    #[prost(message, tag = "1")]
    Set(One),
    #[prost(message, tag = "2")]
    Remove(Nothing),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeCall {
    #[prost(oneof = "OfTime", tags = "1, 2")]
    pub method: Option<OfTime>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfTime {
    #[prost(message, tag = "1")]
    Now(NowCall),
    #[prost(message, tag = "2")]
    Expired(ExpiredCall),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NowCall {
    #[prost(oneof = "OfNow", tags = "1, 2")]
    pub method: Option<OfNow>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(super) enum OfNow {
    #[prost(message, tag = "1")]
    ProcessingTime(Nothing),
    #[prost(message, tag = "2")]
    Watermark(Nothing),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExpiredCall {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(int64, tag = "2")]
    pub until_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UtilsCall {
    #[prost(oneof = "OfUtils", tags = "1")]
    pub method: Option<OfUtils>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OfUtils {
    #[prost(message, tag = "1")]
    ParseSchema(SchemaText),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SchemaText {
    #[prost(string, tag = "1")]
    pub text: String,
}

/// The plain answer; any other begins like it, so that a failure can be told to whoever waits for another.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(int32, tag = "1")]
    pub status: i32,
    #[prost(string, tag = "2")]
    pub error: String,
    #[prost(bytes = "vec", tag = "3")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NumberAnswer {
    #[prost(int64, tag = "3")]
    pub value: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TextAnswer {
    #[prost(string, tag = "3")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValuesAnswer {
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub values: Vec<Vec<u8>>,
    #[prost(bool, tag = "4")]
    pub more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PairsAnswer {
    #[prost(message, repeated, tag = "3")]
    pub pairs: Vec<Pair>,
    #[prost(bool, tag = "4")]
    pub more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Timer {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub key: Option<Vec<u8>>,
    #[prost(int64, tag = "2")]
    pub at_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimersAnswer {
    #[prost(message, repeated, tag = "3")]
    pub timers: Vec<Timer>,
    #[prost(bool, tag = "4")]
    pub more: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_python_writes_it() {
        // StateRequest(version=0, stateVariableRequest=StateVariableRequest(mapStateCall=MapStateCall(
        //     stateName="m", updateValue=UpdateValue(userKey=b"k", value=b"v"))))
        let bytes = [0x1a, 13, 0x1a, 11, 0x0a, 1, b'm', 0x2a, 6, 0x0a, 1, b'k', 0x12, 1, b'v'];
        let update = Pair { key: b"k".to_vec(), value: b"v".to_vec() };
        let call = MapCall { name: "m".to_owned(), method: Some(OfMap::Update(update)) };
        let method = Method::Variable(VariableCall { method: Some(OfVariable::Map(call)) });
        assert_eq!(Request::decode(bytes.as_slice()).unwrap(), Request { method: Some(method) });
    }
}
