//! The catalogue of functions and procedures to call.

use surface::functions::{all, mysql_ml_so_create_function, mysql_ml_so_drop_procedure};
use surface::{Exported, Kind};

/// A function or procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Routine {
    /// The name in calls: with its schema, or without one for a loadable function.
    pub(super) name: String,
    /// The names of its parameters.
    pub(super) parameters: Vec<String>,
}

/// All routines, by the kind of their calls.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) loadable: Vec<Routine>,
    pub(super) aggregates: Vec<Routine>,
    pub(super) functions: Vec<Routine>,
    pub(super) procedures: Vec<Routine>,
    pub(super) views: Vec<String>,
}

impl Catalogue {
    /// All functions and routines of the library and its scripts.
    pub(super) fn new() -> Catalogue {
        let mut catalogue = Catalogue {
            views: [
                "mysql.ml_model_providers",
                "mysql.vector_indexes",
                "ai.embedding_progress_view",
                "ai.vector_indexes",
            ]
            .map(str::to_owned)
            .into(),
            ..Catalogue::default()
        };
        // They are other forms of CREATE FUNCTION and DROP PROCEDURE, which are left out.
        let ddl = [mysql_ml_so_create_function, mysql_ml_so_drop_procedure];
        for function in all().filter(|function| !ddl.contains(function)) {
            let parameters: Vec<String> = function.declared().map(|(name, _)| name.to_owned()).collect();
            let routine = |name: String| Routine { name, parameters: parameters.clone() };
            let list = match function.exported {
                Some(Exported::Aggregate) => &mut catalogue.aggregates,
                _ => &mut catalogue.loadable,
            };
            list.extend(function.symbols().map(|name| routine(name.to_owned())));
            let (Some(stored), Some((schema, name))) = (&function.routine, function.routine_name()) else { continue };
            let list = match stored.kind {
                Kind::Function => &mut catalogue.functions,
                Kind::Procedure => &mut catalogue.procedures,
            };
            list.push(routine(format!("{schema}.{name}")));
        }
        catalogue
    }

    /// Number of routines.
    pub(super) fn len(&self) -> usize {
        self.loadable.len() + self.aggregates.len() + self.functions.len() + self.procedures.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_there_as_it_is_called() {
        let all = Catalogue::new();
        let find = |list: &[Routine], name: &str| list.iter().find(|r| r.name == name).map(|r| r.parameters.join(" "));
        assert_eq!(find(&all.loadable, "ml_embedding").as_deref(), Some("model_id content"));
        assert_eq!(find(&all.loadable, "mysql_ml_so_ml_embedding").as_deref(), Some("model_id content"));
        assert_eq!(
            find(&all.loadable, "ml_refresh_embeddings").as_deref(),
            Some("table_name embedding_column batch_size")
        );
        assert_eq!(find(&all.functions, "mysql.ml_version").as_deref(), Some(""));
        assert_eq!(find(&all.aggregates, "ml_embedding_agg").as_deref(), Some("model_id key content"));
        assert!(
            find(&all.procedures, "ai.initialize_embeddings").is_some_and(|p| p.ends_with("incremental_refresh_mode"))
        );
        assert_eq!(find(&all.loadable, "mysql_ml_so_create_function"), None);
    }
}
