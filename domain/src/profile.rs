//! What a person may say about themselves.

/// Languages the clients speak.
pub const LANGUAGES: [&str; 4] = ["en", "zh-Hans", "ko", "ja"];
/// Characters in a profile description.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 2000;
pub(crate) const NAME_CHARACTERS_MAX: usize = 200;
const URL_CHARACTERS_MAX: usize = 2000;

/// The fields of `PATCH /api/me` that were sent; an empty text clears a field.
#[derive(Clone, Default)]
pub struct ProfileChange {
    pub name: Option<String>,
    pub avatar_url: Option<String>,
    pub language: Option<String>,
    pub timezone: Option<String>,
    pub profile_description: Option<String>,
}

impl std::fmt::Debug for ProfileChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProfileChange")
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProfileError {
    #[error("name is required")]
    NameMissing,
    #[error("name is longer than {NAME_CHARACTERS_MAX} characters")]
    NameTooLong,
    #[error(
        "avatar_url must be an http or https URL, or a path that begins with a single /, of at most \
         {URL_CHARACTERS_MAX} characters"
    )]
    AvatarUrl,
    #[error("language must be one of en, zh-Hans, ko, ja")]
    Language,
    #[error("timezone must be an IANA time zone name such as Europe/Berlin")]
    Timezone,
    #[error("profile_description is longer than {DESCRIPTION_CHARACTERS_MAX} characters")]
    DescriptionTooLong,
}

impl ProfileChange {
    /// The same change with its texts trimmed where the field is one line, if every field is valid.
    ///
    /// # Errors
    /// The first field that is not, and what would be right.
    pub fn validated(mut self) -> Result<Self, ProfileError> {
        let lines = [&mut self.name, &mut self.avatar_url, &mut self.language, &mut self.timezone];
        for text in lines.into_iter().flatten() {
            *text = text.trim().to_owned();
        }
        let characters = |text: &str| text.chars().count();
        if let Some(name) = &self.name {
            if name.is_empty() {
                return Err(ProfileError::NameMissing);
            }
            if characters(name) > NAME_CHARACTERS_MAX {
                return Err(ProfileError::NameTooLong);
            }
        }
        if let Some(url) = self.avatar_url.as_deref().filter(|url| !url.is_empty()) {
            let web = url.starts_with("https://") || url.starts_with("http://");
            if !(web || is_path(url))
                || characters(url) > URL_CHARACTERS_MAX
                || url.chars().any(char::is_control)
            {
                return Err(ProfileError::AvatarUrl);
            }
        }
        if self.language.as_deref().is_some_and(|tag| !LANGUAGES.contains(&tag)) {
            return Err(ProfileError::Language);
        }
        if let Some(zone) = self.timezone.as_deref().filter(|zone| !zone.is_empty())
            && zone.parse::<chrono_tz::Tz>().is_err()
        {
            return Err(ProfileError::Timezone);
        }
        if self
            .profile_description
            .as_deref()
            .is_some_and(|text| characters(text) > DESCRIPTION_CHARACTERS_MAX)
        {
            return Err(ProfileError::DescriptionTooLong);
        }
        Ok(self)
    }
}

/// Whether a browser takes this for a path on the same host. What begins with `//` or `/\` names
/// another one (WHATWG URL, "relative slash state").
fn is_path(url: &str) -> bool {
    url.strip_prefix('/').is_some_and(|rest| !rest.starts_with(['/', '\\']))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn only(field: &str, value: &str) -> ProfileChange {
        let value = Some(value.to_owned());
        match field {
            "name" => ProfileChange { name: value, ..ProfileChange::default() },
            "avatar_url" => ProfileChange { avatar_url: value, ..ProfileChange::default() },
            "language" => ProfileChange { language: value, ..ProfileChange::default() },
            "timezone" => ProfileChange { timezone: value, ..ProfileChange::default() },
            _ => ProfileChange { profile_description: value, ..ProfileChange::default() },
        }
    }

    #[rstest]
    #[case("name", " Ada ")]
    #[case("avatar_url", "https://example.org/ada.png")]
    #[case("avatar_url", "http://example.org/ada.png")]
    #[case("avatar_url", "/uploads/ada.png")]
    #[case("avatar_url", "/uploads//ada.png")]
    #[case("avatar_url", "/")]
    #[case("avatar_url", "")]
    #[case("language", "zh-Hans")]
    #[case("timezone", "Europe/Berlin")]
    #[case("timezone", "")]
    #[case("description", "")]
    fn a_valid_field_passes(#[case] field: &str, #[case] value: &str) {
        assert!(only(field, value).validated().is_ok());
    }

    #[rstest]
    #[case("name", "  ", ProfileError::NameMissing)]
    #[case("name", &"n".repeat(201), ProfileError::NameTooLong)]
    #[case("avatar_url", "javascript:alert(1)", ProfileError::AvatarUrl)]
    #[case("avatar_url", "//example.org/ada.png", ProfileError::AvatarUrl)]
    #[case("avatar_url", "/\\example.org/ada.png", ProfileError::AvatarUrl)]
    #[case("avatar_url", "ada.png", ProfileError::AvatarUrl)]
    #[case("avatar_url", "/a\tb", ProfileError::AvatarUrl)]
    #[case("avatar_url", &format!("/{}", "a".repeat(2000)), ProfileError::AvatarUrl)]
    #[case("language", "de", ProfileError::Language)]
    #[case("timezone", "Mars/Olympus", ProfileError::Timezone)]
    #[case("description", &"d".repeat(2001), ProfileError::DescriptionTooLong)]
    fn an_invalid_field_is_named(#[case] field: &str, #[case] value: &str, #[case] error: ProfileError) {
        assert_eq!(only(field, value).validated().map(|_| ()), Err(error));
    }
}
