//! Quantities with units: `8GiB`, `1h30m`.

use std::time::Duration;

/// Bytes of `8GiB`, `500 MB`, `1.5GiB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("B", 1),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let (number, unit) = split_number(text.trim());
    let wrong = || format!("`{text}` is no amount of memory: write it like 8GiB or 500MB");
    let amount: f64 = number.parse().map_err(|_| wrong())?;
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor).ok_or_else(wrong)?;
    let bytes = amount * factor as f64;
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// The time of `90s`, `2h`, `1h30m`, `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 5] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let wrong = || format!("`{text}` is no duration: write it like 90s, 2h or 1h30m");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let amount: f64 = number.parse().map_err(|_| wrong())?;
        let unit = UNITS.iter().find(|(name, _)| *name == &after[..end]).ok_or_else(wrong)?;
        seconds += amount * unit.1;
        rest = after[end..].trim_start();
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        assert_eq!(parse_bytes("8GiB"), Ok(8 << 30));
        assert_eq!(parse_bytes("1.5 GB"), Ok(1_500_000_000));
        for wrong in ["8", "8G", "GiB", "-1GiB", "0GiB", "8gib", "1e9B", ""] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["2", "h", "2 hours", "-2h", "", "1e400s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        let forever = format!("{}d", "9".repeat(400));
        assert!(parse_duration(&forever).is_err());
    }
}
