//! Benchmarks that ship with the repository. Each measures its baseline in the same run and in turn, because machines
//! drift.

mod bars;
pub mod bulk;
pub mod cache;
pub mod call;
pub mod distance;
pub mod endpoints;
pub mod generate;
pub mod index;
pub mod local;
pub mod memory;
pub mod rerank;
pub mod search;

/// The median; of an even count the lower middle value.
fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value that `p` percent of the values do not exceed.
fn percentile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let place = (p / 100.0 * last as f64).floor() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// The machine of the measurements.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines()
                .find(|l| l.starts_with("model name"))
                .and_then(|l| l.split_once(':'))
                .map(|(_, v)| v.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cpu}, {cores} cores")
}

/// Distinct texts of some 140 bytes.
fn texts(rows: usize) -> impl Iterator<Item = String> {
    (0..rows).map(|i| format!("text number {i}: a customer asks where the parcel with order {} has got to, and whether a refund is possible if it arrives late", i * 7919))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(median(&values), 3.0);
        assert_eq!(percentile(&values, 99.0), 4.0);
        assert_eq!(percentile(&values, 100.0), 5.0);
    }
}
