//! Every target on its corpus, and on changes of it that are the same in every run.

#![allow(missing_docs)]

use std::path::Path;

use fuzz::{Target, TARGETS};

/// Changed inputs of a target.
const CHANGED: usize = 5000;

/// The inputs of a target's corpus by the names of their files.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

fn changed(random: &mut fastrand::Rng, inputs: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut input = inputs[random.usize(..inputs.len())].1.clone();
    for _ in 0..=random.usize(..4) {
        let other = &inputs[random.usize(..inputs.len())].1;
        let at = random.usize(..=input.len());
        let to = random.usize(at..=input.len().min(at + 16));
        match random.u8(..6) {
            0 => drop(input.splice(at..at, std::iter::repeat_with(|| random.u8(..)).take(1))),
            1 => drop(input.drain(at..to)),
            2 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.u8(..)),
            3 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
            4 => {
                let begin = random.usize(..=other.len());
                let end = random.usize(begin..=other.len());
                input.splice(at..to, other[begin..end].iter().copied());
            }
            _ => {
                let piece = input[at..to].to_vec();
                let repeated = piece.repeat(random.usize(..8));
                input.splice(at..at, repeated);
            }
        }
    }
    input
}

/// Whether a target ends well; an input that fails is printed, so that it can be added to the corpus.
fn ends_well(target: &Target, name: &str, input: &[u8]) -> bool {
    let ended = std::panic::catch_unwind(|| target.run(input)).is_ok();
    if !ended {
        eprintln!("target {} fails on {name}: b\"{}\"", target.name, input.escape_ascii());
    }
    ended
}

fn replay(target: &Target) -> bool {
    let inputs = corpus(target);
    let mut random = fastrand::Rng::with_seed(1);
    inputs.iter().all(|(name, input)| ends_well(target, name, input))
        && (0..CHANGED).all(|n| ends_well(target, &format!("change {n}"), &changed(&mut random, &inputs)))
}

#[test]
fn every_target_does_no_harm_on_its_corpus_and_on_changes_of_it() {
    let failed: Vec<&str> = TARGETS.iter().filter(|target| !replay(target)).map(|target| target.name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_folder_of_the_corpus_belongs_to_a_target() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "{name}");
    }
}
