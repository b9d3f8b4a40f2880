//! AES: `aes_encrypt`, `aes_decrypt`, with the modes and the layout of bytes that Spark has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder};
use arrow::datatypes::DataType;
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    self, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

use super::udf::{BINARY, Call, Function, function, volatile};
use crate::error::{Error, Result};

pub(super) const FUNCTIONS: &[Function] = &[
    // Without a vector of its own every call takes a new one.
    volatile(&["aes_encrypt"], (2, 6), BINARY, |c| each_row(c, Some(4), 5, |task| encrypt(task).map(Some))),
    function(&["aes_decrypt"], (2, 5), BINARY, |c| each_row(c, None, 4, |task| decrypt(task).map(Some))),
    function(&["try_aes_decrypt"], (2, 5), BINARY, |c| each_row(c, None, 4, |task| Ok(decrypt(task).ok()))),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Ecb,
    Cbc,
    Gcm,
}

impl Mode {
    fn new(mode: &str, padding: &str) -> Result<Self> {
        match (mode.to_ascii_uppercase().as_str(), padding.to_ascii_uppercase().as_str()) {
            ("ECB", "DEFAULT" | "PKCS") => Ok(Self::Ecb),
            ("CBC", "DEFAULT" | "PKCS") => Ok(Self::Cbc),
            ("GCM", "DEFAULT" | "NONE") => Ok(Self::Gcm),
            _ => Err(Error::user(format!("AES has no mode `{mode}` with the padding `{padding}`"))
                .with_condition("UNSUPPORTED_FEATURE.AES_MODE")
                .with_help("Use GCM with padding NONE, or CBC or ECB with padding PKCS.")),
        }
    }

    /// How many bytes of the initialisation vector precede the encrypted text.
    fn vector_length(self) -> usize {
        match self {
            Self::Ecb => 0,
            Self::Cbc => 16,
            Self::Gcm => 12,
        }
    }
}

/// One text to encrypt or decrypt.
struct Task<'a> {
    text: &'a [u8],
    key: &'a [u8],
    mode: Mode,
    vector: &'a [u8],
    aad: &'a [u8],
}

/// Arguments 2 and 3 are mode and padding; NULL among the arguments gives NULL.
fn each_row(
    call: &Call<'_>,
    vector_at: Option<usize>,
    aad_at: usize,
    run: fn(&Task<'_>) -> Result<Option<Vec<u8>>>,
) -> Result<ArrayRef> {
    let bytes = |i: usize| -> Result<Option<BinaryArray>> {
        if i >= call.len() {
            return Ok(None);
        }
        Ok(Some(call.cast(i, &DataType::Binary)?.as_binary::<i32>().clone()))
    };
    let (texts, keys) = (bytes(0)?, bytes(1)?);
    let modes = if call.len() > 2 { Some(call.text(2)?) } else { None };
    let paddings = if call.len() > 3 { Some(call.text(3)?) } else { None };
    let vectors = vector_at.map(bytes).transpose()?.flatten();
    let aads = bytes(aad_at)?;
    let mut builder = BinaryBuilder::new();
    for row in 0..call.rows() {
        let null = |array: &Option<BinaryArray>| array.as_ref().is_some_and(|array| array.is_null(row));
        let unknown =
            |array: &Option<arrow::array::StringArray>| array.as_ref().is_some_and(|array| array.is_null(row));
        if [&texts, &keys, &vectors, &aads].into_iter().any(null) || [&modes, &paddings].into_iter().any(unknown) {
            builder.append_null();
            continue;
        }
        let value = |array: &'_ Option<BinaryArray>| array.as_ref().map_or(&[][..], |array| array.value(row)).to_vec();
        let (text, key, vector, aad) = (value(&texts), value(&keys), value(&vectors), value(&aads));
        let mode = Mode::new(
            modes.as_ref().map_or("GCM", |modes| modes.value(row)),
            paddings.as_ref().map_or("DEFAULT", |paddings| paddings.value(row)),
        )?;
        builder.append_option(run(&Task { text: &text, key: &key, mode, vector: &vector, aad: &aad })?);
    }
    Ok(Arc::new(builder.finish()))
}

fn parameter(name: &'static str, why: String) -> Error {
    Error::user(why).with_condition(name)
}

fn check(task: &Task<'_>) -> Result<()> {
    if ![16, 24, 32].contains(&task.key.len()) {
        let why = format!("the key of AES must have 16, 24 or 32 bytes, not {}", task.key.len());
        return Err(parameter("INVALID_PARAMETER_VALUE.AES_KEY_LENGTH", why));
    }
    if !task.aad.is_empty() && task.mode != Mode::Gcm {
        return Err(parameter(
            "UNSUPPORTED_FEATURE.AES_MODE_AAD",
            "additional authenticated data needs the mode GCM".to_owned(),
        ));
    }
    if !task.vector.is_empty() {
        if task.mode == Mode::Ecb {
            return Err(parameter(
                "UNSUPPORTED_FEATURE.AES_MODE_IV",
                "the mode ECB has no initialisation vector".to_owned(),
            ));
        }
        if task.vector.len() != task.mode.vector_length() {
            let why = format!(
                "the initialisation vector must have {} bytes, not {}",
                task.mode.vector_length(),
                task.vector.len()
            );
            return Err(parameter("INVALID_PARAMETER_VALUE.AES_IV_LENGTH", why));
        }
    }
    Ok(())
}

fn crypto_error(what: &str) -> Error {
    Error::data(format!("{what}: the key, the vector or the data do not fit"))
        .with_condition("INVALID_PARAMETER_VALUE.AES_CRYPTO_ERROR")
}

fn gcm_key(key: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match key.len() {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        _ => &aead::AES_256_GCM,
    };
    Some(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?))
}

fn block_key(key: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm = match key.len() {
        16 => &cipher::AES_128,
        24 => &cipher::AES_192,
        _ => &cipher::AES_256,
    };
    UnboundCipherKey::new(algorithm, key).ok()
}

fn encrypt(task: &Task<'_>) -> Result<Vec<u8>> {
    check(task)?;
    let failed = || crypto_error("AES cannot encrypt");
    let mut vector = task.vector.to_vec();
    if vector.is_empty() {
        vector.resize(task.mode.vector_length(), 0);
        aws_lc_rs::rand::fill(&mut vector).map_err(|_| failed())?;
    }
    let mut text = task.text.to_vec();
    sealed(task, &vector, &mut text).ok_or_else(failed)?;
    Ok([vector, text].concat())
}

fn sealed(task: &Task<'_>, vector: &[u8], text: &mut Vec<u8>) -> Option<()> {
    match task.mode {
        Mode::Gcm => {
            let nonce = Nonce::try_assume_unique_for_key(vector).ok()?;
            gcm_key(task.key)?.seal_in_place_append_tag(nonce, Aad::from(task.aad), text).ok()
        }
        Mode::Cbc => {
            let context = EncryptionContext::Iv128(FixedLength::from(<&[u8; 16]>::try_from(vector).ok()?));
            let key = PaddedBlockEncryptingKey::cbc_pkcs7(block_key(task.key)?).ok()?;
            key.less_safe_encrypt(text, context).ok().map(|_| ())
        }
        Mode::Ecb => {
            let key = PaddedBlockEncryptingKey::ecb_pkcs7(block_key(task.key)?).ok()?;
            key.encrypt(text).ok().map(|_| ())
        }
    }
}

fn decrypt(task: &Task<'_>) -> Result<Vec<u8>> {
    check(task)?;
    opened(task).ok_or_else(|| crypto_error("AES cannot decrypt"))
}

fn opened(task: &Task<'_>) -> Option<Vec<u8>> {
    let (vector, text) = task.text.split_at_checked(task.mode.vector_length())?;
    let mut text = text.to_vec();
    Some(match task.mode {
        Mode::Gcm => {
            let nonce = Nonce::try_assume_unique_for_key(vector).ok()?;
            gcm_key(task.key)?.open_in_place(nonce, Aad::from(task.aad), &mut text).ok()?.to_vec()
        }
        Mode::Cbc => {
            let context = DecryptionContext::Iv128(FixedLength::from(<&[u8; 16]>::try_from(vector).ok()?));
            let key = PaddedBlockDecryptingKey::cbc_pkcs7(block_key(task.key)?).ok()?;
            key.decrypt(&mut text, context).ok()?.to_vec()
        }
        Mode::Ecb => {
            let key = PaddedBlockDecryptingKey::ecb_pkcs7(block_key(task.key)?).ok()?;
            key.decrypt(&mut text, DecryptionContext::None).ok()?.to_vec()
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    const KEY: &str = "'0000111122223333'";

    #[tokio::test]
    async fn texts_are_encrypted_as_in_spark() {
        check_all(&[
            (
                "base64(aes_encrypt('Spark', 'abcdefghijklmnop12345678ABCDEFGH', 'GCM', 'DEFAULT', \
                 unhex('000000000000000000000000'), 'This is an AAD mixed into the input'))",
                "AAAAAAAAAAAAAAAAQiYi+sTLm7KD9UcZ2nlRdYDe/PX4",
            ),
            (
                "base64(aes_encrypt('Spark', 'abcdefghijklmnop12345678ABCDEFGH', 'CBC', 'DEFAULT', \
                 unhex('00000000000000000000000000000000')))",
                "AAAAAAAAAAAAAAAAAAAAAPSd4mWyMZ5mhvjiAPQJnfg=",
            ),
            (
                "CAST(aes_decrypt(unhex('83F16B2AA704794132802D248E6BFD4E380078182D1544813898AC97E709B28A94'), \
                 '0000111122223333') AS STRING)",
                "Spark",
            ),
        ])
        .await;
    }

    #[tokio::test]
    async fn what_is_encrypted_can_be_decrypted() {
        for mode in ["ECB", "CBC", "GCM"] {
            let sql = format!("CAST(aes_decrypt(aes_encrypt('äöü', {KEY}, '{mode}'), {KEY}, '{mode}') AS STRING)");
            check_all(&[(&sql, "äöü")]).await;
        }
        check_all(&[("aes_encrypt(NULL, '0000111122223333')", "NULL")]).await;
    }

    #[tokio::test]
    async fn failures() {
        let length = Err("INVALID_PARAMETER_VALUE.AES_KEY_LENGTH");
        check("aes_encrypt('a', 'short')", length, length).await;
        let wrong = Err("INVALID_PARAMETER_VALUE.AES_CRYPTO_ERROR");
        check(&format!("aes_decrypt('a', {KEY})"), wrong, wrong).await;
        check_all(&[(&format!("try_aes_decrypt('a', {KEY})"), "NULL")]).await;
        let mode = Err("UNSUPPORTED_FEATURE.AES_MODE");
        check(&format!("aes_encrypt('a', {KEY}, 'CBC', 'NONE')"), mode, mode).await;
    }
}
