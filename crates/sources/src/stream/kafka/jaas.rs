//! `kafka.sasl.jaas.config`: who logs in, in the notation of Java's login modules.
//!
//! `org.apache.kafka.common.security.plain.PlainLoginModule required username="me" password="…";`, with or without
//! the prefix `kafkashaded.` that the class has on Databricks. Messages never show what stands in the value.

use deltaworks_spark::{Error, Result};

const OPTION: &str = "kafka.sasl.jaas.config";

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(...)")
    }
}

/// The login of a JAAS configuration.
///
/// # Errors
/// `User` if the text is not one, or has no user or password; `Unsupported` for login modules that do not log in by
/// user and password.
pub(crate) fn parse(text: &str) -> Result<Login> {
    let words = words(text)?;
    let mut words = words.iter();
    let module = match words.next() {
        Some(Word::Plain(module)) => module.rsplit('.').next().unwrap_or(module),
        _ => "",
    };
    match module {
        "PlainLoginModule" | "ScramLoginModule" => {}
        // Anything else may be a password in the wrong place.
        "OAuthBearerLoginModule" | "Krb5LoginModule" | "IAMLoginModule" => {
            return Err(Error::unsupported(format!("login module `{module}` of `{OPTION}`"))
                .with_help("Log in by user and password: PlainLoginModule or ScramLoginModule."));
        }
        _ => return Err(malformed("it does not begin with a login module")),
    }
    let (mut username, mut password) = (None, None);
    while let Some(word) = words.next() {
        let name = match word {
            Word::Plain(name) => name,
            Word::End => break,
            Word::Equals => return Err(malformed("`=` follows no name")),
            Word::Quoted(_) => return Err(malformed("a quoted value follows no `name=`")),
        };
        if !matches!(words.as_slice().first(), Some(Word::Equals)) {
            // The control flag: `required`.
            continue;
        }
        words.next();
        let value = match words.next() {
            Some(Word::Plain(value) | Word::Quoted(value)) => value.clone(),
            _ => return Err(malformed("a name has no value")),
        };
        match name.as_str() {
            "username" => username = Some(value),
            "password" => password = Some(value),
            _ => {}
        }
    }
    match (username, password) {
        (Some(username), Some(password)) => Ok(Login { username, password }),
        (None, _) => Err(malformed("it has no `username`")),
        (_, None) => Err(malformed("it has no `password`")),
    }
}

enum Word {
    Plain(String),
    Quoted(String),
    Equals,
    End,
}

fn words(text: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        match first {
            _ if first.is_whitespace() => {}
            '=' => words.push(Word::Equals),
            ';' => words.push(Word::End),
            '"' | '\'' => {
                let mut value = String::new();
                loop {
                    match chars.next() {
                        Some('\\') => value.extend(chars.next()),
                        Some(end) if end == first => break,
                        Some(other) => value.push(other),
                        None => return Err(malformed("a quote is not closed")),
                    }
                }
                words.push(Word::Quoted(value));
            }
            _ => {
                let mut word = String::from(first);
                while let Some(next) = chars.next_if(|next| !next.is_whitespace() && !matches!(next, '=' | ';')) {
                    word.push(next);
                }
                words.push(Word::Plain(word));
            }
        }
    }
    Ok(words)
}

fn malformed(why: &str) -> Error {
    Error::user(format!("option `{OPTION}` is not a JAAS configuration: {why}")).with_help(
        "Write `org.apache.kafka.common.security.plain.PlainLoginModule required username=\"...\" password=\"...\";`.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_found() {
        let check = |text: &str, username: &str, password: &str| {
            let login = parse(text).unwrap();
            assert_eq!((login.username.as_str(), login.password.as_str()), (username, password), "{text}");
        };
        check(
            r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="me" password="it's \"it\"";"#,
            "me",
            r#"it's "it""#,
        );
        check(
            r#"kafkashaded.org.apache.kafka.common.security.scram.ScramLoginModule required
               username='me'
               password='x' ;"#,
            "me",
            "x",
        );
        check(
            r#"kafkashaded.org.apache.kafka.common.security.plain.PlainLoginModule required username="$ConnectionString" password="Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=a+b=";"#,
            "$ConnectionString",
            "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=a+b=",
        );
        check("x.PlainLoginModule required user=1 username=me password=secret", "me", "secret");
    }

    #[test]
    fn errors_do_not_show_the_value() {
        for text in [
            "",
            "hunter2",
            "x.PlainLoginModule required password=\"hunter2\";",
            "x.PlainLoginModule required username=\"hunter2\";",
            "x.PlainLoginModule required username=\"hunter2 password=",
            "x.PlainLoginModule required username= ;",
            "x.PlainLoginModule = \"hunter2\"",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(error.message().starts_with("option `kafka.sasl.jaas.config` is not a JAAS"), "{error}");
        }
        let other = parse("org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;").unwrap_err();
        assert_eq!(
            other.message(),
            "login module `OAuthBearerLoginModule` of `kafka.sasl.jaas.config` is not supported yet"
        );
    }
}
