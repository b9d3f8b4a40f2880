//! XPath 1.0 expressions: read from text.

use crate::error::{Error, Result};

/// Where a step leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Axis {
    Child,
    Attribute,
    Itself,
    Parent,
    /// The node itself and all below it.
    DescendantOrSelf,
    Descendant,
    Ancestor,
    FollowingSibling,
    PrecedingSibling,
}

/// Which nodes of an axis are meant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Name(String),
    /// `*`
    Any,
    /// `text()`
    Text,
    /// `node()`
    Node,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) axis: Axis,
    pub(super) test: Test,
    pub(super) predicates: Vec<Expression>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Number(f64),
    Text(String),
    /// Steps from where the expression stands in, from the root, or from the nodes of another expression.
    Path {
        absolute: bool,
        base: Option<Box<Expression>>,
        steps: Vec<Step>,
    },
    /// Those nodes of an expression for which the predicates hold.
    Filter(Box<Expression>, Vec<Expression>),
    Call(String, Vec<Expression>),
    Negative(Box<Expression>),
    Binary(Box<Expression>, &'static str, Box<Expression>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Number(f64),
    Text(String),
    Symbol(&'static str),
    /// `and`, `*` as a product, …
    Operator(&'static str),
}

const SYMBOLS: [&str; 19] =
    ["//", "::", "..", "!=", "<=", ">=", "/", "(", ")", "[", "]", "@", ",", "|", "+", "-", "=", "<", ">"];
const OPERATORS: [&str; 8] = ["|", "+", "-", "=", "!=", "<", "<=", ">"];

pub(super) fn invalid(path: &str, why: impl std::fmt::Display) -> Error {
    Error::user(format!("`{path}` is not a path of XPath: {why}")).with_condition("INVALID_XPATH")
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// `INVALID_XPATH` (`User`).
    pub(super) fn parse(path: &str) -> Result<Self> {
        let tokens = tokens(path).ok_or_else(|| invalid(path, "it has unknown characters"))?;
        let mut parser = Parser { path, tokens, at: 0 };
        let expression = parser.binary(0)?;
        if parser.at < parser.tokens.len() {
            return Err(parser.unexpected());
        }
        Ok(expression)
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

fn tokens(path: &str) -> Option<Vec<Token>> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = path.trim_start();
    while let Some(first) = rest.chars().next() {
        // After an operand, a star and certain words are operators.
        let operand = match tokens.last() {
            None | Some(Token::Operator(_)) => false,
            Some(Token::Symbol(symbol)) => matches!(*symbol, ")" | "]" | ".." | "."),
            Some(_) => true,
        };
        let (token, length) = if first == '"' || first == '\'' {
            let end = rest[1..].find(first)?;
            (Token::Text(rest[1..=end].to_owned()), end + 2)
        } else if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            (Token::Number(rest[..end].parse().ok()?), end)
        } else if first == '*' {
            (if operand { Token::Operator("*") } else { Token::Name("*".to_owned()) }, 1)
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            let operator = OPERATORS.contains(symbol) || *symbol == ">=";
            (if operator { Token::Operator(symbol) } else { Token::Symbol(symbol) }, symbol.len())
        } else if first == '.' {
            (Token::Symbol("."), 1)
        } else if first.is_alphabetic() || first == '_' {
            let mut end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            // An axis ends before its two colons.
            if let Some(axis) = rest[..end].find("::") {
                end = axis;
            }
            let word = rest[..end].trim_end_matches(':');
            let operator = ["and", "or", "div", "mod"].into_iter().find(|operator| operand && *operator == word);
            (operator.map_or_else(|| Token::Name(word.to_owned()), Token::Operator), word.len())
        } else {
            return None;
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

struct Parser<'a> {
    path: &'a str,
    tokens: Vec<Token>,
    at: usize,
}

/// Operators by how tightly they bind, the loosest first.
const LEVELS: [&[&str]; 7] =
    [&["or"], &["and"], &["=", "!="], &["<", "<=", ">", ">="], &["+", "-"], &["*", "div", "mod"], &["|"]];

impl Parser<'_> {
    fn unexpected(&self) -> Error {
        match self.tokens.get(self.at) {
            Some(token) => invalid(self.path, format!("{token:?} stands where nothing like it may")),
            None => invalid(self.path, "it ends too early"),
        }
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Symbol(s)) if *s == symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn binary(&mut self, level: usize) -> Result<Expression> {
        let Some(operators) = LEVELS.get(level) else { return self.path() };
        // A minus sign binds looser than a union, tighter than a product.
        if level == 6 && self.tokens.get(self.at) == Some(&Token::Operator("-")) {
            self.at += 1;
            return Ok(Expression::Negative(Box::new(self.binary(level)?)));
        }
        let mut left = self.binary(level + 1)?;
        while let Some(Token::Operator(operator)) = self.tokens.get(self.at)
            && operators.contains(operator)
        {
            let operator = *operator;
            self.at += 1;
            left = Expression::Binary(Box::new(left), operator, Box::new(self.binary(level + 1)?));
        }
        Ok(left)
    }

    fn path(&mut self) -> Result<Expression> {
        if self.take("//") {
            let mut steps = vec![anywhere()];
            self.steps(&mut steps)?;
            return Ok(Expression::Path { absolute: true, base: None, steps });
        }
        if self.take("/") {
            let mut steps = Vec::new();
            if self.starts_step() {
                self.steps(&mut steps)?;
            }
            return Ok(Expression::Path { absolute: true, base: None, steps });
        }
        let Some(primary) = self.primary()? else {
            let mut steps = Vec::new();
            self.steps(&mut steps)?;
            return Ok(Expression::Path { absolute: false, base: None, steps });
        };
        let predicates = self.predicates()?;
        let base = if predicates.is_empty() { primary } else { Expression::Filter(Box::new(primary), predicates) };
        let mut steps = Vec::new();
        if self.take("//") {
            steps.push(anywhere());
        } else if !self.take("/") {
            return Ok(base);
        }
        self.steps(&mut steps)?;
        Ok(Expression::Path { absolute: false, base: Some(Box::new(base)), steps })
    }

    /// A constant, a call or an expression in parentheses; `None` if a step follows.
    fn primary(&mut self) -> Result<Option<Expression>> {
        let called = self.tokens.get(self.at + 1) == Some(&Token::Symbol("("));
        let primary = match self.tokens.get(self.at).cloned() {
            Some(Token::Number(number)) => Expression::Number(number),
            Some(Token::Text(text)) => Expression::Text(text),
            Some(Token::Symbol("(")) => {
                self.at += 1;
                let inner = self.binary(0)?;
                self.expect(")")?;
                return Ok(Some(inner));
            }
            Some(Token::Name(name)) if called && !matches!(name.as_str(), "text" | "node") => {
                self.at += 2;
                let mut arguments = Vec::new();
                while !self.take(")") {
                    if !arguments.is_empty() {
                        self.expect(",")?;
                    }
                    arguments.push(self.binary(0)?);
                }
                return Ok(Some(Expression::Call(name, arguments)));
            }
            Some(Token::Name(_) | Token::Symbol("." | ".." | "@")) => return Ok(None),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(Some(primary))
    }

    fn starts_step(&self) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Name(_) | Token::Symbol("." | ".." | "@")))
    }

    fn steps(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        loop {
            steps.push(self.step()?);
            if self.take("//") {
                steps.push(anywhere());
            } else if !self.take("/") {
                return Ok(());
            }
        }
    }

    fn step(&mut self) -> Result<Step> {
        if self.take(".") {
            return Ok(Step { axis: Axis::Itself, test: Test::Node, predicates: self.predicates()? });
        }
        if self.take("..") {
            return Ok(Step { axis: Axis::Parent, test: Test::Node, predicates: self.predicates()? });
        }
        let mut axis = if self.take("@") { Axis::Attribute } else { Axis::Child };
        let mut name = self.name()?;
        if self.take("::") {
            axis = match name.as_str() {
                "child" => Axis::Child,
                "attribute" => Axis::Attribute,
                "self" => Axis::Itself,
                "parent" => Axis::Parent,
                "descendant" => Axis::Descendant,
                "descendant-or-self" => Axis::DescendantOrSelf,
                "ancestor" => Axis::Ancestor,
                "following-sibling" => Axis::FollowingSibling,
                "preceding-sibling" => Axis::PrecedingSibling,
                other => return Err(invalid(self.path, format!("the axis `{other}` is not supported"))),
            };
            name = self.name()?;
        }
        let test = match name.as_str() {
            "text" if self.take("(") => {
                self.expect(")")?;
                Test::Text
            }
            "node" if self.take("(") => {
                self.expect(")")?;
                Test::Node
            }
            "*" => Test::Any,
            _ => Test::Name(name),
        };
        Ok(Step { axis, test, predicates: self.predicates()? })
    }

    fn name(&mut self) -> Result<String> {
        match self.tokens.get(self.at).cloned() {
            Some(Token::Name(name)) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn predicates(&mut self) -> Result<Vec<Expression>> {
        let mut predicates = Vec::new();
        while self.take("[") {
            predicates.push(self.binary(0)?);
            self.expect("]")?;
        }
        Ok(predicates)
    }
}

/// What `//` stands for.
fn anywhere() -> Step {
    Step { axis: Axis::DescendantOrSelf, test: Test::Node, predicates: Vec::new() }
}
