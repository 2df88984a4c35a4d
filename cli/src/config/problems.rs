//! What is wrong with the configuration, for a person to mend.

use std::fmt;

/// One setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub setting: &'static str,
    pub wrong: String,
    pub cure: String,
}

/// All of them at once, so that nobody mends them one start at a time.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { setting, wrong, cure }) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{setting} {wrong}: {cure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
