//! Values as Python pickles them: what workers send of state, and what they are sent.
//!
//! Only plain data is read: numbers, texts, bytes, decimals, and tuples, lists and dictionaries of them. Whatever else a
//! pickle may ask for (classes, calls) is refused, so that nothing runs here that somebody has put into one.

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::row_of_type;

/// A value as Python has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pickled {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// `decimal.Decimal`, as text.
    Decimal(String),
    List(Vec<Pickled>),
    Tuple(Vec<Pickled>),
    /// The entries of a dictionary, in their order.
    Dict(Vec<(Pickled, Pickled)>),
}

impl Pickled {
    /// What Python calls its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::Decimal(_) => "Decimal",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
        }
    }
}
