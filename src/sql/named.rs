//! Named arguments: `f('x' AS model_id, ...)`, in any order, missing ones NULL.
//!
//! The server names each argument: its alias, or else the text of its expression. A column or variable with a
//! parameter's name looks like an alias. So names count only if they leave no doubt.

use surface::{Function, Parameter};

use crate::mysql::ffi::args::{ArgKind, Args, Setup};
use mysql_ml_base::error::{cut, Error, Result};

/// The assignment of arguments to parameters.
pub struct Bound {
    function: &'static Function,
    places: Vec<Option<usize>>,
    /// Whether the arguments were named.
    pub by_name: bool,
}

/// Assigns the arguments of a call to the parameters of `function` and requests them as text from the server.
/// Positional calls may omit optional arguments. Errors of a confidential function quote no names: an argument
/// without an alias is named by its own text. A binary parameter keeps its bytes, in any character set.
pub fn bind(setup: &Setup<'_>, function: &'static Function) -> Result<Bound> {
    let names: Vec<String> = (0..setup.args.len()).map(|i| setup.args.name(i)).collect();
    let bound = assign(&names, function)?;
    let binary = function.parameters.iter().position(|p| p.binary).and_then(|p| bound.place(p));
    for i in 0..setup.args.len() {
        if Some(i) == binary && setup.args.kind(i) == ArgKind::String {
            continue;
        }
        setup.text(i)?;
    }
    Ok(bound)
}

fn signature(function: &Function) -> String {
    function.parameters.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}

/// Whether a parameter has this name, in any case.
pub(super) fn goes_by(parameter: &Parameter, name: &str) -> bool {
    parameter.name.eq_ignore_ascii_case(name) || parameter.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
}

/// Assigns arguments with these names, empty without one, to the parameters of `function`.
pub fn assign(names: &[String], function: &'static Function) -> Result<Bound> {
    let (parameters, required) = (function.parameters, function.required());
    let expected = || format!("expected ({})", signature(function));
    let matched: Vec<Option<usize>> =
        names.iter().map(|name| parameters.iter().position(|p| goes_by(p, name))).collect();
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
                return Err(Error::invalid(format!("argument {} is missing; {}", parameter.name, expected())));
            }
        }
        return Ok(Bound { function, places, by_name: true });
    }
    if !in_place {
        // A parameter's name in the position of another: some arguments are named and others are not, or a name is
        // wrong.
        let stray = match names.iter().zip(&matched).find(|(_, m)| m.is_none()) {
            Some((name, _)) if !function.confidential => format!("'{}' is not a parameter's name", cut(name, 60)),
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
    Ok(Bound { function, places, by_name: all && names.len() > 1 })
}

impl Bound {
    fn place(&self, p: usize) -> Option<usize> {
        self.places.get(p).copied().flatten()
    }

    /// Whether parameter `p` was given, perhaps as NULL.
    pub fn is_given(&self, p: usize) -> bool {
        self.place(p).is_some()
    }

    /// The bytes of parameter `p`; `None` for NULL or not given.
    pub fn bytes<'a>(&self, args: &Args<'a>, p: usize) -> Option<&'a [u8]> {
        args.bytes(self.place(p)?)
    }

    /// The text of parameter `p`; `None` for NULL or not given.
    pub fn text<'a>(&self, args: &Args<'a>, p: usize) -> Result<Option<&'a str>> {
        match self.place(p) {
            Some(i) => args.text(i, self.function.parameter(p)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use surface::functions::{ml_create_secret, ml_image_embedding};

    fn places(names: &[&str]) -> Result<(Vec<Option<usize>>, bool)> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        assign(&names, ml_image_embedding).map(|b| (b.places, b.by_name))
    }

    #[test]
    fn positional_calls_may_be_short() {
        assert_eq!(places(&["'x'", "'y'"]).unwrap(), (vec![Some(0), Some(1), None], false));
        assert_eq!(places(&["'x'", "NULL", "'f'"]).unwrap().0, [Some(0), Some(1), Some(2)]);
        assert!(places(&["'x'"]).is_err() && places(&["1", "2", "3", "4"]).is_err());
    }

    #[test]
    fn names_in_any_order_and_under_either_spelling() {
        let (p, by_name) = places(&["MIMETYPE", "image", "model_id"]).unwrap();
        assert_eq!((p, by_name), (vec![Some(2), Some(1), Some(0)], true));
        assert_eq!(places(&["image", "model_id"]).unwrap().0, [Some(1), Some(0), None]);
    }

    #[test]
    fn a_column_called_like_its_parameter_is_positional() {
        assert_eq!(places(&["'m'", "image"]).unwrap().0, [Some(0), Some(1), None]);
    }

    #[test]
    fn doubt_is_an_error() {
        assert!(places(&["image", "'m'"]).unwrap_err().message().contains("name all arguments or none"));
        let confidential = assign(&["value".into(), "sk-5ecret".into()], ml_create_secret).err().unwrap();
        assert!(confidential.message().contains("others are not") && !confidential.message().contains("5ecret"));
        assert!(places(&["image", "model_id", "image"]).unwrap_err().message().contains("twice"));
        assert!(places(&["mime_type", "image"]).unwrap_err().message().contains("model_id is missing"));
    }
}
