//! Data that stands compressed in the page: gzip, then base64, unpacked by the browser's `DecompressionStream`.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

/// Packs a value. Equal values give equal text: the header of the gzip stream holds no time.
///
/// # Errors
/// Where the value does not serialise.
pub fn pack<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let json = serde_json::to_vec(value)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let packed = encoder.write_all(&json).and_then(|()| encoder.finish());
    Ok(STANDARD.encode(packed.expect("writing to memory does not fail")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn unpacks_to_the_same_and_is_smaller() {
        let answers: Vec<String> =
            (0..200).map(|at| format!("The answer to question {at} is </script> of course.")).collect();
        let packed = pack(&answers).unwrap();
        assert!(packed.len() < serde_json::to_string(&answers).unwrap().len() * 6 / 10);
        let bytes = STANDARD.decode(&packed).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), answers);
        assert_eq!(bytes[4..8], [0; 4], "the time in the header");
    }
}
