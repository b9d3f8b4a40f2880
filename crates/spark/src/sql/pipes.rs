//! The pipe operator `|>`: a query that names its steps in the order they are taken, as the query that nests them.
//!
//! It is done on tokens, which keep their places. A step goes into the select that is being built as long as its clause
//! may still follow there; else that select becomes what a new one reads, under the name that its columns had.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::spellings::REPLACES;
use super::tokens::is_word;

type Tokens = Vec<TokenWithSpan>;

/// What stands on the right of a `|>` that is none of Spark's operators, or is not supported.
pub(super) struct Unknown(pub(super) TokenWithSpan);

/// The tokens without pipes.
pub(super) fn unpiped(tokens: Tokens) -> Result<Tokens, Unknown> {
    if !tokens.iter().any(is_pipe) {
        return Ok(tokens);
    }
    let mut out: Tokens = Vec::with_capacity(tokens.len());
    let mut opened: Vec<usize> = Vec::new();
    for token in tokens {
        match token.token {
            Token::LParen => opened.push(out.len() + 1),
            Token::RParen => {
                if let Some(start) = opened.pop() {
                    let inner = out.split_off(start);
                    out.extend(group(inner)?);
                }
            }
            _ => {}
        }
        out.push(token);
    }
    group(out)
}

fn is_pipe(token: &TokenWithSpan) -> bool {
    token.token == Token::VerticalBarRightAngleBracket
}

fn is_any(token: &TokenWithSpan, words: &[&str]) -> bool {
    words.iter().any(|word| is_word(token, word))
}

/// The parts of `tokens` between those outside of parentheses that `is_end` tells.
fn split(tokens: Tokens, is_end: impl Fn(&TokenWithSpan) -> bool) -> Vec<Tokens> {
    let mut parts = vec![Tokens::new()];
    let mut depth = 0_usize;
    for token in tokens {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (depth == 0 && is_end(&token), parts.last_mut()) {
            (false, Some(part)) => part.push(token),
            _ => parts.push(Tokens::new()),
        }
    }
    parts
}

/// Where the first token outside of parentheses is for which `test` holds.
fn outside(tokens: &[TokenWithSpan], test: impl Fn(&TokenWithSpan) -> bool) -> Option<usize> {
    let mut depth = 0_usize;
    tokens.iter().position(|token| {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token.token != Token::RParen && test(token)
    })
}

/// What stands between two parentheses, or all of it, whose inner parentheses hold no pipes any more.
fn group(tokens: Tokens) -> Result<Tokens, Unknown> {
    if outside(&tokens, is_pipe).is_none() {
        return Ok(tokens);
    }
    let end = outside(&tokens, |token| token.token == Token::SemiColon).unwrap_or(tokens.len());
    let mut tokens = tokens;
    let rest = tokens.split_off(end);
    let mut steps = split(tokens, is_pipe).into_iter();
    let mut head = steps.next().unwrap_or_default();
    let start = outside(&head, |token| is_any(token, &["select", "from", "values"])).unwrap_or(0);
    let query = head.split_off(start);
    let mut block = Block::of(query);
    for step in steps {
        block.step(step)?;
    }
    head.extend(block.query());
    head.extend(rest);
    Ok(head)
}

/// How far a select has come: a clause of an earlier stage cannot be added any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    From,
    Where,
    Select,
    Order,
    Limit,
}

/// A select that is being built.
struct Block {
    stage: Stage,
    from: Tokens,
    conditions: Vec<Tokens>,
    items: Option<Tokens>,
    /// `GROUP BY …`, `ORDER BY …`, `LIMIT …`, in the order of the clauses.
    clauses: Tokens,
    /// The name of the one relation that is read.
    alias: Option<TokenWithSpan>,
    /// Where what is made up is said to stand.
    place: TokenWithSpan,
}

impl Block {
    fn of(query: Tokens) -> Self {
        let place = query.first().cloned().unwrap_or_else(|| TokenWithSpan::wrap(Token::EOF));
        let mut block = Self {
            stage: Stage::From,
            from: Tokens::new(),
            conditions: Vec::new(),
            items: None,
            clauses: Tokens::new(),
            alias: None,
            place,
        };
        let is_from = query.first().is_some_and(|first| is_word(first, "from"));
        let words = ["select", "where", "group", "having", "order", "limit", "union", "except", "intersect", "lateral"];
        if is_from && outside(&query, |token| is_any(token, &words)).is_none() {
            block.from = query.into_iter().skip(1).collect();
            let last = block.from.last().cloned();
            let joined = outside(&block.from, |t| t.token == Token::Comma || is_word(t, "join")).is_some();
            block.alias = last.filter(|last| matches!(last.token, Token::Word(_)) && !joined);
        } else {
            block.from = block.parenthesized(query);
        }
        block
    }

    fn word(&self, text: &str) -> TokenWithSpan {
        TokenWithSpan { token: Token::make_word(text, None), span: self.place.span }
    }

    fn sign(&self, token: Token) -> TokenWithSpan {
        TokenWithSpan { token, span: self.place.span }
    }

    fn parenthesized(&self, tokens: Tokens) -> Tokens {
        let ends = (self.sign(Token::LParen), self.sign(Token::RParen));
        std::iter::once(ends.0).chain(tokens).chain([ends.1]).collect()
    }

    /// The select as it is.
    fn query(&self) -> Tokens {
        let mut query = vec![self.word("SELECT")];
        query.extend(self.items.clone().unwrap_or_else(|| vec![self.sign(Token::Mul)]));
        query.push(self.word("FROM"));
        query.extend(self.from.iter().cloned());
        for (i, condition) in self.conditions.iter().enumerate() {
            query.push(self.word(if i == 0 { "WHERE" } else { "AND" }));
            query.extend(self.parenthesized(condition.clone()));
        }
        query.extend(self.clauses.iter().cloned());
        query
    }

    /// Goes on with a select that reads from this one.
    fn nest(&mut self) {
        let mut from = self.parenthesized(self.query());
        if let Some(alias) = &self.alias {
            from.extend([self.word("AS"), alias.clone()]);
        }
        self.read(from);
    }

    fn read(&mut self, from: Tokens) {
        self.from = from;
        (self.stage, self.items) = (Stage::From, None);
        self.conditions.clear();
        self.clauses.clear();
    }

    /// Makes sure that a clause may follow.
    fn reach(&mut self, stage: Stage) {
        let may_repeat = matches!(stage, Stage::From | Stage::Where);
        if self.stage > stage || (self.stage == stage && !may_repeat) {
            self.nest();
        }
        self.stage = stage;
    }

    fn select(&mut self, items: Tokens) {
        self.reach(Stage::Select);
        self.items = Some(items);
    }

    fn step(&mut self, step: Tokens) -> Result<(), Unknown> {
        let Some(first) = step.first().cloned() else { return Err(Unknown(self.place.clone())) };
        self.place = first.clone();
        let rest: Tokens = step.iter().skip(1).cloned().collect();
        let Token::Word(word) = &first.token else { return Err(Unknown(first)) };
        match word.value.to_ascii_lowercase().as_str() {
            "where" => {
                self.reach(Stage::Where);
                self.conditions.push(rest);
            }
            "select" => {
                let end = outside(&rest, |token| is_any(token, &["order", "window", "limit"])).unwrap_or(rest.len());
                let (items, clauses) = rest.split_at(end);
                self.select(items.to_vec());
                self.clauses.extend(clauses.iter().cloned());
                if !clauses.is_empty() {
                    self.stage = Stage::Limit;
                }
            }
            "extend" => {
                let all = [self.sign(Token::Mul), self.sign(Token::Comma)];
                self.select(all.into_iter().chain(rest).collect());
            }
            "set" => self.set(rest)?,
            "drop" => {
                let columns = self.parenthesized(rest);
                let all = [self.sign(Token::Mul), self.word("EXCEPT")];
                self.select(all.into_iter().chain(columns).collect());
            }
            "as" => {
                self.alias = rest.into_iter().next();
                self.nest();
            }
            "aggregate" => self.aggregate(rest)?,
            "order" => {
                self.reach(Stage::Order);
                self.clauses.extend(step);
            }
            "limit" | "offset" => {
                self.reach(Stage::Limit);
                self.clauses.extend(step);
            }
            "join" | "inner" | "left" | "right" | "full" | "cross" | "natural" | "semi" | "anti" => {
                self.reach(Stage::From);
                self.from.extend(step);
                // Names of both sides are known until the next select.
                self.alias = None;
            }
            "union" | "except" | "minus" | "intersect" => {
                let mut both = self.parenthesized(self.query());
                both.extend(step);
                let both = self.parenthesized(both);
                self.alias = None;
                self.read(both);
            }
            "pivot" | "unpivot" | "tablesample" => {
                let mut from = self.parenthesized(self.query());
                from.extend(step);
                self.alias = None;
                self.read(from);
            }
            _ => return Err(Unknown(first)),
        }
        Ok(())
    }

    /// `SET a = x, b = y`, where `y` sees the new `a`.
    fn set(&mut self, rest: Tokens) -> Result<(), Unknown> {
        for assignment in split(rest, |token| token.token == Token::Comma) {
            let mut parts = assignment.into_iter();
            let (Some(name), Some(equal)) = (parts.next(), parts.next()) else {
                return Err(Unknown(self.place.clone()));
            };
            let (Token::Word(word), Token::Eq) = (&name.token, &equal.token) else { return Err(Unknown(name)) };
            let column = Token::make_word(&format!("{REPLACES}{}", word.value), Some('`'));
            let column = TokenWithSpan { token: column, span: name.span };
            let all = [self.sign(Token::Mul), self.sign(Token::Comma)];
            let named = [self.word("AS"), column];
            let value = self.parenthesized(parts.collect());
            self.select(all.into_iter().chain(value).chain(named).collect());
        }
        Ok(())
    }

    /// `AGGREGATE items GROUP BY keys`: the keys come first, and are not repeated.
    fn aggregate(&mut self, mut rest: Tokens) -> Result<(), Unknown> {
        let keys = outside(&rest, |token| is_word(token, "group")).map(|at| rest.split_off(at));
        let keys = keys.map(|keys| split(keys.into_iter().skip(2).collect(), |token| token.token == Token::Comma));
        let keys = keys.unwrap_or_default();
        // A number stands for a column of the input, which is not known here.
        if let Some([number]) =
            keys.iter().map(Vec::as_slice).find(|key| matches!(key, [one] if matches!(one.token, Token::Number(..))))
        {
            return Err(Unknown(number.clone()));
        }
        let comma = self.sign(Token::Comma);
        let count = keys.len();
        let items = keys.into_iter().chain([rest]).filter(|item| !item.is_empty());
        let items: Vec<Tokens> = items.collect();
        self.select(items.join(&comma));
        if count > 0 {
            let numbers = (1..=count).map(|i| vec![self.sign(Token::Number(i.to_string(), false))]);
            let numbers = numbers.collect::<Vec<_>>().join(&comma);
            self.clauses.extend([self.word("GROUP"), self.word("BY")]);
            self.clauses.extend(numbers);
        }
        self.alias = None;
        Ok(())
    }
}
