//! BLAKE3 digests and the hashing of structured values.
//!
//! Values are hashed field by field with a type tag and a length before each, so that no two different
//! values feed the same bytes. JSON is never hashed as text.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// A BLAKE3 digest: of a file's bytes, of an artifact's manifest, or a stage's key. Prints as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of a structured value.
    pub fn of_value<T: ContentHash + ?Sized>(domain: &str, value: &T) -> Self {
        let mut hasher = KeyHasher::new(domain);
        value.feed(&mut hasher);
        hasher.finish()
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// A text that is not 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a digest: 64 hexadecimal digits are wanted")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        blake3::Hash::from_hex(text).map(Self::from).map_err(|_| ParseDigestError(text.to_owned()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Hashes tagged, length-prefixed fields under a domain name, so that a key and a manifest never collide.
pub struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    /// A hasher whose digests differ from those of every other domain.
    pub fn new(domain: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(domain))
    }

    /// Feeds one tagged field.
    pub fn field(&mut self, tag: u8, bytes: &[u8]) -> &mut Self {
        self.0.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }

    /// Feeds any value that can be hashed.
    pub fn add<T: ContentHash + ?Sized>(&mut self, value: &T) -> &mut Self {
        value.feed(self);
        self
    }

    /// The digest of all that was fed.
    pub fn finish(&self) -> Digest {
        self.0.finalize().into()
    }
}

/// Values with one well-defined hash.
pub trait ContentHash {
    /// Feeds the value's fields.
    fn feed(&self, hasher: &mut KeyHasher);
}

impl ContentHash for str {
    fn feed(&self, hasher: &mut KeyHasher) {
        hasher.field(b's', self.as_bytes());
    }
}

impl ContentHash for String {
    fn feed(&self, hasher: &mut KeyHasher) {
        self.as_str().feed(hasher);
    }
}

impl ContentHash for Digest {
    fn feed(&self, hasher: &mut KeyHasher) {
        hasher.field(b'd', self.as_bytes());
    }
}

impl ContentHash for u64 {
    fn feed(&self, hasher: &mut KeyHasher) {
        hasher.field(b'u', &self.to_le_bytes());
    }
}

impl ContentHash for f64 {
    fn feed(&self, hasher: &mut KeyHasher) {
        hasher.field(b'f', &self.to_bits().to_le_bytes());
    }
}

impl<T: ContentHash> ContentHash for [T] {
    fn feed(&self, hasher: &mut KeyHasher) {
        hasher.field(b'[', &(self.len() as u64).to_le_bytes());
        self.iter().for_each(|item| item.feed(hasher));
    }
}

/// Objects are hashed in the order of their sorted keys; numbers by value, so that `5` and `5.0` are one.
impl ContentHash for Value {
    fn feed(&self, hasher: &mut KeyHasher) {
        match self {
            Value::Null => {
                hasher.field(b'n', &[]);
            }
            Value::Bool(flag) => {
                hasher.field(b'b', &[u8::from(*flag)]);
            }
            Value::Number(_) => {
                hasher.field(b'#', canonical(self).to_string().as_bytes());
            }
            Value::String(text) => text.feed(hasher),
            Value::Array(items) => items.as_slice().feed(hasher),
            Value::Object(map) => {
                let mut keys: Vec<_> = map.keys().collect();
                keys.sort();
                hasher.field(b'{', &(keys.len() as u64).to_le_bytes());
                for key in keys {
                    key.feed(hasher);
                    map[key].feed(hasher);
                }
            }
        }
    }
}

/// The one spelling of a value: keys sorted, whole floats as integers (`5.0` → `5`, `2e-4` → `0.0002`).
pub fn canonical(value: &Value) -> Value {
    let mut value = value.clone();
    canonicalize(&mut value);
    value
}

/// Brings a value to its one spelling, see [`canonical`].
pub fn canonicalize(value: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: whole floats below it are exact integers
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT);
            if let (true, Some(float)) = (number.is_f64(), whole) {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(canonicalize),
        Value::Object(map) => {
            map.values_mut().for_each(canonicalize);
            if !map.keys().is_sorted() {
                map.sort_keys();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hash(value: &Value) -> Digest {
        Digest::of_value("test", value)
    }

    #[test]
    fn equal_values_have_equal_hashes_whatever_their_spelling() {
        assert_eq!(hash(&json!({"a": 1, "b": 5.0})), hash(&json!({"b": 5, "a": 1.0})));
    }

    #[test]
    fn different_values_have_different_hashes() {
        let values =
            [json!(null), json!(0), json!("0"), json!([]), json!({}), json!([0]), json!(["", ""]), json!([""])];
        for (i, a) in values.iter().enumerate() {
            for b in &values[i + 1..] {
                assert_ne!(hash(a), hash(b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn digests_survive_text() {
        let digest = Digest::of(b"neft");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("xyz".parse::<Digest>().is_err());
    }

    #[test]
    fn canonical_spelling_of_numbers() {
        assert_eq!(canonical(&json!(2e-4)).to_string(), "0.0002");
        assert_eq!(canonical(&json!(5.0)).to_string(), "5");
    }
}
