//! Vectors as bytes and as text, and the vector index.

use mysql_ml_base::vector::{check_bytes, from_bytes, normalize, to_bytes, Measure};
use mysql_ml_core::json::numbers::Numbers;
use mysql_ml_core::json::scan::Scan as Json;
use mysql_ml_index::{Block, BlockBuilder, Centroids, Encoder, Layout, Limits, ListChooser, Metric, Scan};

use crate::{first, two_parts};

const MEASURES: [Measure; 7] = [
    Measure::Cosine,
    Measure::L2Squared,
    Measure::DotProduct,
    Measure::NegativeDot,
    Measure::Euclidean,
    Measure::Manhattan,
    Measure::Hamming,
];

/// Two vectors of one width as bytes; the whole also as JSON and as the name of a measure.
pub fn vectors(data: &[u8]) {
    let (a, b) = data.split_at(data.len() / 2);
    for measure in MEASURES {
        if let Ok(distance) = measure.compare(a, b) {
            assert!(distance.is_finite());
            assert!(check_bytes(a).is_ok() && check_bytes(b).is_ok());
            let turned = measure.compare(b, a).expect("a distance has no direction");
            assert!((distance - turned).abs() <= 1e-9 * distance.abs().max(1.0), "{measure:?}: {distance} {turned}");
        }
    }
    match to_bytes(&from_bytes(a)) {
        Ok(bytes) => assert!(a.starts_with(&bytes) && check_bytes(&bytes).is_ok()),
        Err(_) => assert!(check_bytes(a).is_err()),
    }
    let mut unit = from_bytes(a);
    normalize(&mut unit);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Measure::parse(text);
    }
    // The fast reader reads what the careful one reads. It also takes some numbers that JSON does not have, as 07.
    let careful = serde_json::from_slice::<Numbers>(data).map(|numbers| numbers.0);
    if let (Some(read), Ok(careful)) = (Json::whole(data, Json::vector), careful) {
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(&careful), "{read:?} {careful:?}");
    }
    let _ = Json::whole(data, Json::vectors);
}

/// A layout of few dimensions, a NUL, and bytes of it: they are a layout, a block, a centroid, keys and vectors.
pub fn index(data: &[u8]) {
    let _ = Layout::from_bytes(data);
    let (head, rest) = data.split_at(data.len().min(3));
    let [dimensions, metric, bits] = head else { return };
    let metric = [Metric::L2, Metric::Cosine, Metric::Dot][usize::from(metric % 3)];
    let layout = Layout::new(usize::from(dimensions % 100) + 1, metric, bits % 4 + 1, 7).expect("a small layout");
    assert_eq!(Layout::from_bytes(&layout.to_bytes()).expect("its own bytes"), layout);

    let query = vec![0.5; layout.dimensions()];
    // A row of centroids and a block as they come.
    let (row, block) = two_parts(rest);
    read(&layout, &query, row, block);
    // A block behind a good header, whose size is that of the bytes.
    let mut centroids = Centroids::new(&layout);
    let own = |at: usize| from_bytes(rest.get(at * 4 * layout.dimensions()..).unwrap_or_default());
    let vector = |at| {
        let mut vector = own(at);
        vector.resize(layout.dimensions(), 0.25);
        vector
    };
    let trained = mysql_ml_index::train(
        &layout,
        &[vec![0.5; layout.dimensions()], vec![-0.5; layout.dimensions()]].concat(),
        2,
        1,
        &|| false,
    );
    if let Ok(trained) = trained {
        centroids = trained;
    }
    let Some(row) = centroids.encode(0) else { return };
    read(&layout, &query, &row, rest);
    let mut builder = BlockBuilder::new(&layout);
    let mut keys = Vec::new();
    for at in 0..3 {
        let (length, key) = first(rest.get(at..).unwrap_or_default());
        let key = &key[..key.len().min(usize::from(length))];
        if let Ok(code) = Encoder::new(&centroids).encode(&vector(at), 0)
            && builder.push(key, &code).is_ok()
        {
            keys.push(key);
        }
    }
    let mut bytes = builder.finish();
    let block = Block::parse(&layout, &bytes).expect("its own block");
    assert!(block.keys().eq(keys.iter().copied()), "keys differ");
    read(&layout, &query, &row, &bytes);
    read(&layout, &vector(0), &row, &bytes);
    // Damaged anywhere, it is an error or another block, and nothing worse.
    for pair in rest.chunks_exact(2) {
        let at = usize::from(pair[0]) % bytes.len();
        bytes[at] = pair[1];
    }
    read(&layout, &query, &row, &bytes);
}

fn read(layout: &Layout, query: &[f32], row: &[u8], block: &[u8]) {
    if let Ok(block) = Block::parse(layout, block) {
        assert_eq!(block.keys().count(), block.len());
        for (key, code) in block.codes() {
            let _ = (key.len(), code);
        }
    }
    let _ = Centroids::from_rows(layout, [row]);
    if let Ok(mut chooser) = ListChooser::new(layout, query, 4) {
        let _ = chooser.offer(1, row);
        let _ = chooser.finish();
    }
    if let Ok(mut scan) = Scan::new(layout, query, Limits::of(2)) {
        let _ = scan.offer(row, block);
        let _ = scan.finish();
    }
}
