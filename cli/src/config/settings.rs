//! Reading settings one by one, remembering everything that was wrong.

use std::{path::PathBuf, str::FromStr};

use super::{Config, Environment, Problem, Problems, reference};

pub struct Reader<'a> {
    pub environment: &'a Environment,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    errors: Vec<String>,
}

impl<'a> Reader<'a> {
    pub const fn new(environment: &'a Environment) -> Self {
        Self { environment, problems: Vec::new(), warnings: Vec::new(), errors: Vec::new() }
    }

    pub fn problem(&mut self, setting: &'static str, wrong: &str, cure: &str) {
        self.problems.push(Problem { setting, wrong: wrong.to_owned(), cure: cure.to_owned() });
    }

    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Something that does not stop the start and yet should be mended.
    pub fn error_later(&mut self, error: String) {
        self.errors.push(error);
    }

    pub fn text(&self, name: &'static str) -> Option<String> {
        debug_assert!(
            reference::SETTINGS.iter().any(|setting| setting.name == name),
            "{name} is not in the reference"
        );
        self.environment.get(name).map(str::to_owned)
    }

    pub fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// A value read by `read`, whose error is worded to stand behind the setting's name.
    pub fn mapped<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.problem(name, &wrong, "correct it, or unset it for the default");
                None
            }
        }
    }

    pub fn parse<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.problem(name, &format!("is `{text}`"), &format!("set {expected}"));
        }
        value
    }

    /// A whole number of at least one.
    pub fn count(&mut self, name: &'static str) -> Option<u32> {
        let number = self.parse::<u32>(name, "a whole number of at least 1")?;
        if number == 0 {
            self.problem(name, "is 0", "set a whole number of at least 1");
        }
        Some(number)
    }

    pub fn one_of(&mut self, name: &'static str, known: &[&str]) -> Option<String> {
        let text = self.text(name)?.to_lowercase();
        if !known.contains(&text.as_str()) {
            self.problem(name, &format!("is `{text}`"), &format!("set one of {}", known.join(", ")));
        }
        Some(text)
    }

    /// Off, unless it is said.
    pub fn flag(&mut self, name: &'static str) -> bool {
        self.switch(name).unwrap_or(false)
    }

    /// On or off, if it is said.
    pub fn switch(&mut self, name: &'static str) -> Option<bool> {
        let text = self.one_of(name, &["true", "false", "1", "0"])?;
        Some(text == "true" || text == "1")
    }

    /// A comma-separated list.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let text = self.text(name)?;
        let mut values = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match read(item) {
                Ok(value) => values.push(value),
                Err(wrong) => self.problem(name, &wrong, "separate entries by commas, each as described"),
            }
        }
        Some(values)
    }

    pub fn finish(mut self, config: Config) -> Result<Config, Problems> {
        for (name, effect) in reference::NOT_YET {
            if self.environment.get(name).is_some() {
                self.warnings.push(format!("{name} is set and has no effect yet: {effect}"));
            }
        }
        if self.problems.is_empty() {
            Ok(Config { warnings: self.warnings, errors: self.errors, ..config })
        } else {
            Err(Problems(self.problems))
        }
    }
}

/// A `pool_*` parameter of a database URL, which the driver does not know.
pub fn pool_parameter(url: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The URL without its `pool_*` parameters.
pub fn without_pool_parameters(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else { return text.to_owned() };
    if url.query().is_none_or(|query| !query.contains("pool_")) {
        return text.to_owned();
    }
    let kept: Vec<(String, String)> =
        url.query_pairs().into_owned().filter(|(key, _)| !key.starts_with("pool_")).collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    url.into()
}
