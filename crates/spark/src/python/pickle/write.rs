//! Writes pickles that Python's workers load.

use super::Pickled;

/// The pickle of a row of the struct type that `type_json` describes in Spark's JSON form.
///
/// `values` are as Spark keeps them (a timestamp is a number of microseconds); loading the pickle has PySpark make of
/// them what its users know (a timestamp is a `datetime`).
pub(in crate::python) fn row_of_type(type_json: &str, values: &[Pickled]) -> Vec<u8> {
    let mut out = vec![0x80, 3];
    global(&mut out, "pyspark.sql.types", "_create_row_inbound_converter");
    global(&mut out, "pyspark.sql.types", "_parse_datatype_json_string");
    text(&mut out, type_json);
    // Two calls of one argument each, then one with the values.
    out.extend([0x85, b'R', 0x85, b'R']);
    tuple(&mut out, values);
    out.extend(*b"R.");
    out
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.push(b'c');
    for part in [module, name] {
        out.extend(part.as_bytes());
        out.push(b'\n');
    }
}

fn sized(out: &mut Vec<u8>, code: u8, bytes: &[u8]) {
    out.push(code);
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn text(out: &mut Vec<u8>, value: &str) {
    sized(out, b'X', value.as_bytes());
}

fn tuple(out: &mut Vec<u8>, values: &[Pickled]) {
    out.push(b'(');
    values.iter().for_each(|value| write(out, value));
    out.push(b't');
}

fn write(out: &mut Vec<u8>, value: &Pickled) {
    match value {
        Pickled::None => out.push(b'N'),
        Pickled::Bool(value) => out.push(if *value { 0x88 } else { 0x89 }),
        Pickled::Int(value) => match i32::try_from(*value) {
            Ok(small) => {
                out.push(b'J');
                out.extend(small.to_le_bytes());
            }
            Err(_) => {
                out.extend([0x8a, 16]);
                out.extend(value.to_le_bytes());
            }
        },
        Pickled::Float(value) => {
            out.push(b'G');
            out.extend(value.to_be_bytes());
        }
        Pickled::Text(value) => text(out, value),
        Pickled::Bytes(value) => sized(out, b'B', value),
        Pickled::Decimal(value) => {
            global(out, "decimal", "Decimal");
            text(out, value);
            out.extend([0x85, b'R']);
        }
        Pickled::List(items) => {
            out.extend(*b"](");
            items.iter().for_each(|item| write(out, item));
            out.push(b'e');
        }
        Pickled::Tuple(items) => tuple(out, items),
        Pickled::Dict(entries) => {
            out.extend(*b"}(");
            for (key, value) in entries {
                write(out, key);
                write(out, value);
            }
            out.push(b'u');
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let values = vec![
            Pickled::None,
            Pickled::Bool(false),
            Pickled::Int(-7),
            Pickled::Int(i128::from(i64::MAX)),
            Pickled::Float(-0.5),
            Pickled::Text("ä".to_owned()),
            Pickled::Bytes(vec![0, 255]),
            Pickled::Decimal("-1.20".to_owned()),
            Pickled::List(vec![Pickled::Int(1), Pickled::None]),
            Pickled::Tuple(Vec::new()),
            Pickled::Dict(vec![(Pickled::Text("k".to_owned()), Pickled::Int(2))]),
        ];
        let mut out = vec![0x80, 3];
        tuple(&mut out, &values);
        out.push(b'.');
        assert_eq!(read(&out).unwrap(), Pickled::Tuple(values));
    }
}
