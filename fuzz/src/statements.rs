//! What an account writes: names of arguments, statements, registrations, settings.

use std::sync::LazyLock;

use mysql_ml::jobs::query::read_only;
use mysql_ml::mysql::meaning::Meaning;
use mysql_ml::sql::named::assign;
use mysql_ml::tables::expression::Code;
use mysql_ml_base::account::Account;
use mysql_ml_core::catalog::settings::{self, Settings};
use mysql_ml_core::registration::{self, Registration};
use surface::Function;

use crate::{first, two_parts};

/// The function's number, then a name of an argument a line.
pub fn arguments(data: &[u8]) {
    static FUNCTIONS: LazyLock<Vec<&Function>> = LazyLock::new(|| surface::functions::all().collect());
    let (number, names) = first(data);
    let function = FUNCTIONS[usize::from(number) % FUNCTIONS.len()];
    let names: Vec<String> = String::from_utf8_lossy(names).split('\n').map(str::to_owned).collect();
    match assign(&names, function) {
        Ok(bound) => {
            let given = (0..function.parameters.len()).filter(|p| bound.is_given(*p)).count();
            assert!((0..function.required()).all(|p| bound.is_given(p)), "a required argument is missing");
            assert_eq!(given, names.len(), "an argument is lost or doubled");
        }
        Err(error) if function.confidential => {
            let secret = names.iter().find(|name| name.starts_with("sk-") && error.message().contains(name.as_str()));
            assert!(secret.is_none(), "an error quotes {secret:?}");
        }
        Err(_) => {}
    }
}

/// A statement or expression; its first byte tells whether backslashes escape.
pub fn statements(data: &[u8]) {
    let (mode, text) = first(data);
    let text = String::from_utf8_lossy(text);
    let backslash = mode % 2 == 0;
    let _ = Code::of(&text, backslash).names_user_variable();
    // Nothing inside a literal or a name is taken for code.
    let literal = if backslash { text.replace('\\', "\\\\") } else { text.to_string() }.replace('\'', "\'\'");
    let code = Code::of(&format!("SELECT '{literal}', `{}` FROM t", text.replace('`', "``")), backslash);
    let words: Vec<&str> = code.words.iter().map(|word| word.text.as_str()).collect();
    assert_eq!(words, ["SELECT", &text, "FROM", "t"]);
    if let Ok(statement) = read_only(&text, &Meaning::default()) {
        assert!(text.contains(&statement) && !statement.ends_with(';'), "of {text}");
    }
}

/// Ten arguments of a registration, one a line, and behind a NUL its options.
pub fn registrations(data: &[u8]) {
    let (arguments, options) = two_parts(data);
    let arguments = String::from_utf8_lossy(arguments);
    let options = String::from_utf8_lossy(options);
    let mut lines = arguments.split('\n').map(|line| (!line.is_empty()).then(|| line.to_owned()));
    let arguments = std::array::from_fn(|_| lines.next().flatten());
    let Ok(registration) = Registration::from_arguments(arguments) else { return };
    let registration = registration.without_blanks();
    let _ = registration.check_for_keys();
    let options = (!options.is_empty()).then_some(&*options);
    if let Ok(model) = registration.to_model(options, Account::library(), "") {
        let settings = Settings::default();
        let checked = registration::check(&model, &settings);
        if let (Ok(()), Ok(url)) = (checked, registration::checked_url(&model, &settings)) {
            crate::requests::is_allowed(&url, &settings.network.egress_allowlist);
        }
    }
}

/// A setting's name, a NUL, and its value.
pub fn settings(data: &[u8]) {
    let (name, value) = two_parts(data);
    let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
    if settings::check(&name, &value).is_ok() {
        Settings::from_rows([(&*name, value.trim())].into_iter()).expect("a setting that was accepted can be read");
    }
}
