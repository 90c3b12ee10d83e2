//! Configuration from outside: the examples, the schema, and the words a user reads when something is wrong.

use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};
use warren::config::{self, Report};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(here(dir)).expect("the directory is in the repository");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{dir} has no .{extension}");
    files
}

/// What a terminal without colours shows, 100 columns wide.
fn shown(report: &Report) -> String {
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut text, report)
        .expect("a string can be written to");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn every_example_loads_and_verifies() {
    for path in files("examples", "toml") {
        let spec = config::load(&path).unwrap_or_else(|report| panic!("{}", shown(&report)));
        config::verify(&spec).unwrap_or_else(|report| panic!("{report:#}"));
        let stored = serde_json::to_string(&spec).expect("a spec can be stored");
        let back: config::spec::FabricSpec =
            serde_json::from_str(&stored).expect("a stored spec can be read");
        assert_eq!(back, spec, "{}", path.display());
        assert!(config::diff(&spec, &back).is_empty());
    }
}

/// Each `tests/config/*.toml` is a bad file, and the `.txt` beside it is what the user sees.
/// `WARREN_BLESS=1 cargo test --test config` writes the texts anew: read the difference before it is committed.
#[test]
fn every_bad_file_is_refused_with_these_words() {
    let bless = std::env::var_os("WARREN_BLESS").is_some();
    for path in files("tests/config", "toml") {
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let name = path.file_name().and_then(|name| name.to_str()).expect("the file has a name");
        let mut read = |file: &Path| std::fs::read_to_string(here("tests/config").join(file));
        let report = config::parse_with(name, &text, &mut read).expect_err(name);
        let shown = shown(&report);
        let golden = path.with_extension("txt");
        if bless {
            std::fs::write(&golden, &shown).expect("the text can be written");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(shown, expected, "{name}: the words have changed");
    }
}

#[test]
fn the_schema_takes_what_the_loader_takes() {
    let schema = config::schema();
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let as_json = |path: &Path| -> serde_json::Value {
        let text = std::fs::read_to_string(path).expect("the file can be read");
        json(&toml::de::DeValue::Table(toml::de::DeTable::parse(&text).expect("it is TOML").into_inner()))
    };
    for path in files("examples", "toml") {
        let value = as_json(&path);
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
    for refused in ["unknown-key", "unknown-parameter"] {
        let value = as_json(&here(&format!("tests/config/{refused}.toml")));
        assert!(!validator.is_valid(&value), "{refused}");
    }
}

/// TOML as JSON; dates have no place in a configuration.
fn json(value: &toml::de::DeValue<'_>) -> serde_json::Value {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).expect("64 bits").into()
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().expect("a float").into(),
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(array) => array.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => serde_json::Value::Object(
            table.iter().map(|(key, item)| (key.get_ref().to_string(), json(item.get_ref()))).collect(),
        ),
    }
}
