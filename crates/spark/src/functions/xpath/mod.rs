//! `xpath` and its kin: values out of XML text by XPath 1.0.

mod evaluate;
mod expression;

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Float32Array, Float64Array, ListBuilder, StringArray, StringBuilder};
use arrow::array::{Int16Array, Int32Array, Int64Array};
use arrow::datatypes::DataType;

use super::udf::{BOOLEAN, Call, DOUBLE, Function, INT, LONG, Returns, TEXT, function};
use super::xml::Document;
use crate::error::{Error, Result};
use crate::types::array;
use evaluate::{Value, evaluate};
use expression::Expression;

const FLOAT: Returns = Returns::Type(|| DataType::Float32);
const SHORT: Returns = Returns::Type(|| DataType::Int16);

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["xpath"], (2, 2), Returns::Type(|| array(DataType::Utf8)), |c| {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in each(c, |document, value| match value {
            // Only texts and attributes have a value of their own, elements have not.
            Value::Nodes(nodes) => Ok(nodes.iter().map(|node| document.value(*node).map(str::to_owned)).collect()),
            _ => Err(Error::user("`xpath` needs a path to nodes; use `xpath_string` and its kin for other values")
                .with_condition("INVALID_XPATH")),
        })? {
            let found: Option<Vec<Option<String>>> = row;
            for value in found.iter().flatten() {
                lists.values().append_option(value.as_deref());
            }
            lists.append(found.is_some());
        }
        Ok(Arc::new(lists.finish()))
    })
    .compiles(1),
    function(&["xpath_boolean"], (2, 2), BOOLEAN, |c| {
        Ok(Arc::new(each(c, |_, value| Ok(value.boolean()))?.into_iter().collect::<BooleanArray>()))
    })
    .compiles(1),
    function(&["xpath_string"], (2, 2), TEXT, |c| {
        Ok(Arc::new(each(c, |document, value| Ok(value.text(document)))?.into_iter().collect::<StringArray>()))
    })
    .compiles(1),
    function(&["xpath_double", "xpath_number"], (2, 2), DOUBLE, |c| {
        Ok(Arc::new(numbers(c)?.into_iter().collect::<Float64Array>()))
    })
    .compiles(1),
    function(&["xpath_float"], (2, 2), FLOAT, |c| {
        Ok(Arc::new(numbers(c)?.into_iter().map(|n| n.map(|n| n as f32)).collect::<Float32Array>()))
    })
    .compiles(1),
    // What is no number is 0.
    function(&["xpath_long"], (2, 2), LONG, |c| {
        Ok(Arc::new(numbers(c)?.into_iter().map(|n| n.map(|n| n as i64)).collect::<Int64Array>()))
    })
    .compiles(1),
    function(&["xpath_int"], (2, 2), INT, |c| {
        Ok(Arc::new(numbers(c)?.into_iter().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()))
    })
    .compiles(1),
    function(&["xpath_short"], (2, 2), SHORT, |c| {
        Ok(Arc::new(numbers(c)?.into_iter().map(|n| n.map(|n| n as i32 as i16)).collect::<Int16Array>()))
    })
    .compiles(1),
];

fn numbers(call: &Call<'_>) -> Result<Vec<Option<f64>>> {
    each(call, |document, value| Ok(value.number(document)))
}

/// What the path gives for every text; NULL for an empty text or path.
fn each<T>(call: &Call<'_>, result: impl Fn(&Document, Value) -> Result<T>) -> Result<Vec<Option<T>>> {
    let texts = call.text(0)?;
    let path = call.constant_text(1).flatten().filter(|path| !path.is_empty());
    let Some(path) = path else { return Ok((0..texts.len()).map(|_| None).collect()) };
    let expression = Expression::parse(&path)?;
    let row = |text: Option<&str>| match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let document = Document::parse(text)?;
            let value = evaluate(&document, &expression)?;
            result(&document, value).map(Some)
        }
    };
    texts.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    const XML: &str = "'<a><b>b1</b><b id=\"2\">b2</b><c>c1 &amp; c2</c><n>1</n><n>2.5</n></a>'";

    #[tokio::test]
    async fn values() {
        for (call, expected) in [
            ("xpath({}, 'a/b/text()')", "[b1, b2]"),
            ("xpath({}, 'a/b')", "[null, null]"),
            ("xpath({}, '//@id')", "[2]"),
            ("xpath({}, 'a/z')", "[]"),
            ("xpath_string({}, 'a/c')", "c1 & c2"),
            ("xpath_string({}, 'a/b[2]')", "b2"),
            ("xpath_string({}, '/a/b[@id=\"2\"]/text()')", "b2"),
            ("xpath_string({}, 'a/b[last()]/@id')", "2"),
            ("xpath_string({}, 'a/*[position() = 3]')", "c1 & c2"),
            ("xpath_string({}, 'concat(a/b[1], \"-\", name(a/*[3]))')", "b1-c"),
            ("xpath_string({}, 'a/c/../b')", "b1"),
            ("xpath_string({}, 'a/z')", ""),
            ("xpath_boolean({}, 'a/b')", "true"),
            ("xpath_boolean({}, 'a/z or count(a/b) = 3')", "false"),
            ("xpath_boolean({}, 'not(a/z) and a/n > 2')", "true"),
            ("xpath_double({}, 'sum(a/n)')", "3.5"),
            ("xpath_number({}, 'a/n[2] * 2 - 1')", "4.0"),
            ("xpath_double({}, 'a/b')", "NaN"),
            ("xpath_float({}, 'sum(a/n) div 2')", "1.75"),
            ("xpath_int({}, 'sum(a/n)')", "3"),
            ("xpath_long({}, 'a/b')", "0"),
            ("xpath_short({}, 'count(//b | //n)')", "4"),
            ("xpath_int({}, 'string-length(normalize-space(\" x  y \"))')", "3"),
            ("xpath_string({}, 'substring(\"12345\", 2, 3)')", "234"),
        ] {
            check_all(&[(&call.replace("{}", XML), expected)]).await;
        }
        check_all(&[("xpath_string(NULL, 'a')", "NULL"), ("xpath_string('', 'a')", "NULL")]).await;
    }

    #[tokio::test]
    async fn failures() {
        let path = Err("INVALID_XPATH");
        check("xpath_string('<a/>', 'a[')", path, path).await;
        check("xpath_string('<a/>', 'unknown(a)')", path, path).await;
        let text = Err("INVALID_XML");
        check("xpath_string('<a><b></a>', 'a')", text, text).await;
    }
}
