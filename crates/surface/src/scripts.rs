//! The generated sections of the SQL scripts and of the reference.
//!
//! A section is between the lines `-- Generated: NAME` and `-- End of NAME`, in Markdown `<!-- Generated: NAME -->` and
//! `<!-- End of NAME -->`; the rest of a file is written by hand.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::functions::{self, all, exported, Body, Exported, Function, Kind, Role, Security};
use crate::settings::SETTINGS;

/// The files with generated sections.
pub const SCRIPTS: [&str; 5] =
    ["install.sql", "install-ai.sql", "uninstall.sql", "before-restore.sql", "docs/routines.md"];

const LIBRARY: &str = "mysql_ml.so";
const OWNER: &str = "`mysql_ml`@`localhost`";

/// Writes the generated sections of the scripts in `folder`. Returns the scripts that differed.
///
/// # Errors
///
/// A script cannot be read or written, or has an unknown or unclosed section.
pub fn write(folder: &Path) -> io::Result<Vec<&'static str>> {
    let differing = differing(folder)?;
    for (name, text) in &differing {
        fs::write(folder.join(name), text)?;
    }
    Ok(differing.into_iter().map(|(name, _)| name).collect())
}

/// The scripts in `folder` whose generated sections differ from the tables.
///
/// # Errors
///
/// As [`write()`].
pub fn check(folder: &Path) -> io::Result<Vec<&'static str>> {
    Ok(differing(folder)?.into_iter().map(|(name, _)| name).collect())
}

fn differing(folder: &Path) -> io::Result<Vec<(&'static str, String)>> {
    let mut differing = Vec::new();
    for name in SCRIPTS {
        let text = fs::read_to_string(folder.join(name))?;
        let filled = fill(&text).map_err(|e| io::Error::other(format!("{name}: {e}")))?;
        if filled != text {
            differing.push((name, filled));
        }
    }
    Ok(differing)
}

/// The script with newly generated sections.
fn fill(script: &str) -> Result<String, String> {
    let mut filled = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        filled.push_str(line);
        filled.push('\n');
        let markdown = line.strip_prefix("<!-- Generated: ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some(name) = line.strip_prefix("-- Generated: ").or(markdown) else { continue };
        filled.push_str(&section(name).ok_or_else(|| format!("the section '{name}' is not known"))?);
        let end = if markdown.is_some() { format!("<!-- End of {name} -->") } else { format!("-- End of {name}") };
        if !lines.any(|line| line == end) {
            return Err(format!("the section '{name}' is not closed by '{end}'"));
        }
        filled.push_str(&end);
        filled.push('\n');
    }
    Ok(filled)
}

fn section(name: &str) -> Option<String> {
    let certain = || exported().filter(|f| !f.maybe_native);
    let maybe_native = || exported().filter(|f| f.maybe_native);
    Some(match name {
        "loadable functions" => certain().flat_map(loadable).collect(),
        "loadable functions that the server may have" => maybe_native()
            .flat_map(|f| {
                loadable(f)
                    .map(|made| format!("DO mysql_ml_so_create_function('{}'); -- {}", f.name, made.replace(';', "")))
            })
            .collect(),
        "names of settings" => names_of_settings(),
        "routines of schema mysql" => routines("mysql"),
        "routines of schema ai" => routines("ai"),
        "rights of the owner" => grants(OWNER, |f| f.routine.as_ref().is_some_and(|r| r.security == Security::Definer)),
        "rights of ml_user" => grants("`ml_user`", |f| is(f, "mysql", Role::User)),
        "rights of ml_user in schema ai" => grants("`ml_user`", |f| is(f, "ai", Role::User)),
        "rights of ml_admin" => grants("`ml_admin`", |f| is(f, "mysql", Role::Admin)),
        "drops of routines of schema mysql" => drops("mysql"),
        "drops of routines of schema ai" => drops("ai"),
        "drops of procedures that the server may have" => drops_of_own_procedures(),
        "drops of loadable functions" => exported().flat_map(Function::symbols).map(drop_function).collect(),
        "drops of loadable functions that stored ones wrap" => {
            exported().filter(|f| f.second_name.is_some()).map(|f| drop_function(f.name)).collect()
        }
        "table of schema mysql" => table("mysql"),
        "table of schema ai" => table("ai"),
        "table of loadable functions" => table_of_loadable(),
        "table of settings" => table_of_settings(),
        _ => return None,
    })
}

fn is(f: &Function, schema: &str, role: Role) -> bool {
    f.routine.as_ref().is_some_and(|r| r.schema == schema && r.execute == role)
}

fn drop_function(name: &str) -> String {
    format!("DROP FUNCTION IF EXISTS {name};\n")
}

fn loadable(f: &'static Function) -> impl Iterator<Item = String> {
    let (aggregate, returns) = match f.exported {
        Some(Exported::Real) => ("", "REAL"),
        Some(Exported::Integer) => ("", "INTEGER"),
        Some(Exported::Aggregate) => ("AGGREGATE ", "STRING"),
        Some(Exported::Bytes) | None => ("", "STRING"),
    };
    f.symbols().map(move |name| {
        format!("CREATE {aggregate}FUNCTION IF NOT EXISTS {name} RETURNS {returns} SONAME '{LIBRARY}';\n")
    })
}

fn names_of_settings() -> String {
    let names: Vec<String> = SETTINGS.iter().map(|setting| format!("    '{}'", setting.name)).collect();
    format!(
        "ALTER TABLE mysql.cloudsql_ml_settings\n  \
           DROP CONSTRAINT cloudsql_ml_settings_name,\n  \
           ADD CONSTRAINT cloudsql_ml_settings_name CHECK (name IN (\n{}));\n",
        names.join(",\n")
    )
}

/// The functions with a routine in the schema, with its kind and its name.
fn of_schema(schema: &str) -> impl Iterator<Item = (&'static Function, &'static str, String)> + '_ {
    all().filter_map(move |f| {
        let (own, name) = f.routine_name().filter(|(own, _)| *own == schema)?;
        Some((f, if f.is_procedure() { "PROCEDURE" } else { "FUNCTION" }, format!("{own}.{name}")))
    })
}

/// The rows of a Markdown table: the routines of a schema by name.
fn table(schema: &str) -> String {
    let mut rows: Vec<String> = of_schema(schema)
        .filter_map(|(f, kind, name)| {
            let routine = f.routine.as_ref()?;
            let parameters: Vec<&str> = f.declared().map(|(name, _)| name).collect();
            let call = if kind == "PROCEDURE" { "CALL " } else { "" };
            let result = routine.returns.0.split(" CHARACTER SET").next().unwrap_or_default();
            let role = match routine.execute {
                Role::User => "`ml_user`",
                Role::Admin => "`ml_admin`",
            };
            let loadable = f.exported.map_or(String::new(), |_| format!("`{}`", f.name));
            Some(format!(
                "| `{call}{name}({})` | {} | {loadable} | {role} | {} |\n",
                parameters.join(", "),
                if result.is_empty() { String::new() } else { format!("`{result}`") },
                routine.comment
            ))
        })
        .collect();
    rows.sort_by_key(|row| row.replace("CALL ", ""));
    format!("\n| call | returns | loadable | role | what it does |\n|---|---|---|---|---|\n{}\n", rows.concat())
}

/// The rows of a Markdown table: loadable functions without a routine, by name.
fn table_of_loadable() -> String {
    let mut rows: Vec<String> = exported()
        .filter(|f| f.routine.is_none())
        .map(|f| {
            let mut parameters: Vec<String> = Vec::new();
            for p in f.parameters {
                parameters.push(if p.optional { format!("[{}]", p.name) } else { p.name.to_owned() });
            }
            let result = match f.exported {
                Some(Exported::Real) => "REAL",
                Some(Exported::Integer) => "INTEGER",
                Some(Exported::Aggregate) => "STRING, of a group",
                Some(Exported::Bytes) | None => "STRING",
            };
            format!("| `{}({})` | {result} |\n", f.name, parameters.join(", "))
        })
        .collect();
    rows.sort();
    format!("\n| function | returns |\n|---|---|\n{}\n", rows.concat())
}

/// The rows of a Markdown table: the settings by name.
fn table_of_settings() -> String {
    let mut rows: Vec<String> = SETTINGS
        .iter()
        .map(|setting| {
            let default =
                if setting.default.is_empty() { "empty".to_owned() } else { format!("`{}`", setting.default) };
            let range = setting.range.map_or(String::new(), |(min, max)| format!("{min} to {max}"));
            format!("| `{}` | {default} | {range} |\n", setting.name)
        })
        .collect();
    rows.sort();
    format!("\n| setting | default | range |\n|---|---|---|\n{}\n", rows.concat())
}

fn maybe_native(f: &Function) -> bool {
    f.routine.as_ref().is_some_and(|r| r.maybe_native)
}

fn drops(schema: &str) -> String {
    of_schema(schema)
        .filter(|(f, ..)| !maybe_native(f))
        .map(|(_, kind, name)| format!("DROP {kind} IF EXISTS {name};\n"))
        .collect()
}

/// The call that drops the procedures that the server may have of its own, if they are the library's.
fn drops_of_own_procedures() -> String {
    let name = functions::mysql_ml_so_drop_procedure.name;
    let calls: Vec<String> = all()
        .filter(|f| maybe_native(f))
        .filter_map(|f| Some(format!("{name}(''{}'')", f.routine_name()?.1)))
        .collect();
    format!(
        "SET @mysql_ml_drop = IF(\n  \
           EXISTS (SELECT * FROM performance_schema.user_defined_functions WHERE UDF_NAME = '{name}'),\n  \
           'DO {}',\n  'DO 0');\n\
         PREPARE mysql_ml_drop FROM @mysql_ml_drop;\nEXECUTE mysql_ml_drop;\n",
        calls.join(",\n     ")
    )
}

fn grants(to: &str, wanted: impl Fn(&Function) -> bool) -> String {
    ["mysql", "ai"]
        .into_iter()
        .flat_map(of_schema)
        .filter(|(f, ..)| wanted(f))
        .map(|(f, kind, name)| {
            let grant = format!("GRANT EXECUTE ON {kind} {name} TO {to}");
            match f.routine_name().filter(|_| maybe_native(f)) {
                Some((schema, name)) => if_own(schema, name, &grant),
                None => format!("{grant};\n"),
            }
        })
        .collect()
}

/// A statement that runs if the routine is the library's.
fn if_own(schema: &str, name: &str, statement: &str) -> String {
    format!(
        "SET @mysql_ml_grant = IF(\n  \
           EXISTS (\n    \
             SELECT * FROM information_schema.ROUTINES\n    \
             WHERE ROUTINE_SCHEMA = '{schema}' AND ROUTINE_NAME = '{name}' AND ROUTINE_COMMENT LIKE 'mysql-ml:%'),\n  \
           '{statement}',\n  'DO 0');\n\
         PREPARE mysql_ml_grant FROM @mysql_ml_grant;\nEXECUTE mysql_ml_grant;\n"
    )
}

fn routines(schema: &str) -> String {
    let mut text = String::new();
    for (f, kind, name) in of_schema(schema) {
        let Some(routine) = &f.routine else { continue };
        if !text.is_empty() {
            text.push('\n');
        }
        for line in routine.note {
            let _ = writeln!(text, "-- {line}");
        }
        let body = body(f, routine.kind, routine.body);
        // The client ends a statement at each ';' unless it is told otherwise.
        let several = body.contains(';');
        if several {
            text.push_str("DELIMITER //\n");
        }
        let parameters: Vec<String> = f.declared().map(|(name, sql_type)| format!("\n    {name} {sql_type}")).collect();
        let _ = writeln!(text, "CREATE DEFINER = {OWNER} {kind} IF NOT EXISTS {name}({})", parameters.join(","));
        let security = match routine.security {
            Security::Invoker => "SQL SECURITY INVOKER",
            Security::Definer => "SQL SECURITY DEFINER",
        };
        let _ = match routine.returns {
            (result, volatility) if routine.kind == Kind::Function => {
                writeln!(text, "  RETURNS {result} {volatility} {security}")
            }
            _ => writeln!(text, "  {security}"),
        };
        let _ = writeln!(text, "  COMMENT 'mysql-ml: {}'", routine.comment);
        let _ = match several {
            true => writeln!(text, "  {body}//\nDELIMITER ;"),
            false => writeln!(text, "  {body};"),
        };
    }
    text
}

/// The statement of a routine. A long list of arguments is broken into lines of two.
fn body(f: &Function, kind: Kind, body: Body) -> String {
    let names: Vec<&str> = f.declared().map(|(name, _)| name).collect();
    let arguments = match names.len() {
        ..=5 => names.join(", "),
        _ => format!("\n    {}", names.chunks(2).map(|pair| pair.join(", ")).collect::<Vec<_>>().join(",\n    ")),
    };
    let call = format!("{}({arguments})", f.second_name.unwrap_or(f.name));
    match (body, kind) {
        (Body::Around(statement), _) => statement.replace("{call}", &call),
        (Body::Call, Kind::Function) => format!("RETURN {call}"),
        (Body::Call, Kind::Procedure) => format!("DO {call}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_scripts_are_those_of_the_tables() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert_eq!(check(&folder).unwrap(), Vec::<&str>::new(), "run: cargo xtask sql");
    }

    #[test]
    fn text_outside_of_the_sections_stays() {
        let script = "-- by hand\n-- Generated: names of settings\nold\n-- End of names of settings\nDO 1;\n";
        let filled = fill(script).unwrap();
        assert!(
            filled.starts_with("-- by hand\n") && filled.ends_with("DO 1;\n") && !filled.contains("old"),
            "{filled}"
        );
        assert_eq!(fill(&filled).unwrap(), filled);
    }

    #[test]
    fn a_section_that_is_unknown_or_open_is_refused() {
        for (script, wanted) in [
            ("-- Generated: nothing\n-- End of nothing\n", "is not known"),
            ("-- Generated: names of settings\nDO 1;\n", "is not closed"),
        ] {
            let error = fill(script).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
