//! What may be said of a workspace.

use std::fmt;

const NAME_CHARACTERS_MAX: usize = 200;
const SLUG_CHARACTERS_MAX: usize = 64;
const DESCRIPTION_CHARACTERS_MAX: usize = 2000;
const CONTEXT_CHARACTERS_MAX: usize = 20_000;
const URL_CHARACTERS_MAX: usize = 2000;
/// Bytes of `settings` and of `repos`, as JSON.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
const PREFIX_CHARACTERS_MAX: usize = 10;
/// Characters of a name that make its default prefix.
const DEFAULT_PREFIX_CHARACTERS: usize = 4;

/// Slugs that clients have pages of their own under, or could be taken for the operator's.
const RESERVED: [&str; 44] = [
    "about",
    "account",
    "admin",
    "agents",
    "api",
    "app",
    "assets",
    "audit",
    "auth",
    "billing",
    "blog",
    "cli",
    "config",
    "console",
    "daemon",
    "dashboard",
    "docs",
    "download",
    "favicon",
    "health",
    "help",
    "home",
    "inbox",
    "internal",
    "invitations",
    "invite",
    "join",
    "login",
    "logout",
    "metrics",
    "new",
    "oauth",
    "onboarding",
    "public",
    "robots",
    "root",
    "settings",
    "signup",
    "static",
    "support",
    "system",
    "tally",
    "workspaces",
    "ws",
];

/// A workspace's name in URLs. It never changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Slug(String);

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slug")
    }
}

impl Slug {
    /// # Errors
    /// When the text is no slug, or one that is reserved.
    pub fn parse(text: &str) -> Result<Self, WorkspaceFieldError> {
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if text.len() > SLUG_CHARACTERS_MAX || !text.split('-').all(plain) {
            return Err(WorkspaceFieldError::Slug);
        }
        if RESERVED.contains(&text) {
            return Err(WorkspaceFieldError::SlugReserved);
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WorkspaceFieldError {
    #[error("name and slug are required")]
    NameOrSlugMissing,
    #[error("name is required")]
    NameMissing,
    #[error("name is longer than {NAME_CHARACTERS_MAX} characters")]
    NameTooLong,
    #[error(
        "slug must be lower-case letters and digits joined by single hyphens, such as my-team, and at most \
         {SLUG_CHARACTERS_MAX} characters"
    )]
    Slug,
    #[error("slug is reserved")]
    SlugReserved,
    #[error("issue_prefix must be 1 to {PREFIX_CHARACTERS_MAX} upper-case letters and digits")]
    IssuePrefix,
    #[error("description is longer than {DESCRIPTION_CHARACTERS_MAX} characters")]
    DescriptionTooLong,
    #[error("context is longer than {CONTEXT_CHARACTERS_MAX} characters")]
    ContextTooLong,
    #[error("settings must be a JSON object of at most {DOCUMENT_BYTES_MAX} bytes")]
    Settings,
    #[error("repos must be a JSON array of at most {DOCUMENT_BYTES_MAX} bytes")]
    Repos,
    #[error("avatar_url must be an http or https URL of at most {URL_CHARACTERS_MAX} characters")]
    AvatarUrl,
}

/// The fields that were sent; an empty text clears a field.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WorkspaceFields {
    pub name: Option<String>,
    pub description: Option<String>,
    pub context: Option<String>,
    /// JSON text.
    pub settings: Option<String>,
    /// JSON text.
    pub repos: Option<String>,
    pub issue_prefix: Option<String>,
    pub avatar_url: Option<String>,
}

impl fmt::Debug for WorkspaceFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkspaceFields")
    }
}

impl WorkspaceFields {
    /// The fields of a new workspace, its prefix made from its name if none was given.
    ///
    /// # Errors
    /// A missing name or slug, or the first field that is not valid, and what would be right.
    pub fn of_new(self, slug: Option<&str>) -> Result<(Slug, Self), WorkspaceFieldError> {
        let slug = slug.map(str::trim).filter(|slug| !slug.is_empty());
        let named = self.name.as_deref().is_some_and(|name| !name.trim().is_empty());
        let (Some(slug), true) = (slug, named) else { return Err(WorkspaceFieldError::NameOrSlugMissing) };
        let slug = Slug::parse(slug)?;
        let mut fields = self.validated()?;
        if fields.issue_prefix.is_none() {
            let from = |text: &str| -> String {
                let letters = text.chars().filter(char::is_ascii_alphanumeric);
                letters.take(DEFAULT_PREFIX_CHARACTERS).collect::<String>().to_ascii_uppercase()
            };
            let prefix = fields.name.as_deref().map(from).filter(|prefix| !prefix.is_empty());
            fields.issue_prefix = Some(prefix.unwrap_or_else(|| from(slug.as_str())));
        }
        Ok((slug, fields))
    }

    /// The same fields, texts of one line trimmed, if every one is valid.
    ///
    /// # Errors
    /// The first field that is not, and what would be right.
    pub fn validated(mut self) -> Result<Self, WorkspaceFieldError> {
        for text in [&mut self.name, &mut self.issue_prefix, &mut self.avatar_url].into_iter().flatten() {
            *text = text.trim().to_owned();
        }
        let longer = |text: &Option<String>, most: usize| {
            text.as_ref().is_some_and(|text| text.chars().count() > most)
        };
        if self.name.as_deref() == Some("") {
            return Err(WorkspaceFieldError::NameMissing);
        }
        if longer(&self.name, NAME_CHARACTERS_MAX) {
            return Err(WorkspaceFieldError::NameTooLong);
        }
        if longer(&self.description, DESCRIPTION_CHARACTERS_MAX) {
            return Err(WorkspaceFieldError::DescriptionTooLong);
        }
        if longer(&self.context, CONTEXT_CHARACTERS_MAX) {
            return Err(WorkspaceFieldError::ContextTooLong);
        }
        if self.issue_prefix.as_deref().is_some_and(|prefix| !is_prefix(prefix)) {
            return Err(WorkspaceFieldError::IssuePrefix);
        }
        if self.settings.as_deref().is_some_and(|text| !is_document(text, '{')) {
            return Err(WorkspaceFieldError::Settings);
        }
        if self.repos.as_deref().is_some_and(|text| !is_document(text, '[')) {
            return Err(WorkspaceFieldError::Repos);
        }
        let url = |text: &str| text.is_empty() || text.starts_with("https://") || text.starts_with("http://");
        if longer(&self.avatar_url, URL_CHARACTERS_MAX)
            || self.avatar_url.as_deref().is_some_and(|text| !url(text))
        {
            return Err(WorkspaceFieldError::AvatarUrl);
        }
        Ok(self)
    }
}

fn is_prefix(text: &str) -> bool {
    (1..=PREFIX_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// What was read as JSON and written again begins with what it is.
fn is_document(text: &str, begins: char) -> bool {
    text.len() <= DOCUMENT_BYTES_MAX && text.starts_with(begins)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn named(name: &str) -> WorkspaceFields {
        WorkspaceFields { name: Some(name.to_owned()), ..WorkspaceFields::default() }
    }

    #[rstest]
    #[case("team")]
    #[case("my-team")]
    #[case("7-of-9")]
    fn a_slug_reads(#[case] text: &str) {
        assert_eq!(Slug::parse(text).unwrap().as_str(), text);
    }

    #[rstest]
    fn what_is_no_slug_is_refused(
        #[values("", "-", "a-", "-a", "a--b", "Team", "a b", "a_b", "é", "a/b")] text: &str,
    ) {
        assert_eq!(Slug::parse(text), Err(WorkspaceFieldError::Slug));
        assert_eq!(Slug::parse(&"a".repeat(65)), Err(WorkspaceFieldError::Slug));
    }

    #[test]
    fn reserved_slugs_are_refused() {
        assert!(RESERVED.is_sorted());
        for slug in RESERVED {
            assert_eq!(Slug::parse(slug), Err(WorkspaceFieldError::SlugReserved), "{slug}");
        }
    }

    #[rstest]
    #[case("Analytical Engine", "ANAL")]
    #[case("a b", "AB")]
    #[case("7 of 9", "7OF9")]
    #[case("日本語", "TEAM")]
    fn the_default_prefix_is_made_of_the_name(#[case] name: &str, #[case] prefix: &str) {
        let (_, fields) = named(name).of_new(Some("team-x")).unwrap();
        assert_eq!(fields.issue_prefix.as_deref(), Some(prefix));
    }

    #[rstest]
    #[case(None, Some("team"))]
    #[case(Some(" "), Some("team"))]
    #[case(Some("Team"), None)]
    #[case(Some("Team"), Some(" "))]
    fn a_new_workspace_needs_name_and_slug(#[case] name: Option<&str>, #[case] slug: Option<&str>) {
        let fields = WorkspaceFields { name: name.map(str::to_owned), ..WorkspaceFields::default() };
        assert_eq!(fields.of_new(slug), Err(WorkspaceFieldError::NameOrSlugMissing));
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let with = |change: fn(&mut WorkspaceFields)| {
            let mut fields = named("Team");
            change(&mut fields);
            fields.validated().unwrap_err()
        };
        assert_eq!(with(|f| f.name = Some(" ".into())), WorkspaceFieldError::NameMissing);
        assert_eq!(with(|f| f.name = Some("x".repeat(201))), WorkspaceFieldError::NameTooLong);
        assert_eq!(with(|f| f.description = Some("x".repeat(2001))), WorkspaceFieldError::DescriptionTooLong);
        assert_eq!(with(|f| f.context = Some("x".repeat(20_001))), WorkspaceFieldError::ContextTooLong);
        assert_eq!(with(|f| f.issue_prefix = Some("abc".into())), WorkspaceFieldError::IssuePrefix);
        assert_eq!(with(|f| f.issue_prefix = Some(String::new())), WorkspaceFieldError::IssuePrefix);
        assert_eq!(with(|f| f.issue_prefix = Some("A".repeat(11))), WorkspaceFieldError::IssuePrefix);
        assert_eq!(with(|f| f.settings = Some("[]".into())), WorkspaceFieldError::Settings);
        assert_eq!(
            with(|f| f.settings = Some(format!("{{{}}}", " ".repeat(65_536)))),
            WorkspaceFieldError::Settings
        );
        assert_eq!(with(|f| f.repos = Some("{}".into())), WorkspaceFieldError::Repos);
        assert_eq!(
            with(|f| f.avatar_url = Some("javascript:alert(1)".into())),
            WorkspaceFieldError::AvatarUrl
        );
    }
}
