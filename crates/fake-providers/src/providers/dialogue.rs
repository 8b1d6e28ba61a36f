//! What was said in a chat, whichever provider's form it had.

/// What was said in a chat.
#[derive(Debug, Clone, Default)]
pub(super) struct Dialogue {
    users: Vec<String>,
    others: Vec<String>,
    answered: bool,
    is_prompt: bool,
}

impl Dialogue {
    /// The dialogue of an interface that takes one prompt, whatever was said before.
    pub(super) fn of(prompt: &str) -> Self {
        let mut dialogue = Self { is_prompt: true, ..Self::default() };
        dialogue.say("user", prompt.to_owned());
        dialogue
    }

    /// Adds a message; providers call the one who answers `assistant` or `model`.
    pub(super) fn say(&mut self, role: &str, text: String) {
        if role == "user" {
            self.users.push(text);
            return;
        }
        self.answered |= matches!(role, "assistant" | "model");
        self.others.push(text);
    }

    /// What the user said last.
    pub(super) fn last(&self) -> &str {
        self.users.last().map_or("", String::as_str)
    }

    /// The user's messages, the last one first.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        self.users.iter().rev().map(String::as_str)
    }

    /// All messages.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.users.iter().chain(&self.others).map(String::as_str)
    }

    /// Whether this text was not answered yet: the user spoke once, and nobody answered.
    ///
    /// A lone prompt has no such order. There an answer that is quoted outside the markers was given.
    pub(super) fn is_before(&self, answer: &str, without_markers: &str) -> bool {
        let is_quoted = self.is_prompt && !answer.is_empty() && without_markers.contains(answer);
        !self.answered && self.users.len() < 2 && !is_quoted
    }
}
