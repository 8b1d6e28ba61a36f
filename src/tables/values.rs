//! The values of several columns of a row, in the place of the one value of a row.

/// The length that stands for NULL.
const NULL: u64 = u64::MAX;

/// Values one after another, each behind its length.
pub fn joined<'v>(values: impl Iterator<Item = Option<&'v [u8]>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend_from_slice(&value.map_or(NULL, |value| value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value.unwrap_or_default());
    }
    bytes
}

/// The values of [`joined`]; what is missing is NULL.
pub fn divided(mut bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = u64::from_le_bytes(*length);
        if length == NULL {
            bytes = rest;
            return Some(None);
        }
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        bytes = rest;
        Some(Some(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_damage_ends_them() {
        let values = [Some(&b"a\0b"[..]), None, Some(&b""[..]), Some(&b"c"[..])];
        let bytes = joined(values.into_iter());
        assert_eq!(divided(&bytes).collect::<Vec<_>>(), values);
        assert_eq!(divided(&bytes[..bytes.len() - 1]).count(), 3);
        assert_eq!((divided(&[]).count(), divided(&[1, 0, 0]).count()), (0, 0));
    }
}
