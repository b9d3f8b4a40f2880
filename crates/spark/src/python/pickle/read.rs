//! Reads pickles of protocols 2 to 5.
//!
//! A pickle is a program for a machine with a stack and a memo. Values are kept by number until the end: a list that the
//! memo holds may still grow.

use std::collections::HashMap;

use super::Pickled;
use crate::error::{Error, Result};

/// How deep values may lie within each other; also what ends one that holds itself.
const MAX_DEPTH: usize = 200;

/// The value that `bytes` are the pickle of.
///
/// # Errors
/// `User` if it is no plain data.
pub(in crate::python) fn read(bytes: &[u8]) -> Result<Pickled> {
    let mut machine = Machine { rest: bytes, ..Machine::default() };
    let result = machine.run()?;
    machine.value(result, 0)
}

/// A value whose parts are others by number.
#[derive(Debug, Clone)]
enum Node {
    Leaf(Pickled),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    /// A class or function by its full name.
    Global(String),
}

#[derive(Debug, Default)]
struct Machine<'a> {
    rest: &'a [u8],
    nodes: Vec<Node>,
    stack: Vec<usize>,
    /// Where the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<usize, usize>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<usize> {
        loop {
            let [code] = self.array()?;
            match code {
                // The protocol, and how long a frame is, which a reader of whole pickles need not know.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'N' => self.leaf(Pickled::None),
                0x88 => self.leaf(Pickled::Bool(true)),
                0x89 => self.leaf(Pickled::Bool(false)),
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.leaf(Pickled::Int(value.into()));
                }
                b'K' => {
                    let [value] = self.array()?;
                    self.leaf(Pickled::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.leaf(Pickled::Int(value.into()));
                }
                0x8a => {
                    let length = self.length::<1>()?;
                    self.integer(length)?;
                }
                0x8b => {
                    let length = self.length::<4>()?;
                    self.integer(length)?;
                }
                b'G' => {
                    let value = f64::from_be_bytes(self.array()?);
                    self.leaf(Pickled::Float(value));
                }
                0x8c => self.text::<1>()?,
                b'X' => self.text::<4>()?,
                0x8d => self.text::<8>()?,
                b'C' => self.bytes::<1>()?,
                b'B' => self.bytes::<4>()?,
                0x8e | 0x96 => self.bytes::<8>()?,
                b'(' => self.marks.push(self.stack.len()),
                b')' => self.push(Node::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let from = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or_else(broken)?;
                    let items = self.stack.split_off(from);
                    self.push(Node::Tuple(items));
                }
                b't' => {
                    let items = self.since_mark()?;
                    self.push(Node::Tuple(items));
                }
                b']' => self.push(Node::List(Vec::new())),
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.append(items)?;
                }
                b'}' => self.push(Node::Dict(Vec::new())),
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(vec![key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set_items(items)?;
                }
                0x94 => {
                    let (place, top) = (self.memo.len(), self.top()?);
                    self.memo.insert(place, top);
                }
                b'q' => {
                    let place = self.length::<1>()?;
                    let top = self.top()?;
                    self.memo.insert(place, top);
                }
                b'r' => {
                    let place = self.length::<4>()?;
                    let top = self.top()?;
                    self.memo.insert(place, top);
                }
                b'h' => {
                    let place = self.length::<1>()?;
                    self.recall(place)?;
                }
                b'j' => {
                    let place = self.length::<4>()?;
                    self.recall(place)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Node::Global(format!("{module}.{name}")));
                }
                0x93 => {
                    let (name, module) = (self.pop_text()?, self.pop_text()?);
                    self.push(Node::Global(format!("{module}.{name}")));
                }
                b'R' | 0x81 => {
                    let (arguments, callable) = (self.pop()?, self.pop()?);
                    self.call(callable, arguments)?;
                }
                other => {
                    return Err(Error::user(format!("state holds what is no plain data (pickled as {other:#04x})")));
                }
            }
        }
    }

    /// The calls that plain data consists of: decimals, and rows with names, which are tuples here.
    fn call(&mut self, callable: usize, arguments: usize) -> Result<()> {
        let name = match self.node(callable)? {
            Node::Global(name) => name.clone(),
            _ => return Err(broken()),
        };
        let Node::Tuple(arguments) = self.node(arguments)?.clone() else { return Err(broken()) };
        match (name.as_str(), arguments.as_slice()) {
            ("decimal.Decimal", [text]) => match self.node(*text)? {
                Node::Leaf(Pickled::Text(text)) => {
                    let text = text.clone();
                    self.leaf(Pickled::Decimal(text));
                }
                _ => return Err(broken()),
            },
            ("pyspark.sql.types._create_row", [_, values]) => self.stack.push(*values),
            _ => {
                return Err(Error::user(format!("state holds a value of `{name}`, which is no plain data"))
                    .with_help("Convert it to a number, a text or another type of the state's schema."));
            }
        }
        Ok(())
    }

    /// The value of a node, which is plain data all the way down.
    fn value(&self, node: usize, depth: usize) -> Result<Pickled> {
        if depth > MAX_DEPTH {
            return Err(Error::user("state holds a value that is nested too deep"));
        }
        let all = |items: &[usize]| items.iter().map(|item| self.value(*item, depth + 1)).collect::<Result<Vec<_>>>();
        Ok(match self.node(node)? {
            Node::Leaf(value) => value.clone(),
            Node::List(items) => Pickled::List(all(items)?),
            Node::Tuple(items) => Pickled::Tuple(all(items)?),
            Node::Dict(entries) => {
                let entry =
                    |(key, value): &(usize, usize)| Ok((self.value(*key, depth + 1)?, self.value(*value, depth + 1)?));
                Pickled::Dict(entries.iter().map(entry).collect::<Result<_>>()?)
            }
            Node::Global(name) => return Err(Error::user(format!("state holds `{name}`, which is no plain data"))),
        })
    }

    fn node(&self, number: usize) -> Result<&Node> {
        self.nodes.get(number).ok_or_else(broken)
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn leaf(&mut self, value: Pickled) {
        self.push(Node::Leaf(value));
    }

    fn pop(&mut self) -> Result<usize> {
        self.stack.pop().ok_or_else(broken)
    }

    fn top(&self) -> Result<usize> {
        self.stack.last().copied().ok_or_else(broken)
    }

    fn pop_text(&mut self) -> Result<String> {
        let number = self.pop()?;
        match self.node(number)? {
            Node::Leaf(Pickled::Text(text)) => Ok(text.clone()),
            _ => Err(broken()),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<usize>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or_else(broken)?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<usize>) -> Result<()> {
        let list = self.top()?;
        match self.nodes.get_mut(list) {
            Some(Node::List(all)) => all.extend(items),
            _ => return Err(broken()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<usize>) -> Result<()> {
        let dict = self.top()?;
        match self.nodes.get_mut(dict) {
            Some(Node::Dict(all)) => {
                let (entries, _) = items.as_chunks();
                all.extend(entries.iter().map(|[key, value]| (*key, *value)));
            }
            _ => return Err(broken()),
        }
        Ok(())
    }

    fn recall(&mut self, place: usize) -> Result<()> {
        self.stack.push(*self.memo.get(&place).ok_or_else(broken)?);
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(broken)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(broken)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A little-endian number of `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<usize> {
        let bytes: [u8; N] = self.array()?;
        let number = bytes.iter().rev().try_fold(0_usize, |sum, byte| Some(sum.checked_mul(256)? + usize::from(*byte)));
        number.ok_or_else(broken)
    }

    /// A little-endian number in two's complement.
    fn integer(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?;
        if bytes.len() > 16 {
            return Err(Error::user("state holds a number of more than 128 bits"));
        }
        let negative = bytes.last().is_some_and(|last| *last >= 0x80);
        let mut all = [if negative { 0xff } else { 0 }; 16];
        all[..bytes.len()].copy_from_slice(bytes);
        self.leaf(Pickled::Int(i128::from_le_bytes(all)));
        Ok(())
    }

    fn text<const N: usize>(&mut self) -> Result<()> {
        let length = self.length::<N>()?;
        // Python writes lone surrogates, which are no Unicode; Spark has no place for them either.
        let text = String::from_utf8(self.take(length)?.to_vec())
            .map_err(|_| Error::user("state holds a text that is no valid Unicode"))?;
        self.leaf(Pickled::Text(text));
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<()> {
        let length = self.length::<N>()?;
        let bytes = self.take(length)?.to_vec();
        self.leaf(Pickled::Bytes(bytes));
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let line = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(line)
    }
}

fn broken() -> Error {
    Error::internal("Python sent state that is no valid pickle")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn check(pickle: &str, expected: Pickled) {
        assert_eq!(read(&hex(pickle)).unwrap(), expected);
    }

    fn text(text: &str) -> Pickled {
        Pickled::Text(text.to_owned())
    }

    // The pickles are what `pickle.dumps(value, 5).hex()` gives.

    #[test]
    fn numbers_of_any_width() {
        // (1, 256, -1, 2**40, -2**70, 1.5, True, None)
        check(
            "8005952c00000000000000284b014d00014affffffff8a060000000000018a090000000000000000c0473ff8000000000000884e74942e",
            Pickled::Tuple(vec![
                Pickled::Int(1),
                Pickled::Int(256),
                Pickled::Int(-1),
                Pickled::Int(1 << 40),
                Pickled::Int(-(1 << 70)),
                Pickled::Float(1.5),
                Pickled::Bool(true),
                Pickled::None,
            ]),
        );
    }

    #[test]
    fn a_list_that_is_there_twice_is_whole_both_times() {
        // l = ["a", b"b"]; (l, l, {"k": l[0]})
        let list = Pickled::List(vec![text("a"), Pickled::Bytes(vec![b'b'])]);
        check(
            "8005951a000000000000005d94288c016194430162946568007d948c016b9468017387942e",
            Pickled::Tuple(vec![list.clone(), list, Pickled::Dict(vec![(text("k"), text("a"))])]),
        );
    }

    #[test]
    fn decimals_rows_and_byte_arrays() {
        // (decimal.Decimal("1.50"), Row(x=1), bytearray(b"x"))
        check(
            "80059562000000000000008c07646563696d616c948c07446563696d616c9493948c04312e353094859452948c117079737061726b2e7371\
             6c2e7479706573948c0b5f6372656174655f726f779493945d948c017894614b01859486945294960100000000000000789487942e",
            Pickled::Tuple(vec![
                Pickled::Decimal("1.50".to_owned()),
                Pickled::Tuple(vec![Pickled::Int(1)]),
                Pickled::Bytes(vec![b'x']),
            ]),
        );
    }

    #[test]
    fn what_is_no_plain_data_is_refused() {
        let message = |pickle: &str| read(&hex(pickle)).unwrap_err().message().to_owned();
        // (datetime.date(2024, 1, 1),)
        assert_eq!(
            message("80059522000000000000008c086461746574696d65948c0464617465949394430407e80101948594529485942e"),
            "state holds a value of `datetime.date`, which is no plain data"
        );
        // l = []; l.append(l); (l,)
        assert_eq!(message("80059508000000000000005d9468006185942e"), "state holds a value that is nested too deep");
        assert_eq!(message("80054b"), "Python sent state that is no valid pickle");
    }
}
