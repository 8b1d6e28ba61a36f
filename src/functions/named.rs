//! Named arguments: `f('x' AS model_id, ...)`, in any order, missing ones NULL.
//!
//! The server gives each argument a name: its alias, or else the text of its expression. A column or a variable
//! that happens to be called like a parameter looks like an alias, so names count only where they leave no doubt.

use crate::abi::args::{ArgKind, Args, Setup};
use mysql_ml_base::error::{cut, Error, Result};

/// Which argument holds which parameter.
pub struct Bound {
    places: Vec<Option<usize>>,
    /// Whether the arguments were named.
    pub by_name: bool,
}

/// Assigns the arguments of a call to `parameters` (each with the names it goes by) and asks the server for
/// them as text. Positional calls may leave out arguments behind the first `required`. With `confidential` errors
/// quote no argument: what has no alias is called by its own text.
pub fn bind(setup: &Setup<'_>, parameters: &[&[&str]], required: usize, confidential: bool) -> Result<Bound> {
    let names: Vec<String> = (0..setup.args.len()).map(|i| setup.args.name(i)).collect();
    let bound = assign(&names, parameters, required, confidential)?;
    for i in 0..setup.args.len() {
        setup.text(i)?;
    }
    Ok(bound)
}

/// As [`bind`], with the parameter `bytes` taken as the bytes it is, whatever its character set.
pub fn bind_with_bytes(setup: &Setup<'_>, parameters: &[&[&str]], required: usize, bytes: usize) -> Result<Bound> {
    let names: Vec<String> = (0..setup.args.len()).map(|i| setup.args.name(i)).collect();
    let bound = assign(&names, parameters, required, false)?;
    let place = bound.places.get(bytes).copied().flatten();
    for i in 0..setup.args.len() {
        if Some(i) == place && setup.args.kind(i) == ArgKind::String {
            continue;
        }
        setup.text(i)?;
    }
    Ok(bound)
}

fn signature(parameters: &[&[&str]]) -> String {
    parameters.iter().filter_map(|names| names.first()).copied().collect::<Vec<_>>().join(", ")
}

fn assign(names: &[String], parameters: &[&[&str]], required: usize, confidential: bool) -> Result<Bound> {
    let expected = || format!("expected ({})", signature(parameters));
    let matched: Vec<Option<usize>> = names
        .iter()
        .map(|name| parameters.iter().position(|p| p.iter().any(|n| n.eq_ignore_ascii_case(name))))
        .collect();
    let all = !names.is_empty() && matched.iter().all(Option::is_some);
    let in_place = matched.iter().enumerate().all(|(i, m)| m.is_none_or(|m| m == i));
    if all && !in_place {
        let mut places = vec![None; parameters.len()];
        for (i, parameter) in matched.iter().enumerate() {
            let Some(place) = parameter.and_then(|p| places.get_mut(p)) else { continue };
            if place.replace(i).is_some() {
                return Err(Error::invalid(format!(
                    "argument {} is named twice; {}",
                    names.get(i).map_or("", String::as_str),
                    expected()
                )));
            }
        }
        for (place, parameter) in places.iter().zip(parameters).take(required) {
            if place.is_none() {
                return Err(Error::invalid(format!(
                    "argument {} is missing; {}",
                    parameter.first().unwrap_or(&""),
                    expected()
                )));
            }
        }
        return Ok(Bound { places, by_name: true });
    }
    if !in_place {
        // A parameter's name at another's place: some arguments are named and others are not, or wrongly.
        let stray = match names.iter().zip(&matched).find(|(_, m)| m.is_none()) {
            Some((name, _)) if !confidential => format!("'{}' is not a parameter's name", cut(name, 60)),
            _ => "others are not".to_owned(),
        };
        return Err(Error::invalid(format!(
            "some arguments are named and {stray}; name all arguments or none; {}",
            expected()
        )));
    }
    if names.len() < required || names.len() > parameters.len() {
        let fault = if names.len() < required { "too few" } else { "too many" };
        return Err(Error::invalid(format!("{fault} arguments ({}); {}", names.len(), expected())));
    }
    let places = (0..parameters.len()).map(|i| (i < names.len()).then_some(i)).collect();
    Ok(Bound { places, by_name: all && names.len() > 1 })
}

impl Bound {
    /// The bytes of parameter `p`; `None` for NULL or not given.
    pub fn bytes<'a>(&self, args: &Args<'a>, p: usize) -> Option<&'a [u8]> {
        args.bytes(self.places.get(p).copied().flatten()?)
    }

    /// The text of parameter `p`; `None` for NULL or not given.
    pub fn text<'a>(&self, args: &Args<'a>, p: usize, parameters: &[&[&str]]) -> Result<Option<&'a str>> {
        let name = parameters.get(p).and_then(|names| names.first()).copied().unwrap_or_default();
        match self.places.get(p).copied().flatten() {
            Some(i) => args.text(i, name),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [&[&str]; 3] = [&["model_id"], &["model_provider"], &["generate_headers_fn", "header_gen_fn"]];

    fn places(names: &[&str]) -> Result<(Vec<Option<usize>>, bool)> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        assign(&names, &P, 1, false).map(|b| (b.places, b.by_name))
    }

    #[test]
    fn positional_calls_may_be_short() {
        assert_eq!(places(&["'x'"]).unwrap(), (vec![Some(0), None, None], false));
        assert_eq!(places(&["'x'", "NULL", "'f'"]).unwrap().0, [Some(0), Some(1), Some(2)]);
        assert!(places(&[]).is_err() && places(&["1", "2", "3", "4"]).is_err());
    }

    #[test]
    fn names_in_any_order_and_under_either_spelling() {
        let (p, by_name) = places(&["HEADER_GEN_FN", "model_id"]).unwrap();
        assert_eq!((p, by_name), (vec![Some(1), None, Some(0)], true));
    }

    #[test]
    fn a_column_called_like_its_parameter_is_positional() {
        assert_eq!(places(&["'m'", "model_provider"]).unwrap().0, [Some(0), Some(1), None]);
    }

    #[test]
    fn doubt_is_an_error() {
        assert!(places(&["model_provider", "'m'"]).unwrap_err().message().contains("name all arguments or none"));
        let confidential = assign(&["model_provider".into(), "sk-5ecret".into()], &P, 1, true).err().unwrap();
        assert!(confidential.message().contains("others are not") && !confidential.message().contains("5ecret"));
        assert!(
            places(&["model_id", "model_id"]).unwrap_err().message().contains("twice")
                || places(&["model_id", "model_id"]).is_err()
        );
        assert!(places(&["model_provider"]).unwrap_err().message().contains("model_id is missing"));
    }
}
