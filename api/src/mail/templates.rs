//! What the mails say: templates that are built in, each replaced by an operator's file of its name.
//!
//! Every template is rendered once at the start with values made up for that, so that a slip in a
//! file is found then and not when somebody waits for a code. What people call themselves and their
//! workspaces comes in as one line without tricks, and into HTML escaped.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, TimeDelta};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use tally_domain::login::{CODE_LIFETIME, Digits, IssuedCode};
use tally_events::{CodeId, InvitationId, LoginId, Role};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Invitation, Mail};

/// File names, and what stands there unless an operator says otherwise. Each mail has a subject, a
/// text and the same in HTML; `layout.html` surrounds every HTML.
const BUILT_IN: [(&str, &str); 10] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("login_code.subject", include_str!("templates/login_code.subject")),
    ("login_code.txt", include_str!("templates/login_code.txt")),
    ("login_code.html", include_str!("templates/login_code.html")),
    ("signup_refused.subject", include_str!("templates/signup_refused.subject")),
    ("signup_refused.txt", include_str!("templates/signup_refused.txt")),
    ("signup_refused.html", include_str!("templates/signup_refused.html")),
    ("invitation.subject", include_str!("templates/invitation.subject")),
    ("invitation.txt", include_str!("templates/invitation.txt")),
    ("invitation.html", include_str!("templates/invitation.html")),
];

/// Characters of a name that somebody chose.
const NAME_CHARACTERS_MAX: usize = 80;
/// Characters of a subject.
const SUBJECT_CHARACTERS_MAX: usize = 200;
/// Bytes of an operator's file: far more than any mail should have.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The web client that the mails speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Such as `app.example.org`.
    pub name: String,
    /// Such as `https://app.example.org`.
    pub url: String,
}

impl Site {
    #[must_use]
    pub fn of_origin(origin: &str) -> Self {
        let name = origin.split_once("://").map_or(origin, |(_, host)| host);
        Self { name: name.to_owned(), url: origin.to_owned() }
    }

    /// The URL of one of its pages.
    fn page(&self, path: &str) -> String {
        format!("{}/{path}", self.url.trim_end_matches('/'))
    }
}

/// The texts of one mail.
pub struct Rendered {
    /// One line.
    pub subject: String,
    pub text: Zeroizing<String>,
    pub html: Zeroizing<String>,
}

/// Every template, parsed.
#[derive(Clone, Debug)]
pub struct Templates(Environment<'static>);

/// What is wrong with a template. Worded to stand behind a setting's name.
#[derive(Debug)]
pub struct TemplateError {
    file: PathBuf,
    line: Option<usize>,
    wrong: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "holds {}, which is wrong", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, " at line {line}")?;
        }
        write!(f, ": {}", self.wrong)
    }
}

impl std::error::Error for TemplateError {}

/// A template that failed although it did not when it was tried at the start. It tells no value:
/// one of them may be a code.
#[derive(Debug, thiserror::Error)]
#[error("the template {file} is wrong at line {line}: {wrong}")]
pub struct RenderError {
    file: String,
    line: usize,
    wrong: ErrorKind,
}

impl From<minijinja::Error> for RenderError {
    fn from(error: minijinja::Error) -> Self {
        let file = error.name().unwrap_or("?").to_owned();
        Self { file, line: error.line().unwrap_or_default(), wrong: error.kind() }
    }
}

impl Templates {
    /// The built-in templates, and in place of each the file of its name in `directory`.
    ///
    /// # Errors
    /// The first file that cannot be read, has a name that no mail asks for, or cannot be rendered.
    pub fn load(directory: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // A variable that no mail has is a slip of the pen, not an empty place.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let located = |file: &str, error: &minijinja::Error| {
            let file = directory.map_or_else(|| PathBuf::from(file), |directory| directory.join(file));
            TemplateError { file, line: error.line(), wrong: explain(error) }
        };
        for (name, text) in BUILT_IN {
            environment.add_template(name, text).map_err(|error| located(name, &error))?;
        }
        for (name, text) in directory.map(overrides).transpose()?.unwrap_or_default() {
            environment.add_template_owned(name, text).map_err(|error| located(name, &error))?;
        }
        let templates = Self(environment);
        for mail in samples() {
            templates
                .try_render(&mail, &Site::of_origin("https://app.example.org"))
                .map_err(|error| located(error.name().unwrap_or(mail.kind()), &error))?;
        }
        Ok(templates)
    }

    /// The texts of a mail.
    pub(super) fn render(&self, mail: &Mail, site: &Site) -> Result<Rendered, RenderError> {
        Ok(self.try_render(mail, site)?)
    }

    /// The subject knows no code: subjects end in the logs of mail servers.
    fn try_render(&self, mail: &Mail, site: &Site) -> Result<Rendered, minijinja::Error> {
        let (open, secret) = variables(mail, site);
        let open = || {
            let site = [("site", Value::from(&*site.name)), ("site_url", Value::from(&*site.url))];
            open.iter().cloned().chain(site)
        };
        let kind = mail.kind();
        let render = |suffix: &str, values: Value| {
            self.0.get_template(&format!("{kind}.{suffix}"))?.render(values).map(Zeroizing::new)
        };
        let subject = render("subject", Value::from_pairs(open()))?;
        let all = || Value::from_pairs(open().chain(secret.clone()));
        Ok(Rendered {
            subject: one_line(&subject, SUBJECT_CHARACTERS_MAX),
            text: render("txt", all())?,
            html: render("html", all())?,
        })
    }
}

type Variable = (&'static str, Value);

/// What a mail's templates may use: everywhere, and everywhere but in the subject.
fn variables(mail: &Mail, site: &Site) -> (Vec<Variable>, Option<Variable>) {
    let name = |text: &str| Value::from(one_line(text, NAME_CHARACTERS_MAX));
    match mail {
        Mail::LoginCode { digits, .. } => (
            vec![("minutes", Value::from(CODE_LIFETIME.num_minutes()))],
            Some(("code", Value::from(digits.expose()))),
        ),
        Mail::SignupRefused { .. } => (Vec::new(), None),
        Mail::Invitation(Invitation { id, workspace, inviter, role, expires_at }) => {
            let expires_at = expires_at.format("%-d %B %Y at %H:%M UTC").to_string();
            let open = vec![
                ("workspace", name(workspace)),
                ("inviter", name(inviter)),
                ("role", Value::from(role.as_str())),
                ("expires_at", Value::from(expires_at)),
            ];
            (open, Some(("link", Value::from(site.page(&format!("invite/{id}"))))))
        }
    }
}

/// The files of a directory that take the place of built-in templates.
fn overrides(directory: &Path) -> Result<Vec<(&'static str, String)>, TemplateError> {
    let unreadable = |file: &Path, error: &io::Error| TemplateError {
        file: file.to_owned(),
        line: None,
        wrong: error.to_string(),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, &error))? {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Editors and mounted volumes keep their own things beside what is meant.
        if file.starts_with('.') || path.is_dir() {
            continue;
        }
        let Some((name, _)) = BUILT_IN.iter().find(|(name, _)| *name == file) else {
            let known = BUILT_IN.map(|(name, _)| name).join(", ");
            let wrong = format!("no mail asks for it; the names are {known}");
            return Err(TemplateError { file: path, line: None, wrong });
        };
        let length = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
        if length > FILE_BYTES_MAX {
            let wrong = format!("it has {length} bytes, and {FILE_BYTES_MAX} are the most");
            return Err(TemplateError { file: path, line: None, wrong });
        }
        found.push((*name, fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?));
    }
    Ok(found)
}

/// One mail of each kind, about nobody.
fn samples() -> [Mail; 3] {
    let issued = IssuedCode { login: LoginId(Uuid::nil()), code: CodeId(Uuid::nil()), user: None };
    [
        Mail::LoginCode { digits: Digits::new("123456"), issued },
        Mail::SignupRefused { issued },
        Mail::Invitation(Invitation {
            id: InvitationId(Uuid::nil()),
            workspace: "Engines".to_owned(),
            inviter: "Ada".to_owned(),
            role: Role::Member,
            expires_at: DateTime::UNIX_EPOCH + TimeDelta::days(7),
        }),
    ]
}

/// The error's own words, without the place, which stands before them.
fn explain(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// A text as one line that is what it looks like: line breaks and other control characters become
/// blanks, and characters that show nothing or turn the direction of writing are left out.
fn one_line(text: &str, characters_max: usize) -> String {
    let shown = text.chars().filter(|c| !is_invisible(*c));
    let spaced: String = shown.map(|c| if is_break(c) { ' ' } else { c }).collect();
    let words = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= characters_max {
        return words;
    }
    words.chars().take(characters_max - 1).chain(['…']).collect()
}

fn is_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Zero-width characters, marks of direction (UAX 9), and the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
