//! Errors as gRPC statuses, in the form from which PySpark makes its own exceptions.

use std::collections::HashMap;

use prost::Message;
use tonic::{Code, Status};

use super::proto::fetch_error_details_response;
use crate::error::{Error, Kind};

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// The most bytes of a message that travel in a status; HTTP/2 headers are limited.
const MAX_MESSAGE: usize = 2_048;

/// The status of an error: its text, and Spark's class of exception as details.
pub fn status(error: &Error) -> Status {
    status_with_id(error, None)
}

/// As [`status`], for an error that the client may ask more about under `id`.
pub(super) fn status_with_id(error: &Error, id: Option<&str>) -> Status {
    let message = cut(&told(error));
    let classes = classes(error);
    let mut metadata = HashMap::from([(
        "classes".to_owned(),
        serde_json::Value::from(classes.iter().map(|class| serde_json::Value::from(*class)).collect::<Vec<_>>())
            .to_string(),
    )]);
    if let Some(id) = id {
        metadata.insert("errorId".to_owned(), id.to_owned());
    }
    if let Some(condition) = error.condition() {
        metadata.insert("errorClass".to_owned(), condition.to_owned());
        metadata.insert("sqlState".to_owned(), sql_state(condition).to_owned());
    }
    metadata.insert("messageParameters".to_owned(), serde_json::json!(parameters(error)).to_string());
    let info = ErrorInfo {
        reason: classes.first().map_or("org.apache.spark.SparkException", |class| class).to_owned(),
        domain: "org.apache.spark".to_owned(),
        metadata,
    };
    let code = code(error);
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    let rpc = RpcStatus { code: code as i32, message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, rpc.encode_to_vec().into())
}

/// The whole of an error, as `FetchErrorDetails` tells it.
pub(super) fn details(error: &Error) -> fetch_error_details_response::Error {
    use fetch_error_details_response::SparkThrowable;
    fetch_error_details_response::Error {
        error_type_hierarchy: classes(error).into_iter().map(str::to_owned).collect(),
        message: told(error),
        spark_throwable: Some(SparkThrowable {
            error_class: error.condition().map(str::to_owned),
            message_parameters: parameters(error),
            sql_state: error.condition().map(|condition| sql_state(condition).to_owned()),
            ..SparkThrowable::default()
        }),
        ..fetch_error_details_response::Error::default()
    }
}

/// The message, and where the user's code raised it.
fn told(error: &Error) -> String {
    match error.traceback() {
        Some(traceback) => format!("{error}\n\n{}", traceback.trim_end()),
        None => error.to_string(),
    }
}

/// What a program can act on: the values in the message, or the dataset that is not there yet.
fn parameters(error: &Error) -> HashMap<String, String> {
    let mut parameters: HashMap<String, String> =
        error.parameters().iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    if let Some(condition) = error.condition()
        && condition.starts_with("DELTAWORKS_")
        && let Some(dataset) = error.message().split('`').nth(1)
    {
        parameters.insert("dataset".to_owned(), dataset.to_owned());
    }
    parameters
}

fn cut(message: &str) -> String {
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &message[..end])
}

fn code(error: &Error) -> Code {
    match (error.condition(), error.kind()) {
        (Some("INVALID_HANDLE.OPERATION_NOT_FOUND" | "INVALID_HANDLE.SESSION_NOT_FOUND"), _) => Code::NotFound,
        (_, Kind::Cancelled) => Code::Cancelled,
        // The client tries UNAVAILABLE again for minutes; what we cannot reach will not come back that soon.
        _ => Code::Internal,
    }
}

/// The class hierarchy PySpark looks its exception up by.
fn classes(error: &Error) -> Vec<&'static str> {
    const PARSE: &str = "org.apache.spark.sql.catalyst.parser.ParseException";
    const ANALYSIS: &str = "org.apache.spark.sql.AnalysisException";
    const UNSUPPORTED: &str = "java.lang.UnsupportedOperationException";
    const ARITHMETIC: &str = "java.lang.ArithmeticException";
    const NUMBER: &str = "java.lang.NumberFormatException";
    const DATE_TIME: &str = "java.time.DateTimeException";
    const INDEX: &str = "java.lang.ArrayIndexOutOfBoundsException";
    const ARGUMENT: &str = "java.lang.IllegalArgumentException";
    const RUNTIME: &str = "org.apache.spark.SparkRuntimeException";
    const SPARK: &str = "org.apache.spark.SparkException";
    let condition = error.condition().unwrap_or_default();
    match error.kind() {
        _ if condition.starts_with("PARSE_SYNTAX_ERROR") => vec![PARSE, ANALYSIS],
        Kind::User if condition.starts_with("INVALID_CONF_VALUE") => vec![ARGUMENT],
        _ if condition == "PYTHON_EXCEPTION" => vec!["org.apache.spark.api.python.PythonException"],
        Kind::User if condition == "SQL_CONF_NOT_FOUND" => vec!["org.apache.spark.SparkNoSuchElementException"],
        Kind::User => vec![ANALYSIS],
        Kind::Unsupported => vec![UNSUPPORTED],
        Kind::Data => match condition.split('.').next().unwrap_or_default() {
            "DIVIDE_BY_ZERO" | "REMAINDER_BY_ZERO" | "INTERVAL_DIVIDED_BY_ZERO" => vec![ARITHMETIC],
            "ARITHMETIC_OVERFLOW" | "CAST_OVERFLOW" | "NUMERIC_VALUE_OUT_OF_RANGE" => vec![ARITHMETIC],
            "CAST_INVALID_INPUT" => vec![NUMBER, ARGUMENT],
            "CANNOT_PARSE_TIMESTAMP" | "DATETIME_OVERFLOW" | "DATETIME_FIELD_OUT_OF_BOUNDS" => vec![DATE_TIME],
            "INVALID_ARRAY_INDEX" | "INVALID_ARRAY_INDEX_IN_ELEMENT_AT" => vec![INDEX],
            _ => vec![RUNTIME, SPARK],
        },
        Kind::Conflict | Kind::Unavailable | Kind::Cancelled | Kind::Internal => vec![SPARK],
    }
}

/// The SQLSTATE of the commonest conditions; `XX000` for the rest.
fn sql_state(condition: &str) -> &'static str {
    match condition.split('.').next().unwrap_or_default() {
        "TABLE_OR_VIEW_NOT_FOUND" => "42P01",
        "UNRESOLVED_COLUMN" => "42703",
        "UNRESOLVED_ROUTINE" => "42883",
        "AMBIGUOUS_REFERENCE" => "42704",
        "PARSE_SYNTAX_ERROR" | "PARSE_MODE_UNSUPPORTED" => "42601",
        "DATATYPE_MISMATCH" => "42K09",
        "MISSING_AGGREGATION" => "42803",
        "NUM_COLUMNS_MISMATCH" => "42826",
        "COLUMN_ALREADY_EXISTS" => "42711",
        "DIVIDE_BY_ZERO" | "REMAINDER_BY_ZERO" | "INTERVAL_DIVIDED_BY_ZERO" => "22012",
        "ARITHMETIC_OVERFLOW" | "CAST_OVERFLOW" | "NUMERIC_VALUE_OUT_OF_RANGE" => "22003",
        "CAST_INVALID_INPUT" | "CANNOT_PARSE_PROTOBUF_DESCRIPTOR" => "22018",
        "MALFORMED_RECORD_IN_PARSING" | "INVALID_VECTOR_NORM_DEGREE" => "22023",
        "VECTOR_DIMENSION_MISMATCH" => "22000",
        "AVRO_CANNOT_WRITE_NULL_FIELD" => "22004",
        "INVALID_OPTIONS" => "42K06",
        "CANNOT_LOAD_PROTOBUF_CLASS" => "42K03",
        "CANNOT_CONVERT_SQL_VALUE_TO_PROTOBUF_ENUM_TYPE" => "42846",
        "PROTOBUF_DEPENDENCY_NOT_FOUND"
        | "PROTOBUF_DESCRIPTOR_FILE_NOT_FOUND"
        | "PROTOBUF_MESSAGE_NOT_FOUND"
        | "PROTOBUF_TYPE_NOT_SUPPORT"
        | "RECURSIVE_PROTOBUF_SCHEMA"
        | "UNABLE_TO_CONVERT_TO_PROTOBUF_MESSAGE_TYPE" => "42K0G",
        "UNSUPPORTED_TIME_TYPE" => "0A000",
        "FIELD_NOT_FOUND" => "42704",
        "INVALID_HANDLE" => "HY000",
        _ => "XX000",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn info(status: &Status) -> ErrorInfo {
        let rpc = RpcStatus::decode(status.details()).unwrap();
        ErrorInfo::decode(rpc.details[0].value.as_slice()).unwrap()
    }

    #[test]
    fn errors_carry_sparks_class() {
        let error = Error::user("table `x` does not exist").with_condition("TABLE_OR_VIEW_NOT_FOUND");
        let status = status(&error);
        let info = info(&status);
        assert_eq!(info.metadata["classes"], r#"["org.apache.spark.sql.AnalysisException"]"#);
        assert_eq!(info.metadata["sqlState"], "42P01");
        assert!(status.message().starts_with("[TABLE_OR_VIEW_NOT_FOUND] table `x`"));
    }

    #[test]
    fn waiting_errors_name_the_dataset() {
        let error = Error::user("dataset `a.b` is not defined yet").with_condition("DELTAWORKS_DATASET_NOT_READY");
        assert_eq!(info(&status(&error)).metadata["messageParameters"], r#"{"dataset":"a.b"}"#);
    }
}
