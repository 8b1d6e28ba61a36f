//! Random calls.

use fastrand::Rng;

use super::catalogue::{Catalogue, Routine};
use super::value::{any, for_parameter, parameter, Scope};

/// Random arguments. Those of a loadable function may be missing, superfluous or named; those of a routine are
/// complete.
fn arguments(rng: &mut Rng, routine: &Routine, loadable: bool, scope: Scope) -> String {
    let mut names: Vec<&str> = routine.parameters.iter().map(String::as_str).collect();
    if !loadable {
        return names.iter().map(|name| for_parameter(rng, name, scope)).collect::<Vec<_>>().join(", ");
    }
    let named = !names.is_empty() && rng.u8(..4) == 0;
    match rng.u8(..12) {
        0 => names.truncate(rng.usize(..=names.len())),
        1 => names.push("one_more"),
        2 => rng.shuffle(&mut names),
        _ => {}
    }
    if matches!(routine.name.as_str(), "vector_distance") && rng.bool() {
        names.push("options");
    }
    names
        .iter()
        .map(|name| {
            let value = for_parameter(rng, name, scope);
            match named && rng.u8(..12) > 0 {
                true => format!("{value} AS {name}"),
                false => value,
            }
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// A call of a function, sometimes with another call as an argument.
pub(super) fn function(rng: &mut Rng, all: &Catalogue, scope: Scope) -> String {
    let loadable = rng.u8(..10) < 6;
    let list = if loadable { &all.loadable } else { &all.functions };
    let Some(routine) = rng.choice(list) else { return "1".to_owned() };
    let call = format!("{}({})", routine.name, arguments(rng, routine, loadable, scope));
    match rng.u8(..12) {
        0 => format!("ml_embedding('dummy', {call})"),
        1 => format!("cosine_distance({call}, {})", any(rng, scope)),
        2 => format!("IFNULL({call}, {})", any(rng, scope)),
        3 => format!("CAST({call} AS CHAR)"),
        _ => call,
    }
}

/// A call of the aggregate.
pub(super) fn aggregate(rng: &mut Rng, all: &Catalogue, scope: Scope) -> String {
    let Some(routine) = rng.choice(&all.aggregates) else { return "COUNT(*)".to_owned() };
    format!("{}({})", routine.name, arguments(rng, routine, true, scope))
}

/// A CALL of a procedure.
pub(super) fn procedure(rng: &mut Rng, all: &Catalogue, scope: Scope) -> String {
    let Some(routine) = rng.choice(&all.procedures) else { return "DO 0".to_owned() };
    format!("CALL {}({})", routine.name, arguments(rng, routine, false, scope))
}

/// A SELECT of a function with a placeholder for each argument, and values for them.
pub(super) fn with_parameters(rng: &mut Rng, all: &Catalogue) -> (String, Vec<mysql::Value>) {
    let list = if rng.bool() { &all.loadable } else { &all.functions };
    let Some(routine) = rng.choice(list) else { return ("SELECT 1".to_owned(), Vec::new()) };
    let places = vec!["?"; routine.parameters.len()].join(", ");
    let values = routine.parameters.iter().map(|_| parameter(rng)).collect();
    (format!("SELECT {}({places})", routine.name), values)
}
